"""Shimmer3 (LogAndStream firmware) on the wire: commands to bytes, bytes to packets, no port in sight.

    packet   00 | u24 time, little endian, 32768 Hz, wraps every 512 s | channels in the inquiry's order | CRC-16
    CRC-16   polynomial 0x1021 from 0xB0CA, highest bit first, over all before it with a 00 added where that is odd;
             little endian. On request only, from firmware 0.13.7 on

Every command is answered by FF and, where it asks something, a reply; by FE where it is not taken. `[FF] 8A 71 xx`, a
change of the docking state, may stand between packets: it costs none. There is no count of packets: a step of time that
is not the rate's is a loss, and one back leads to packets of an earlier time, which are left out. Without CRC, what
tells a packet is its 00 and that step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgepain.firmware_bridge.fixed_frames import FixedFrameDecoder, Flags, Octets, Places, xor_of

CLOCK_HZ = 32_768
_WRAP = 1 << 24
_HEADER = 4
REFUSED = b"\xfe"
STOP = b"\x20"
START = b"\x07"
INQUIRY = b"\x01"
FIRMWARE_QUESTION = b"\x2e"
POWER_ON = b"\x5e\x01"
CRC_ON = b"\x8b\x02"
# Channel ids of an inquiry, 2 bytes each, and the bits that ask for them.
GSR, INT_A13, INT_A12 = 0x1C, 0x12, 0x11
SENSOR_BITS = {GSR: 0x000004, INT_A13: 0x000100, INT_A12: 0x000200}


def rate_command(divider: int) -> bytes:
    """Measure at 32768 / `divider` Hz."""
    return b"\x05" + divider.to_bytes(2, "little")


def sensors_command(channels: Sequence[int]) -> bytes:
    """Measure these channels."""
    return b"\x08" + sum(SENSOR_BITS[channel] for channel in channels).to_bytes(3, "little")


def range_command(gsr_range: int) -> bytes:
    """Resistor of the GSR amplifier: 0 to 3, or 4 for automatic."""
    return bytes([0x21, gsr_range])


@dataclass(frozen=True)
class Packets:
    """Packets without a gap between them. ticks: [n] int64, device time at 32768 Hz, unwrapped from the first one on.

    raw: [n, channels] uint16.
    """

    ticks: npt.NDArray[np.int64]
    raw: npt.NDArray[np.uint16]


class ShimmerDecoder(FixedFrameDecoder[Packets]):
    """Bytes in, in pieces of any size; blocks of sound packets out. Never raises.

    channels: how many, 2 bytes each. divider: ticks between two packets. crc: whether they carry one.
    """

    def __init__(self, channels: int, divider: int, crc: bool = True) -> None:
        self._channels = channels
        self._divider = divider
        self._crc = crc
        size = _HEADER + 2 * channels
        self._tables, self._constant = crc_tables(size)
        super().__init__(size + (2 if crc else 0))

    def restart(self) -> None:
        """Forget the line; time begins anew. Counters stay."""
        super().restart()
        self._ticks: int | None = None
        self._newest = 0

    def _sound(self, frames: Octets) -> Flags:
        begins: Flags = frames[:, 0] == 0
        if not self._crc:
            return begins
        sent = frames[:, -2] | frames[:, -1].astype(np.uint16) << 8
        checked: Flags = xor_of(self._tables, frames) ^ self._constant == sent
        return begins & checked

    def _places(self, frames: Octets) -> Places:
        time = frames[:, 1:4].astype(np.int64)
        places: Places = time[:, 0] | time[:, 1] << 8 | time[:, 2] << 16
        return places

    def _follows(self, steps: Places) -> Flags:
        # A tick more or less is the firmware's interrupt being late.
        late: Places = np.abs((steps & (_WRAP - 1)) - self._divider)
        return late <= max(self._divider // 8, 1)

    def _block(self, frames: Octets, places: Places, step: int | None) -> Packets | None:
        ticks = np.concatenate(([0], np.cumsum(np.diff(places) & (_WRAP - 1))))
        if self._ticks is None:
            ticks += places[0]
        else:
            # Half of the clock's turn ahead and more is behind.
            ahead = (int(places[0]) - self._newest + _WRAP // 2) % _WRAP - _WRAP // 2
            ticks += self._ticks + ahead
            old = int(np.searchsorted(ticks, self._ticks, side="right"))
            self.counters.out_of_order += old
            if old == len(ticks):
                return None
            frames, places, ticks = frames[old:], places[old:], ticks[old:]
            self.counters.lost += max(round((int(ticks[0]) - self._ticks) / self._divider) - 1, 0)
        self._ticks, self._newest = int(ticks[-1]), int(places[-1])
        data = frames[:, _HEADER : _HEADER + 2 * self._channels]
        return Packets(ticks, np.ascontiguousarray(data).view("<u2").astype(np.uint16))


def encode_packets(ticks: npt.NDArray[np.int64], raw: npt.NDArray[np.uint16], crc: bool = True) -> Octets:
    """[n, bytes]: packets as a device sends them, of times [n] and raw values [n, channels]."""
    time = np.stack([ticks & 0xFF, ticks >> 8 & 0xFF, ticks >> 16 & 0xFF], axis=1).astype(np.uint8)
    data = np.ascontiguousarray(raw.astype("<u2")).view(np.uint8).reshape(len(raw), 2 * raw.shape[1])
    packets = np.concatenate((np.zeros((len(raw), 1), np.uint8), time, data), axis=1)
    if not crc:
        return packets
    tables, constant = crc_tables(packets.shape[1])
    check = (xor_of(tables, packets) ^ constant).astype("<u2")
    return np.concatenate((packets, check.view(np.uint8).reshape(-1, 2)), axis=1)


def crc_tables(size: int) -> tuple[npt.NDArray[np.uint16], np.uint16]:
    """[size, 256]: what each byte at each place adds (by xor) to the CRC-16 of `size` bytes; what its start adds."""
    step: npt.NDArray[np.uint32] = np.arange(256, dtype=np.uint32) << np.uint32(8)
    for _ in range(8):
        step = (np.where(step & 0x8000, step << 1 ^ 0x1021, step << 1) & 0xFFFF).astype(np.uint32)

    def after_a_byte(register: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        moved: npt.NDArray[np.uint32] = (register << 8 & 0xFFFF) ^ step[register >> 8]
        return moved

    # The last byte is followed by one 00 where the length is odd.
    tables = np.empty((size, 256), np.uint32)
    tables[-1] = after_a_byte(step) if size % 2 else step
    for k in range(size - 2, -1, -1):
        tables[k] = after_a_byte(tables[k + 1])
    start = np.array([0xB0CA], np.uint32)
    for _ in range(size + size % 2):
        start = after_a_byte(start)
    return tables.astype(np.uint16), np.uint16(start[0])
