"""Messages as bytes, for transports that give messages: recorded and replayed like any line.

    … half a frame 00 | COBS( message | CRC-32 of it, 4 bytes LE ) 00 | …

A message is MessagePack. Garbage before: up to the next 00 it is a frame that fails its check. Garbage inside: that
frame alone is lost. Garbage after: waits for the next 00. A frame longer than `MAX_FRAME` is dropped up to its end.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeAlias
from zlib import crc32

import msgspec
from cobs import cobs

MAX_FRAME = 2**20
# Values of a chunk; all types of LSL, little endian.
VALUE_TYPES = ("<f4", "<f8", "<i8", "<i4", "<i2", "|i1")
_CRC = struct.Struct("<I")


class Channel(msgspec.Struct, frozen=True, array_like=True):
    """One column of a stream, in the sender's words: label, kind of signal, unit. Each may be empty."""

    label: str = ""
    kind: str = ""
    unit: str = ""


class Stream(msgspec.Struct, frozen=True, array_like=True):
    """Channels that are sampled together. rate_hz: 0 where they are at no regular rate."""

    name: str
    kind: str
    rate_hz: float
    channels: tuple[Channel, ...]


class Described(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """What will come, first of all messages after the line was opened.

    source: another one after a restart of the sender. clock: whose clock the times are on.
    """

    device: str
    source: str
    clock: str
    streams: tuple[Stream, ...]


class Chunk(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Samples of one stream: times [n] float64 in seconds, values [n, channels] of `value_type`."""

    stream: int
    times_s: bytes
    values: bytes
    value_type: str


class Offset(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """What to add to the times of a stream for this machine's monotonic clock, as far as is known now."""

    stream: int
    seconds: float


Message: TypeAlias = Described | Chunk | Offset


def pack(message: Message) -> bytes:
    """A message as one frame."""
    body = msgspec.msgpack.encode(message)
    return bytes(cobs.encode(body + _CRC.pack(crc32(body)))) + b"\0"


class Unpacker:
    """Frames in, messages out; sans-IO. crc_errors, malformed: frames that were damaged, or sound and no message."""

    def __init__(self) -> None:
        self.crc_errors = self.malformed = 0
        self._rest = bytearray()
        self._skipping = False
        self._decoder = msgspec.msgpack.Decoder(Message)

    def restart(self) -> None:
        """The line was cut or opened: half a frame is lost."""
        self._rest.clear()
        self._skipping = False

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that `data` completes. Never raises, whatever the bytes."""
        *ended, rest = data.split(b"\0")
        for piece in ended:
            self._keep(piece)
            frame, skipped = bytes(self._rest), self._skipping
            self.restart()
            if frame and not skipped and (message := self._read(frame)) is not None:
                yield message
        self._keep(rest)

    def _keep(self, piece: bytes) -> None:
        if self._skipping:
            return
        if len(self._rest) + len(piece) > MAX_FRAME:
            self.malformed += 1
            self._rest.clear()
            self._skipping = True
        else:
            self._rest += piece

    def _read(self, frame: bytes) -> Message | None:
        try:
            body = bytes(cobs.decode(frame))
        except cobs.DecodeError:
            self.crc_errors += 1
            return None
        if len(body) < _CRC.size or _CRC.unpack(body[-_CRC.size :])[0] != crc32(body[: -_CRC.size]):
            self.crc_errors += 1
            return None
        try:
            message: Message = self._decoder.decode(body[: -_CRC.size])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self.malformed += 1
            return None
        return message
