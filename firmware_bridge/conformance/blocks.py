"""Bytes to blocks, sound or not: as `FrameDecoder`, with the reason where one is thrown away."""

from __future__ import annotations

import re
from dataclasses import dataclass
from zlib import crc32

from cobs import cobs

from edgepain.firmware_bridge.edgeframe import CRC, HEADER, MAX_BLOCK, MAX_ENCODED, MIN_BLOCK, VERSION, Frame, FrameType

_TYPES = {int(kind): kind for kind in FrameType}
_TEXT = re.compile(rb"[\x20-\x7e]{6,40}")


@dataclass(frozen=True, slots=True)
class Block:
    """What stood between two 00. frame: None where a rule is broken, and which one, and how."""

    raw: bytes
    frame: Frame | None = None
    rule: str = ""
    seen: str = ""


class BlockReader:
    """Bytes in, in pieces of any size; blocks out, in order. Never raises, and holds at most 257 bytes."""

    def __init__(self) -> None:
        self._pending = b""

    @property
    def pending(self) -> bytes:
        """What no 00 has closed yet; no more of it than shows that it is too long."""
        return self._pending

    def feed(self, data: bytes) -> list[Block]:
        """The blocks that `data` completes; 00 00 is idle line and completes none."""
        blocks = (self._pending + data).split(b"\x00")
        self._pending = blocks.pop()[: MAX_ENCODED + 1]
        return [read_block(block) for block in blocks if block]


def read_block(raw: bytes) -> Block:
    """One encoded block without its 00."""
    if len(raw) > MAX_ENCODED:
        return Block(raw, None, "framing", f"more than {MAX_ENCODED} bytes without a 00{_as_text(raw)}")
    try:
        block = bytes(cobs.decode(raw))
    except cobs.DecodeError as error:
        return Block(raw, None, "framing", f"not COBS: {error}{_as_text(raw)}")
    if not MIN_BLOCK <= len(block) <= MAX_BLOCK:
        seen = f"{len(block)} bytes inside; a frame has {MIN_BLOCK} to {MAX_BLOCK}{_as_text(raw)}"
        return Block(raw, None, "framing", seen)
    told, right = CRC.unpack_from(block, len(block) - CRC.size)[0], crc32(block[: -CRC.size])
    if told != right:
        return Block(raw, None, "crc", f"CRC {told:08x}, and {right:08x} is right{_as_text(raw)}")
    kind, stream, seq, t_us, flags, count = HEADER.unpack_from(block)
    if kind >> 4 != VERSION:
        return Block(raw, None, "version", f"version {kind >> 4}")
    if (kind & 0xF) not in _TYPES or kind & 0xF == FrameType.COMMAND:
        return Block(raw, None, "type", f"type {kind & 0xF}")
    return Block(raw, Frame(_TYPES[kind & 0xF], stream, seq, t_us, block[HEADER.size : -CRC.size], flags, count))


def _as_text(raw: bytes) -> str:
    """Mention of text on the line, the commonest reason for a block that is none."""
    found = _TEXT.search(raw)
    return f"; there is text in it: {found[0].decode('ascii')!r}" if found else ""
