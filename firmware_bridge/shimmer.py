"""Shimmer3 (LogAndStream firmware) on the wire: commands to bytes, bytes to packets, no port in sight.

    packet   00 | time, little endian, 32768 Hz | channels in the inquiry's order | CRC-16
    time     u24, which wraps every 512 s; u16, every 2 s, before LogAndStream 0.6 and BtStream 0.8
    channel  GSR, PPG u16 little endian; ExG status u8, then two of i24 or i16, big endian
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
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepain.firmware_bridge.fixed_frames import FixedFrameDecoder, Flags, Octets, Places, xor_of

CLOCK_HZ = 32_768
REFUSED = b"\xfe"
STOP = b"\x20"
START = b"\x07"
INQUIRY = b"\x01"
FIRMWARE_QUESTION = b"\x2e"
# Three bytes from the start of the daughter card's memory: which board it is, revision, special revision.
BOARD_QUESTION = b"\x66\x03\x00"
POWER_ON = b"\x5e\x01"
CRC_ON = b"\x8b\x02"
# Channel ids of an inquiry, and the bits that ask for them.
GSR, INT_A13, INT_A12 = 0x1C, 0x12, 0x11
EXG_24 = ((0x1D, 0x1E, 0x1F), (0x20, 0x21, 0x22))
EXG_16 = ((0x1D, 0x23, 0x24), (0x20, 0x25, 0x26))
SENSOR_BITS = {GSR: 0x000004, INT_A13: 0x000100, INT_A12: 0x000200}
SENSOR_BITS |= {channel: bit for chip, bit in zip(EXG_24, (0x10, 0x08), strict=True) for channel in chip[1:]}
SENSOR_BITS |= {channel: bit for chip, bit in zip(EXG_16, (0x100000, 0x080000), strict=True) for channel in chip[1:]}
EXG_STATUS = frozenset((0x1D, 0x20))
# Bytes of a channel; every other one has 2. Those of ExG are signed, big endian, except for the status.
_SIZES = dict.fromkeys(EXG_STATUS, 1) | dict.fromkeys((0x1E, 0x1F, 0x21, 0x22), 3)
_BIG_ENDIAN = frozenset((0x1E, 0x1F, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26))


def rate_command(divider: int) -> bytes:
    """Measure at 32768 / `divider` Hz."""
    return b"\x05" + divider.to_bytes(2, "little")


def sensors_command(channels: Sequence[int]) -> bytes:
    """Measure these channels."""
    bits = {SENSOR_BITS[channel] for channel in channels if channel in SENSOR_BITS}
    return b"\x08" + sum(bits).to_bytes(3, "little")


def range_command(gsr_range: int) -> bytes:
    """Resistor of the GSR amplifier: 0 to 3, or 4 for automatic."""
    return bytes([0x21, gsr_range])


def set_registers_command(chip: int, registers: bytes) -> bytes:
    """Write the registers of ExG chip 0 or 1, from the first one on."""
    return bytes([0x61, chip, 0, len(registers)]) + registers


def registers_question(chip: int) -> bytes:
    """Read the ten registers of ExG chip 0 or 1."""
    return bytes([0x63, chip, 0, 10])


def time_bytes_of(firmware_id: int, major: int, minor: int) -> int:
    """Bytes of a packet's time, by the firmware: BtStream is 1, LogAndStream 3."""
    first = {1: (0, 8), 3: (0, 6)}.get(firmware_id, (0, 0))
    return 3 if (major, minor) >= first else 2


@dataclass(frozen=True)
class Packets:
    """Packets without a gap between them. ticks: [n] int64, device time at 32768 Hz, unwrapped from the first one on.

    raw: [n, channels] int32.
    """

    ticks: npt.NDArray[np.int64]
    raw: npt.NDArray[np.int32]


class ShimmerDecoder(FixedFrameDecoder[Packets]):
    """Bytes in, in pieces of any size; blocks of sound packets out. Never raises.

    channels: their ids, or how many of 2 bytes, little endian. divider: ticks between two packets. crc: whether they
    carry one. time_bytes: 3, or 2, whose losses of 2 s and more are counted without whole turns of 2 s.
    """

    def __init__(self, channels: Sequence[int] | int, divider: int, crc: bool = True, time_bytes: int = 3) -> None:
        self._channels = [GSR] * channels if isinstance(channels, int) else list(channels)
        self._divider = divider
        self._crc = crc
        self._wrap = 1 << 8 * time_bytes
        self._header = 1 + time_bytes
        size = self._header + sum(_size(channel) for channel in self._channels)
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
        places = frames[:, 1].astype(np.int64)
        for k in range(2, self._header):
            places |= frames[:, k].astype(np.int64) << 8 * (k - 1)
        return places

    def _follows(self, steps: Places) -> Flags:
        # A tick more or less is the firmware's interrupt being late.
        late: Places = np.abs((steps & (self._wrap - 1)) - self._divider)
        return late <= max(self._divider // 8, 1)

    def _block(self, frames: Octets, places: Places, step: int | None) -> Packets | None:
        ticks = np.concatenate(([0], np.cumsum(np.diff(places) & (self._wrap - 1))))
        if self._ticks is None:
            ticks += places[0]
        else:
            # Half of the clock's turn ahead and more is behind; a turn of 2 s is too short to tell.
            behind = self._wrap // 2 if self._header > 3 else 0
            ahead = (int(places[0]) - self._newest + behind) % self._wrap - behind
            ticks += self._ticks + ahead
            old = int(np.searchsorted(ticks, self._ticks, side="right"))
            self.counters.out_of_order += old
            if old == len(ticks):
                return None
            frames, places, ticks = frames[old:], places[old:], ticks[old:]
            self.counters.lost += max(round((int(ticks[0]) - self._ticks) / self._divider) - 1, 0)
        self._ticks, self._newest = int(ticks[-1]), int(places[-1])
        return Packets(ticks, _unpack(frames[:, self._header :], self._channels))


def encode_packets(
    ticks: npt.NDArray[np.int64],
    raw: npt.NDArray[np.integer[Any]],
    crc: bool = True,
    channels: Sequence[int] | None = None,
    time_bytes: int = 3,
) -> Octets:
    """[n, bytes]: packets as a device sends them, of times [n] and raw values [n, channels]; by default of 2 bytes."""
    columns = [np.zeros(len(raw), np.uint8), *(ticks >> 8 * k & 0xFF for k in range(time_bytes))]
    for place, channel in enumerate(channels or [GSR] * raw.shape[1]):
        size, values = _size(channel), raw[:, place].astype(np.int64)
        shifts = [8 * k for k in range(size)]
        columns += [values >> shift & 0xFF for shift in (reversed(shifts) if channel in _BIG_ENDIAN else shifts)]
    packets: Octets = np.stack(columns, axis=1).astype(np.uint8)
    if not crc:
        return packets
    tables, constant = crc_tables(packets.shape[1])
    check = (xor_of(tables, packets) ^ constant).astype("<u2")
    return np.concatenate((packets, check.view(np.uint8).reshape(-1, 2)), axis=1)


def _size(channel: int) -> int:
    return _SIZES.get(channel, 2)


def _unpack(data: Octets, channels: Sequence[int]) -> npt.NDArray[np.int32]:
    """[n, channels]: the values of packets without their head [n, bytes]."""
    values = np.empty((len(data), len(channels)), np.int32)
    at = 0
    for place, channel in enumerate(channels):
        size = _size(channel)
        octets = data[:, at : at + size].T if channel in _BIG_ENDIAN else data[:, at : at + size].T[::-1]
        value = octets[0].astype(np.int8).astype(np.int32) if channel in _BIG_ENDIAN else octets[0].astype(np.int32)
        for octet in octets[1:]:
            value = value << 8 | octet
        values[:, place] = value
        at += size
    return values


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
