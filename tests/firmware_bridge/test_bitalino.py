"""BITalino on the wire: the published layout, any split, and what noise does."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepain.firmware_bridge.bitalino import (
    FRAME_BYTES,
    BitalinoDecoder,
    Block,
    pack,
    rate_command,
    start_command,
)
from edgepain.firmware_bridge.fixed_frames import FixedFrameCounters


def samples(count: int, channels: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    most = np.array([1024] * 4 + [64] * 2)[:channels]
    return random.integers(0, most, (count, channels)).astype(np.uint16)


def bit_by_bit_crc(frame: bytes) -> int:
    """As the maker's own program does it: every bit, with the CRC's own taken as 0."""
    crc = 0
    for byte in (*frame[:-1], frame[-1] & 0xF0):
        for bit in range(7, -1, -1):
            crc <<= 1
            if crc & 0x10:
                crc ^= 0x13
            crc ^= byte >> bit & 1
    return crc


def together(blocks: list[Block]) -> list[tuple[int, tuple[int, ...]]]:
    """Every frame's number and samples."""
    return [(block.first + k, tuple(values)) for block in blocks for k, values in enumerate(block.analog.tolist())]


@pytest.mark.parametrize("channels", range(1, 7))
def test_frames_have_the_published_layout(channels):
    values = samples(40, channels)
    wire = pack(values, first=3, digital=0b1001)
    size = FRAME_BYTES[channels - 1]
    assert len(wire) == 40 * size
    for k in range(40):
        frame = wire[k * size : (k + 1) * size]
        assert frame[-1] & 0xF == bit_by_bit_crc(frame)
        number = int.from_bytes(frame, "big")
        assert number >> 4 & 0xF == (3 + k) & 15
        assert number >> 12 & 0xF == 0b1001
        # From the end upwards: s1 in bits 8 to 11 of the rest and 2 to 7 of the next byte, and so on.
        places = [(number >> 8 & 0xF) << 6 | number >> 18 & 0x3F, (number >> 16 & 3) << 8 | number >> 24 & 0xFF]
        places += [(number >> 32 & 0xFF) << 2 | number >> 46 & 3, (number >> 40 & 0x3F) << 4 | number >> 52 & 0xF]
        places += [(number >> 48 & 0xF) << 2 | number >> 62 & 3, number >> 56 & 0x3F]
        assert places[:channels] == values[k].tolist()


def test_frames_of_the_table_by_hand():
    # A1 = 0x155, A2 = 0x2AA, I1 set, sequence 5: 10101010 01010110 10000101 0101.... from the first byte on.
    frame = pack(np.array([[0x155, 0x2AA]], np.uint16), first=5, digital=8)
    assert frame[:3] == bytes([0xAA, 0x56, 0x85])
    assert frame[3] >> 4 == 5


@pytest.mark.parametrize("channels", range(1, 7))
def test_a_clean_line_gives_every_frame(channels):
    values = samples(5000, channels)
    decoder = BitalinoDecoder(channels)
    blocks = decoder.feed(pack(values, digital=6))
    np.testing.assert_array_equal(np.concatenate([block.analog for block in blocks]), values)
    assert all((block.digital == 6).all() for block in blocks)
    assert decoder.counters == FixedFrameCounters(frames=5000)


PIECES = st.lists(
    st.tuples(st.integers(1, 40), st.sampled_from(["keep", "garbage", "flip", "drop byte", "repeat", "lose"])),
    max_size=8,
)


def damaged(channels: int, pieces: list[tuple[int, str]], noise: bytes) -> bytes:
    size, first, wire = FRAME_BYTES[channels - 1], 0, b""
    for count, fault in pieces:
        part = bytearray(pack(samples(count, channels, first), first))
        if fault == "flip":
            part[len(part) // 2] ^= 1 << count % 8
        elif fault == "drop byte":
            del part[len(part) // 2]
        elif fault == "repeat":
            part += part[-size:]
        elif fault == "lose":
            first += count
        first += count
        wire += bytes(part) + (noise if fault == "garbage" else b"")
    return wire


@given(st.integers(1, 6), PIECES, st.binary(max_size=60), st.data())
def test_any_split_of_the_stream_gives_the_same(channels, pieces, noise, data):
    wire = damaged(channels, pieces, noise)
    whole, split = BitalinoDecoder(channels), BitalinoDecoder(channels)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=30)))
    received: list[Block] = []
    for begin, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        received += split.feed(wire[begin:end])
    assert together(received) == together(whole.feed(wire))
    assert split.counters == whole.counters


@given(st.integers(1, 6), st.lists(st.binary(max_size=100), min_size=1, max_size=8))
def test_garbage_between_frames_costs_no_frame(channels, noises):
    # 9 frames each, so that a stretch of noise which happens to hold three frames in a row is all that could spoil it.
    decoder, sent = BitalinoDecoder(channels), []
    wire = b""
    for k, noise in enumerate(noises):
        values = samples(9, channels, k)
        sent += values.tolist()
        wire += noise + pack(values, 9 * k)
    received = [list(values) for _, values in together(decoder.feed(wire))]
    lost = len(sent) - len(received)
    # Noise can end like a frame that follows on, or lead into one: CRC4 and sequence let 1 byte place in 256 pass.
    assert abs(lost) <= 3 * len(noises)
    assert decoder.counters.frames == len(received)
    whole = sum(values in received for values in sent)
    assert whole >= len(sent) - 3 * len(noises)


def test_loss_is_counted_modulo_16_and_numbers_go_on():
    values = samples(100, 2)
    wire = pack(values)
    decoder = BitalinoDecoder(2)
    blocks = decoder.feed(wire[: 20 * 4] + wire[25 * 4 : 60 * 4] + wire[77 * 4 :])
    assert decoder.counters == FixedFrameCounters(frames=78, lost=5 + 17 - 16)
    numbers = [number for number, _ in together(blocks)]
    assert numbers == [*range(20), *range(25, 60), *range(61, 84)]


def test_a_flipped_bit_costs_one_frame_and_a_repeated_frame_none():
    values = samples(60, 3)
    wire = bytearray(pack(values))
    wire[20 * 6 + 2] ^= 0x10
    wire[40 * 6 : 40 * 6] = wire[39 * 6 : 40 * 6]
    decoder = BitalinoDecoder(3)
    numbers = [number for number, _ in together(decoder.feed(bytes(wire)))]
    assert numbers == [k for k in range(60) if k != 20]
    assert decoder.counters == FixedFrameCounters(frames=59, crc_errors=1, lost=1, repeated=1, skipped_bytes=6)


def test_ten_million_bytes_of_noise_give_next_to_nothing():
    random = np.random.default_rng(5)
    decoder = BitalinoDecoder(6)
    decoder.feed(random.bytes(1000))
    tracemalloc.start()
    for _ in range(100):
        decoder.feed(random.bytes(100_000))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Three frames in a row by chance: 2^-12 for the CRCs, 2^-8 for the sequence, at each place.
    assert decoder.counters.frames < 5 * 3.1 * 1e7 / 2**20
    assert most < 5e6


@settings(max_examples=300)
@given(st.integers(1, 6), st.lists(st.binary(max_size=400), max_size=6))
def test_nothing_raises(channels, pieces):
    decoder = BitalinoDecoder(channels)
    for piece in pieces:
        for block in decoder.feed(piece):
            assert len(block.analog) == len(block.digital) > 0
            assert block.analog[:, :4].max() < 1024


def test_commands_are_the_published_ones():
    assert start_command((2, 3)) == bytes([0b00011001])
    assert start_command((1, 2, 3, 4, 5, 6)) == b"\xfd"
    assert [rate_command(rate) for rate in (1, 10, 100, 1000)] == [b"\x03", b"\x43", b"\x83", b"\xc3"]
    with pytest.raises(ValueError, match="1 to 6 channels"):
        BitalinoDecoder(0)
