"""edgeframe v1 on the wire: frames to bytes, bytes to frames, no port in sight.

    wire     COBS( header | payload | crc ) 00        at most 256 bytes, no 00 inside
    header   10 bytes, little endian
             0      u8   version << 4 | type
             1      u8   stream (index into the streams of HELLO; 255: the device itself)
             2..3   u16  seq, one count a stream; a COMMAND's is its id, and its ACK repeats it
             4..7   u32  t_us, device clock at the first sample; wraps every 71.6 min
             8      u8   flags: 1 overrun, 2 lead off, 4 clipped, 8 range changed
             9      u8   n, samples in the payload
    payload  0 to 240 bytes
    crc      u32, zlib's CRC-32 over header and payload

Garbage, and what becomes of it:

    before   the tail of a frame that was under way on attach, boot text: ends at the next 00
             and counts as one malformed block or one CRC error
    inside   a flipped bit, lost or repeated bytes: CRC error, or malformed where COBS, version, type or
             length give it away. A false 00 cuts the frame into two such blocks; a lost 00 merges two
    after    00 00 is idle line and counts as nothing; a block without end is dropped as it grows
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from zlib import crc32

from cobs import cobs

VERSION = 1
MAX_PAYLOAD = 240
DEVICE_STREAM = 255
HEADER = struct.Struct("<BBHIBB")
CRC = struct.Struct("<I")
MIN_BLOCK = HEADER.size + CRC.size
MAX_BLOCK = MIN_BLOCK + MAX_PAYLOAD
# COBS adds one byte to anything up to 254 bytes, which is why the payload ends at 240.
MAX_ENCODED = MAX_BLOCK + 1


class FrameType(IntEnum):
    """What a frame carries."""

    HELLO = 0
    DATA = 1
    TIME = 2
    STATUS = 3
    COMMAND = 4
    ACK = 5


class Flags(IntFlag):
    """What the device says of the samples in a DATA frame."""

    NONE = 0
    OVERRUN = 1
    LEAD_OFF = 2
    CLIPPED = 4
    RANGE_CHANGED = 8


class Command(IntEnum):
    """First payload byte of a COMMAND."""

    SEND_HELLO = 1


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. seq: u16. t_us: u32 device microseconds. flags: `Flags` bits. count: samples in payload."""

    type: FrameType
    stream: int
    seq: int
    t_us: int
    payload: bytes = b""
    flags: int = 0
    count: int = 0


@dataclass(slots=True)
class DecoderCounters:
    """Totals of a decoder. frames: sound ones. crc_errors, malformed: blocks thrown away, by reason."""

    frames: int = 0
    crc_errors: int = 0
    malformed: int = 0


def encode(frame: Frame) -> bytes:
    """A frame as it goes over the wire, closing 00 included. `seq` and `t_us` wrap to their widths.

    Raises ValueError where the payload is longer than 240 bytes.
    """
    if len(frame.payload) > MAX_PAYLOAD:
        raise ValueError(f"an edgeframe payload holds at most {MAX_PAYLOAD} bytes, got {len(frame.payload)}")
    block = (
        HEADER.pack(
            VERSION << 4 | frame.type,
            frame.stream,
            frame.seq & 0xFFFF,
            frame.t_us & 0xFFFFFFFF,
            frame.flags,
            frame.count,
        )
        + frame.payload
    )
    return bytes(cobs.encode(block + CRC.pack(crc32(block)))) + b"\x00"


class FrameDecoder:
    """Bytes in, in pieces of any size; sound frames out, in order. Never raises; holds at most 256 bytes."""

    def __init__(self) -> None:
        self.counters = DecoderCounters()
        self._pending = b""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes."""
        blocks = (self._pending + data).split(b"\x00")
        # One byte more than any frame has: enough to remember that this block is too long to be one.
        self._pending = blocks.pop()[: MAX_ENCODED + 1]
        return [frame for block in blocks if block and (frame := self._decode(block)) is not None]

    def reset(self) -> None:
        """Forget a frame under way: the line was cut. Counters stay."""
        self._pending = b""

    def _decode(self, encoded: bytes) -> Frame | None:
        try:
            block: bytes = cobs.decode(encoded)
        except cobs.DecodeError:
            block = b""
        if not MIN_BLOCK <= len(block) <= MAX_BLOCK:
            self.counters.malformed += 1
            return None
        if CRC.unpack_from(block, len(block) - CRC.size)[0] != crc32(block[: -CRC.size]):
            self.counters.crc_errors += 1
            return None
        kind, stream, seq, t_us, flags, count = HEADER.unpack_from(block)
        if kind >> 4 != VERSION or (kind & 0xF) not in _TYPES:
            self.counters.malformed += 1
            return None
        self.counters.frames += 1
        payload = block[HEADER.size : -CRC.size]
        return Frame(_TYPES[kind & 0xF], stream, seq, t_us, payload, flags, count)


_TYPES = {int(kind): kind for kind in FrameType}
