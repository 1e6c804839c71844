"""Shimmer3 packets: the check value bit by bit, any split, losses by time, and noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepain.firmware_bridge.fixed_frames import FixedFrameCounters
from edgepain.firmware_bridge.shimmer import GSR, INT_A13, Packets, ShimmerDecoder, encode_packets, sensors_command

DIVIDER = 256


def packets(count: int, channels: int = 2, first: int = 0, crc: bool = True) -> np.ndarray:
    raw = np.random.default_rng(first).integers(0, 2**16, (count, channels)).astype(np.uint16)
    return encode_packets((first + np.arange(count)) * DIVIDER, raw, crc)


def bit_by_bit_crc(data: bytes) -> int:
    crc = 0xB0CA
    for byte in data + b"\x00" * (len(data) % 2):
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def together(blocks: list[Packets]) -> list[tuple[int, tuple[int, ...]]]:
    return [(int(t), tuple(raw)) for block in blocks for t, raw in zip(block.ticks, block.raw.tolist(), strict=True)]


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_packets_have_the_published_layout(channels):
    raw = np.arange(100 * channels, dtype=np.uint16).reshape(100, channels) * 37
    for k, packet in enumerate(encode_packets((1 << 23) + np.arange(100) * DIVIDER, raw)):
        data = packet.tobytes()
        assert data[0] == 0
        assert int.from_bytes(data[1:4], "little") == (1 << 23) + k * DIVIDER
        assert [int.from_bytes(data[4 + 2 * c : 6 + 2 * c], "little") for c in range(channels)] == raw[k].tolist()
        assert int.from_bytes(data[-2:], "little") == bit_by_bit_crc(data[:-2])


def test_the_crc_pads_an_odd_length():
    from edgepain.firmware_bridge.shimmer import crc_tables, xor_of

    for size in (4, 5, 8, 9):
        data = np.random.default_rng(size).integers(0, 256, (1, size)).astype(np.uint8)
        tables, constant = crc_tables(size)
        assert int((xor_of(tables, data) ^ constant)[0]) == bit_by_bit_crc(data.tobytes())


@pytest.mark.parametrize("crc", [True, False])
def test_time_goes_on_through_its_wrap(crc):
    first = 2**24 // DIVIDER - 50
    decoder = ShimmerDecoder(2, DIVIDER, crc)
    ticks = np.concatenate([block.ticks for block in decoder.feed(packets(100, first=first, crc=crc).tobytes())])
    np.testing.assert_array_equal(ticks, (first + np.arange(100)) * DIVIDER)
    assert decoder.counters == FixedFrameCounters(frames=100)


def test_a_status_between_packets_costs_none_and_a_loss_shows_by_time():
    wire = packets(100)
    text = wire[:30].tobytes() + b"\xff\x8a\x71\x01" + wire[30:60].tobytes() + wire[77:].tobytes()
    decoder = ShimmerDecoder(2, DIVIDER)
    ticks = [tick for tick, _ in together(decoder.feed(text))]
    assert ticks == [k * DIVIDER for k in (*range(60), *range(77, 100))]
    assert decoder.counters == FixedFrameCounters(frames=83, lost=17, crc_errors=1, skipped_bytes=4)


@given(st.lists(st.tuples(st.integers(1, 30), st.binary(max_size=20)), max_size=6), st.booleans(), st.data())
def test_any_split_of_the_stream_gives_the_same(pieces, crc, data):
    wire, first = b"", 0
    for count, noise in pieces:
        wire += packets(count, 2, first, crc).tobytes() + noise
        first += count + len(noise) % 3
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=20)))
    whole, split = ShimmerDecoder(2, DIVIDER, crc), ShimmerDecoder(2, DIVIDER, crc)
    received = [block for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True) for block in split.feed(wire[a:b])]
    assert together(received) == together(whole.feed(wire))
    assert split.counters == whole.counters


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=6))
def test_garbage_between_packets_costs_none(noises):
    wire = b"".join(noise + packets(5, 2, 5 * k).tobytes() for k, noise in enumerate(noises))
    decoder = ShimmerDecoder(2, DIVIDER)
    ticks = [tick for tick, _ in together(decoder.feed(wire))]
    assert ticks == [k * DIVIDER for k in range(5 * len(noises))]
    assert decoder.counters.lost == 0


@settings(max_examples=200)
@given(st.integers(1, 3), st.booleans(), st.lists(st.binary(max_size=300), max_size=6))
def test_nothing_raises(channels, crc, pieces):
    decoder = ShimmerDecoder(channels, DIVIDER, crc)
    for piece in pieces:
        for block in decoder.feed(piece):
            assert len(block.ticks) == len(block.raw) > 0


def test_ten_million_bytes_of_noise_give_nothing():
    random = np.random.default_rng(1)
    decoder = ShimmerDecoder(2, DIVIDER)
    for _ in range(100):
        decoder.feed(random.bytes(100_000))
    assert decoder.counters.frames == 0


def test_sensors_are_asked_for_by_their_bits():
    assert sensors_command([GSR, INT_A13]) == bytes([0x08, 0x04, 0x01, 0x00])


@given(st.sampled_from([256, 32768]), st.integers(3, 250), st.data())
def test_packets_of_an_earlier_time_are_left_out_and_counted(divider, back, data):
    ticks = np.arange(700) * divider
    wire = encode_packets(ticks, np.zeros((700, 2), np.uint16))
    replayed = np.concatenate((wire[:400], wire[400 - back : 400], wire[400 - back :])).tobytes()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(replayed)), max_size=9)))
    decoder = ShimmerDecoder(2, divider)
    received = [
        block for a, b in zip([0, *cuts], [*cuts, len(replayed)], strict=True) for block in decoder.feed(replayed[a:b])
    ]
    assert [tick for tick, _ in together(received)] == ticks.tolist()
    assert decoder.counters == FixedFrameCounters(frames=700 + 2 * back, out_of_order=2 * back)
