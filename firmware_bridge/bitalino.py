"""BITalino (r)evolution on the wire: commands to bytes, bytes to numbered frames, no port in sight.

A frame of 1…6 channels has 3, 4, 6, 7, 8, 8 bytes. Read from its end, whose byte is N−1:

    N−1  seq[3:0]  CRC4              N−5  s3[9:2]
    N−2  I1 I2 O1 O2  s1[9:6]        N−6  s3[1:0]  s4[9:4]
    N−3  s1[5:0]  s2[9:8]            N−7  s4[3:0]  s5[5:2]
    N−4  s2[7:0]                     N−8  s5[1:0]  s6[5:0]

s1…s6 are the ports that are on, in ascending order; s5 and s6 have 6 bits. CRC4 is x⁴+x+1 from 0, highest bit
first, over every bit but its own. There is neither a start byte nor a time.

A misaligned frame passes CRC4 6 to 17 times in 100. So the decoder locks on three frames in a row with right CRC
and sequence; from there it takes frames one by one, and whatever does not follow on (wrong CRC, a jump of the
sequence) makes it lock anew, a byte at a time:

    before   the rest of a frame, text: skipped up to the lock
    inside   a flipped bit costs its frame; a lost or added byte that frame and, at worst, the two around it
    after    up to two frames before the end of a damaged stretch wait for a third that proves them

Loss is known modulo 16: `lost` counts the least that fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Octets = npt.NDArray[np.uint8]

FRAME_BYTES = (3, 4, 6, 7, 8, 8)
LOCK_FRAMES = 3
SEQUENCES = 16
RATES_HZ = {1: 0x03, 10: 0x43, 100: 0x83, 1000: 0xC3}
STOP = b"\x00"
VERSION = b"\x07"
# Frames looked at in one go: small after a fault, so that a noisy line does not cost every look a long block.
_LEAST_BLOCK, _MOST_BLOCK = 32, 4096


def start_command(ports: tuple[int, ...]) -> bytes:
    """Measure on `ports` (1…6 for A1…A6)."""
    return bytes([sum(1 << (port - 1) for port in ports) << 2 | 1])


def rate_command(rate_hz: int) -> bytes:
    """Measure at 1, 10, 100 or 1000 Hz; while idle only. Raises KeyError for others."""
    return bytes([RATES_HZ[rate_hz]])


@dataclass(frozen=True)
class Block:
    """Frames without a gap between them. first: number of the first one, counting those known to be lost.

    analog: [frames, channels] uint16, in the order of the ports; channels 5 and 6 have 6 bits. digital: [frames]
    uint8, I1 I2 O1 O2 from bit 3 down.
    """

    first: int
    analog: npt.NDArray[np.uint16]
    digital: Octets


@dataclass(slots=True)
class BitalinoCounters:
    """Totals of a decoder. frames: sound ones. lost: at least so many, by sequence; damaged ones are among them.

    crc_errors: stretches of a frame's length, after the first lock, that held no frame. repeated: frames that came
    twice. skipped_bytes: bytes in no frame, those before the first lock included.
    """

    frames: int = 0
    crc_errors: int = 0
    lost: int = 0
    repeated: int = 0
    skipped_bytes: int = 0


class BitalinoDecoder:
    """Bytes in, in pieces of any size; blocks of sound frames out. Never raises; holds less than three frames.

    Raises ValueError where `channels` is not 1 to 6.
    """

    def __init__(self, channels: int) -> None:
        if not 1 <= channels <= len(FRAME_BYTES):
            raise ValueError(f"a BITalino has 1 to 6 channels, got {channels}")
        self.counters = BitalinoCounters()
        self._channels = channels
        self._size = FRAME_BYTES[channels - 1]
        self._tables = crc_tables(self._size)
        self._pending: Octets
        self._last: Octets | None
        self._next: int
        self._locked: bool
        self._skipped: int
        self.restart()

    def feed(self, data: bytes) -> list[Block]:
        """The frames that `data` completes."""
        buffer = np.concatenate((self._pending, np.frombuffer(data, np.uint8)))
        blocks: list[Block] = []
        at, count = 0, _LEAST_BLOCK
        while True:
            if not self._locked:
                skipped, sequence = self._find(buffer[at:], count)
                self._skip(skipped)
                at += skipped
                if sequence is None:
                    if buffer.size - at < LOCK_FRAMES * self._size:
                        break
                    count = min(2 * count, _MOST_BLOCK)
                    continue
                self._lock(sequence)
                count = _LEAST_BLOCK
            there = min((buffer.size - at) // self._size, count)
            if not there:
                break
            taken = self._take(buffer[at : at + there * self._size].reshape(there, self._size), blocks)
            at += taken * self._size
            count = min(2 * count, _MOST_BLOCK)
        self._pending = buffer[at:].copy()
        return blocks

    def restart(self) -> None:
        """Forget the line: the device was started anew. Counters stay."""
        self._pending = np.empty(0, np.uint8)
        self._last, self._next = None, 0
        self._locked, self._skipped = False, 0

    def _find(self, buffer: Octets, count: int) -> tuple[int, int | None]:
        """Where three frames in a row begin and the first one's sequence; else how much holds none, and None.

        Looks at the beginnings within the first `count` frames' length of `buffer`.
        """
        size = self._size
        offsets = min(buffer.size - LOCK_FRAMES * size + 1, count * size)
        if offsets <= 0:
            return 0, None
        span = buffer[: offsets + LOCK_FRAMES * size - 1]
        sound = self._residue(np.lib.stride_tricks.sliding_window_view(span, size)) == 0
        sequence = span[size - 1 :] >> 4
        fits = sound[:offsets].copy()
        for k in range(1, LOCK_FRAMES):
            fits &= sound[k * size :][:offsets]
            fits &= (sequence[k * size :][:offsets] - sequence[:offsets]) & 15 == k
        first = int(fits.argmax())
        return (first, int(sequence[first])) if fits[first] else (offsets, None)

    def _lock(self, sequence: int) -> None:
        lost = (sequence - self._next) % SEQUENCES
        if self._last is not None:
            self.counters.lost += lost
        # Numbers agree with the sequence modulo 16, from the first frame on.
        self._next += lost
        self._skipped = 0
        self._locked = True

    def _skip(self, count: int) -> None:
        self.counters.skipped_bytes += count
        if self._last is not None:
            before = -(-self._skipped // self._size)
            self._skipped += count
            self.counters.crc_errors += -(-self._skipped // self._size) - before

    def _take(self, frames: Octets, blocks: list[Block]) -> int:
        """Take the frames [n, size] that follow on; how many were used up. The first that does not loses the lock."""
        sequence = frames[:, -1] >> 4
        expected = (self._next + np.arange(len(frames))) & 15
        good = (self._residue(frames) == 0) & (sequence == expected)
        count = int(good.argmin()) if not good.all() else len(frames)
        if count:
            blocks.append(self._block(frames[:count]))
            self._last = frames[count - 1].copy()
            self._next += count
            self.counters.frames += count
        if count == len(frames):
            return count
        if self._last is not None and np.array_equal(frames[count], self._last):
            self.counters.repeated += 1
            return count + 1
        self._locked = False
        return count

    def _residue(self, frames: Octets) -> Octets:
        """CRC4 of [n, size] frames, that of sound ones being 0."""
        residue: Octets = self._tables[0][frames[:, 0]]
        for k in range(1, self._size):
            residue ^= self._tables[k][frames[:, k]]
        return residue

    def _block(self, frames: Octets) -> Block:
        return Block(self._next, unpack(frames, self._channels), (frames[:, -2] >> 4).astype(np.uint8))


def unpack(frames: Octets, channels: int) -> npt.NDArray[np.uint16]:
    """Samples [n, channels] of frames [n, size]."""
    b = [frames[:, -1 - k].astype(np.uint16) for k in range(frames.shape[1])]
    values = np.empty((len(frames), channels), np.uint16)
    values[:, 0] = (b[1] & 0x0F) << 6 | b[2] >> 2
    if channels > 1:
        values[:, 1] = (b[2] & 0x03) << 8 | b[3]
    if channels > 2:
        values[:, 2] = b[4] << 2 | b[5] >> 6
    if channels > 3:
        values[:, 3] = (b[5] & 0x3F) << 4 | b[6] >> 4
    if channels > 4:
        values[:, 4] = (b[6] & 0x0F) << 2 | b[7] >> 6
    if channels > 5:
        values[:, 5] = b[7] & 0x3F
    return values


def pack(samples: npt.NDArray[np.uint16], first: int = 0, digital: int = 0) -> bytes:
    """Frames of samples [n, channels] with sequence numbers from `first` on, as a device sends them."""
    count, channels = samples.shape
    s = np.zeros((6, count), np.uint16)
    s[:channels] = samples.T
    b = np.empty((8, count), np.uint16)
    b[0] = ((first + np.arange(count)) & 15) << 4
    b[1] = digital << 4 | s[0] >> 6
    b[2] = (s[0] & 0x3F) << 2 | s[1] >> 8
    b[3] = s[1] & 0xFF
    b[4] = s[2] >> 2
    b[5] = (s[2] & 0x03) << 6 | s[3] >> 4
    b[6] = (s[3] & 0x0F) << 4 | s[4] >> 2
    b[7] = (s[4] & 0x03) << 6 | s[5]
    frames = b[FRAME_BYTES[channels - 1] - 1 :: -1].T.astype(np.uint8)
    tables = crc_tables(frames.shape[1])
    frames[:, -1] |= np.bitwise_xor.reduce([table[frames[:, k]] for k, table in enumerate(tables)])
    return frames.tobytes()


def crc_tables(size: int) -> npt.NDArray[np.uint8]:
    """[size, 256]: what each byte at each place of a frame adds (by xor) to its CRC4; the own nibble adds itself."""
    step = np.array([(n << 1 ^ (0x3 if n & 8 else 0)) & 0xF for n in range(16)], np.uint8)
    shift = step[step[step[step]]]
    values = np.arange(256)
    tables = np.empty((size, 256), np.uint8)
    tables[-1] = shift[values >> 4] ^ (values & 0xF)
    for k in range(size - 2, -1, -1):
        tables[k] = shift[shift[tables[k + 1]]]
    return tables
