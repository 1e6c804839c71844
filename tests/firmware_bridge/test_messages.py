"""Messages as bytes: what comes back, and what any damage does."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepain.firmware_bridge.messages import (
    MAX_FRAME,
    VALUE_TYPES,
    Channel,
    Chunk,
    Described,
    Message,
    Offset,
    Stream,
    Unpacker,
    pack,
)

TEXTS = st.text(max_size=20)
CHANNELS = st.lists(st.builds(Channel, TEXTS, TEXTS, TEXTS), max_size=4).map(tuple)
STREAMS = st.lists(st.builds(Stream, TEXTS, TEXTS, st.floats(allow_nan=False), CHANNELS), max_size=3).map(tuple)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Described, TEXTS, TEXTS, TEXTS, STREAMS),
    st.builds(Chunk, st.integers(0, 9), st.binary(max_size=40), st.binary(max_size=40), st.sampled_from(VALUE_TYPES)),
    st.builds(Offset, st.integers(0, 9), st.floats(allow_nan=False)),
)


@given(st.lists(MESSAGES, max_size=8), st.data())
def test_any_split_gives_the_same_messages(messages: list[Message], data: st.DataObject):
    wire = b"".join(map(pack, messages))
    unpacker, at, found = Unpacker(), 0, []
    while at < len(wire):
        size = data.draw(st.integers(1, 50))
        found += unpacker.feed(wire[at : at + size])
        at += size
    assert found == messages
    assert (unpacker.crc_errors, unpacker.malformed) == (0, 0)


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=200), max_size=10))
def test_garbage_gives_nothing_and_what_follows_is_read(pieces: list[bytes]):
    unpacker = Unpacker()
    found = [message for piece in pieces for message in unpacker.feed(piece)]
    assert found == []
    message = Offset(1, 2.0)
    assert list(unpacker.feed(b"\0" + pack(message))) == [message]


def test_each_damaged_byte_costs_its_message_alone():
    messages = [Offset(k, k / 7) for k in range(50)]
    frames = [pack(message) for message in messages]
    random.seed(3)
    for _ in range(300):
        hit = random.randrange(50)
        damaged = bytearray(frames[hit])
        damaged[random.randrange(len(damaged) - 1)] ^= 1 << random.randrange(8)
        unpacker = Unpacker()
        found = list(unpacker.feed(b"".join([*frames[:hit], bytes(damaged), *frames[hit + 1 :]])))
        assert found == messages[:hit] + messages[hit + 1 :]
        assert unpacker.crc_errors >= 1


@pytest.mark.parametrize("size", [MAX_FRAME + 1, 3 * MAX_FRAME])
def test_a_frame_without_an_end_is_dropped_and_not_kept(size: int):
    unpacker = Unpacker()
    for _ in range(size // 4096 + 1):
        assert list(unpacker.feed(b"\x01" * 4096)) == []
    assert unpacker.malformed == 1
    assert list(unpacker.feed(b"\0" + pack(Offset(0, 1.0)))) == [Offset(0, 1.0)]
    # What ended there is no second error.
    assert (unpacker.malformed, unpacker.crc_errors) == (1, 0)
