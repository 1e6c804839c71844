"""BITalino (r)evolution on the wire: commands to bytes, bytes to numbered frames, no port in sight.

A frame of 1…6 channels has 3, 4, 6, 7, 8, 8 bytes. Read from its end, whose byte is N−1:

    N−1  seq[3:0]  CRC4              N−5  s3[9:2]
    N−2  I1 I2 O1 O2  s1[9:6]        N−6  s3[1:0]  s4[9:4]
    N−3  s1[5:0]  s2[9:8]            N−7  s4[3:0]  s5[5:2]
    N−4  s2[7:0]                     N−8  s5[1:0]  s6[5:0]

s1…s6 are the ports that are on, in ascending order; s5 and s6 have 6 bits. CRC4 is x⁴+x+1 from 0, highest bit
first, over every bit but its own. There is neither a start byte nor a time.

A misaligned frame passes CRC4 6 to 17 times in 100: see `fixed_frames` for what is done about that.
Loss is known modulo 16: `lost` counts the least that fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgepain.firmware_bridge.fixed_frames import FixedFrameDecoder, Flags, Octets, Places, xor_of

FRAME_BYTES = (3, 4, 6, 7, 8, 8)
SEQUENCES = 16
RATES_HZ = {1: 0x03, 10: 0x43, 100: 0x83, 1000: 0xC3}
STOP = b"\x00"
VERSION = b"\x07"


def start_command(ports: tuple[int, ...]) -> bytes:
    """Measure on `ports` (1…6 for A1…A6)."""
    return bytes([sum(1 << (port - 1) for port in ports) << 2 | 1])


def rate_command(rate_hz: int) -> bytes:
    """Measure at 1, 10, 100 or 1000 Hz; while idle only. Raises KeyError for others."""
    return bytes([RATES_HZ[rate_hz]])


@dataclass(frozen=True)
class Block:
    """Frames without a gap between them. first: number of the first one, from 0, counting those known to be lost.

    analog: [frames, channels] uint16, in the order of the ports; channels 5 and 6 have 6 bits. digital: [frames]
    uint8, I1 I2 O1 O2 from bit 3 down.
    """

    first: int
    analog: npt.NDArray[np.uint16]
    digital: Octets


class BitalinoDecoder(FixedFrameDecoder[Block]):
    """Bytes in, in pieces of any size; blocks of sound frames out. Never raises. `lost` is 'at least'.

    Raises ValueError where `channels` is not 1 to 6.
    """

    def __init__(self, channels: int) -> None:
        if not 1 <= channels <= len(FRAME_BYTES):
            raise ValueError(f"a BITalino has 1 to 6 channels, got {channels}")
        self._channels = channels
        self._tables = crc_tables(FRAME_BYTES[channels - 1])
        super().__init__(FRAME_BYTES[channels - 1])

    def restart(self) -> None:
        """Forget the line, and number frames anew. Counters stay."""
        super().restart()
        self._next = 0

    def _sound(self, frames: Octets) -> Flags:
        return np.equal(xor_of(self._tables, frames), 0)

    def _places(self, frames: Octets) -> Places:
        return (frames[:, -1] >> 4).astype(np.int64)

    def _follows(self, steps: Places) -> Flags:
        follows: Flags = (steps & 15) == 1
        return follows

    def _block(self, frames: Octets, places: Places, step: int | None) -> Block:
        lost = 0 if step is None else (step - 1) % SEQUENCES
        self.counters.lost += lost
        first = self._next + lost
        self._next = first + len(frames)
        return Block(first, unpack(frames, self._channels), (frames[:, -2] >> 4).astype(np.uint8))


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
    frames[:, -1] |= xor_of(tables, frames)
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
