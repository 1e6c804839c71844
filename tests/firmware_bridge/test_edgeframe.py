"""edgeframe on the wire: the layout byte by byte, round trips, and ten million bytes of garbage."""

import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepain.firmware_bridge.edgeframe import MAX_ENCODED, Frame, FrameDecoder, FrameType, encode

FRAMES = st.builds(
    Frame,
    type=st.sampled_from(FrameType),
    stream=st.integers(0, 255),
    seq=st.integers(0, 0xFFFF),
    t_us=st.integers(0, 0xFFFFFFFF),
    payload=st.binary(max_size=240),
    flags=st.integers(0, 255),
    count=st.integers(0, 255),
)


def random_frames(count: int, seed: int) -> list[Frame]:
    random = np.random.default_rng(seed)
    return [
        Frame(
            FrameType.DATA,
            int(random.integers(3)),
            seq & 0xFFFF,
            int(random.integers(2**32)),
            random.integers(0, 4, int(random.integers(241)), np.uint8).tobytes(),
            int(random.integers(16)),
            int(random.integers(256)),
        )
        for seq in range(count)
    ]


def test_the_layout_is_the_documented_one():
    block = bytes.fromhex("11 02 3412 04030201 08 03") + b"abc"
    block += zlib.crc32(block).to_bytes(4, "little")
    assert 0 not in block
    frame = Frame(FrameType.DATA, 2, 0x1234, 0x01020304, b"abc", 8, 3)
    # Without a 00 inside, COBS is a length byte in front.
    assert encode(frame) == bytes([len(block) + 1]) + block + b"\x00"


@given(st.lists(FRAMES, max_size=20), st.data())
def test_any_split_of_the_stream_gives_the_same_frames(frames, data):
    wire = b"".join(map(encode, frames))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=30)))
    decoder = FrameDecoder()
    received = []
    for begin, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        received += decoder.feed(wire[begin:end])
    assert received == frames
    assert (decoder.counters.crc_errors, decoder.counters.malformed) == (0, 0)


@given(FRAMES)
def test_an_encoded_frame_has_its_only_zero_at_the_end(frame):
    wire = encode(frame)
    assert wire.index(0) == len(wire) - 1
    assert len(wire) <= MAX_ENCODED + 1


def test_a_payload_too_long_is_refused():
    with pytest.raises(ValueError, match="at most 240 bytes, got 241"):
        encode(Frame(FrameType.DATA, 0, 0, 0, bytes(241)))


@given(st.lists(st.one_of(st.binary(max_size=400), FRAMES.map(encode)), max_size=20))
@settings(max_examples=200)
def test_no_bytes_make_it_raise(pieces):
    decoder = FrameDecoder()
    for piece in pieces:
        decoder.feed(piece)


def test_foreign_versions_and_types_are_malformed():
    decoder = FrameDecoder()
    for first in (0x21, 0x01, 0x16, 0x1F):
        block = bytes([first]) + bytes(range(1, 10))
        block += zlib.crc32(block).to_bytes(4, "little")
        assert 0 not in block
        assert decoder.feed(bytes([len(block) + 1]) + block + b"\x00") == []
    assert decoder.counters.malformed == 4
    assert decoder.feed(b"\x00\x00\x00") == []
    assert decoder.counters.malformed == 4, "an idle line is no error"


def test_each_kind_of_damage_has_its_counter():
    wire = encode(Frame(FrameType.DATA, 1, 2, 3, b"some payload", 0, 3))
    decoder = FrameDecoder()
    damaged = wire.replace(b"payload", b"paYload")
    assert decoder.feed(damaged) == []
    assert (decoder.counters.crc_errors, decoder.counters.malformed) == (1, 0)
    assert decoder.feed(b"Hello from my sketch\r\n\x00") == []
    assert decoder.counters.malformed == 1
    assert len(decoder.feed(wire)) == decoder.counters.frames == 1


def test_junk_without_end_is_counted_once_and_not_kept():
    decoder = FrameDecoder()
    junk = b"\x55" * 65_536
    tracemalloc.start()
    for _ in range(100):
        decoder.feed(junk)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 10_000
    frame = Frame(FrameType.STATUS, 255, 1, 1)
    assert decoder.feed(b"\x00" + encode(frame)) == [frame]
    assert decoder.counters.malformed == 1


def flip(wire: np.ndarray, random: np.random.Generator) -> np.ndarray:
    wire = wire.copy()
    at = random.integers(wire.size, size=wire.size // 300)
    wire[at] ^= (1 << random.integers(8, size=at.size)).astype(np.uint8)
    return wire


def drop(wire: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return wire[random.random(wire.size) > 1 / 300]


def repeat(wire: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return np.repeat(wire, 1 + (random.random(wire.size) < 1 / 300))


def insert(wire: np.ndarray, random: np.random.Generator) -> np.ndarray:
    at = np.sort(random.integers(wire.size, size=wire.size // 300))
    return np.insert(wire, at, random.integers(256, size=at.size).astype(np.uint8))


def shuffle(wire: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Pieces of 7 to 300 bytes in a random order."""
    pieces = np.split(wire, np.cumsum(random.integers(7, 300, wire.size // 160))[:-1].clip(max=wire.size))
    random.shuffle(order := list(range(len(pieces))))
    return np.concatenate([pieces[i] for i in order])


@pytest.mark.parametrize("mutate", [flip, drop, repeat, insert, shuffle])
def test_two_million_damaged_bytes_yield_only_frames_that_were_sent(mutate):
    frames = random_frames(15_000, seed=7)
    wire = np.frombuffer(b"".join(map(encode, frames)), np.uint8)
    damaged = mutate(wire, np.random.default_rng(11)).tobytes()
    assert len(damaged) > 1_900_000
    decoder = FrameDecoder()
    received = [f for i in range(0, len(damaged), 65_536) for f in decoder.feed(damaged[i : i + 65_536])]
    assert set(received) <= set(frames)
    assert len(received) == decoder.counters.frames > 1000
    assert decoder.counters.crc_errors > 1000


def test_four_million_random_bytes_yield_nothing():
    random = np.random.default_rng(3)
    decoder = FrameDecoder()
    for high in (256, 4):  # all bytes, and bytes that are mostly frames' ends
        junk = random.integers(high, size=2_000_000).astype(np.uint8).tobytes()
        assert decoder.feed(junk) == []
    assert decoder.counters.malformed > 100_000
