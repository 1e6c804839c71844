"""A simulated Shimmer3, GSR+ or ECG, without a line: obeys the commands of the real one and plays a recording."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edgepain.errors import ConfigError
from edgepain.firmware_bridge.shimmer import (
    CLOCK_HZ,
    EXG_16,
    EXG_24,
    EXG_STATUS,
    GSR,
    INT_A12,
    INT_A13,
    SENSOR_BITS,
    encode_packets,
)
from edgepain.firmware_bridge.shimmer_units import ShimmerOptions, ecg_step_mv
from edgepain.signal import Modality, Recording, Signal

_ACK, _NACK = b"\xff", b"\xfe"
_HARDWARE = b"\x25\x03"
# LogAndStream is 3; 0.16.9, and 0.5.4 whose time has 16 bits and which knows no CRC.
_FIRMWARE = b"\x2f" + bytes([3, 0, 0, 0, 16, 9])
_OLD_FIRMWARE = b"\x2f" + bytes([3, 0, 0, 0, 5, 4])
_BOARDS = {"gsr": b"\x65\x03" + bytes([48, 3, 0]), "exg": b"\x65\x03" + bytes([47, 3, 0])}
# What the registers hold when it is switched on.
_REGISTERS = bytes([2, 0x80, 0x10, 0, 0, 0, 0, 0, 2, 1])
_STATUS = 0x80
_CHARGE = b"\x8a\x94\x80\x0b\x80"
_GSR_RANGES = 4
# Automatic range: the highest whose ADC stays below this.
_TOP = 3800
# Bytes that belong to a command; 61 tells its own.
_ARGUMENTS = {0x05: 2, 0x08: 3, 0x21: 1, 0x5E: 1, 0x63: 3, 0x66: 2, 0x8B: 1, 0xA3: 1}
_WITHOUT = frozenset(b"\x3f\x2e\x03\x01\x07\x20\x72\x95")


class SimulatedShimmer:
    """Commands in, answers out; packets of the recording while it measures.

    options: which unit it is (auto: GSR+ where the recording has EDA or BVP), the lead that the ECG of the recording is
    on, 16-bit time (old firmware) and calibration; rate, channels, range, gain and CRC are as the host commands.
    skew_ppm: how much faster than true time its clock runs. Raises ConfigError where the recording has nothing that the
    unit measures.
    """

    def __init__(self, recording: Recording, options: ShimmerOptions, skew_ppm: float = 0.0) -> None:
        self.name = "shimmer3"
        self.duration_s = recording.duration_s
        self._options = options
        there = recording.signals
        gsr = options.unit == "gsr" or (options.unit == "auto" and bool({Modality.EDA, Modality.BVP} & there.keys()))
        self._unit = "gsr" if gsr else "exg"
        measures = (Modality.EDA, Modality.BVP) if gsr else (Modality.ECG,)
        self._signals = {m: there[m] for m in measures if m in there}
        if not self._signals:
            wanted = " and ".join(map(str, measures))
            raise ConfigError(
                f"the recording has {', '.join(map(str, there))}, and a Shimmer3 of unit={self._unit} measures {wanted}"
            )
        self._old = options.time_bits == 16
        self._clock_rate = 1.0 + skew_ppm * 1e-6
        self.switch_off()

    @property
    def measuring(self) -> bool:
        """Whether packets are due."""
        return self._measuring

    def switch_off(self) -> None:
        """Forget what was asked for."""
        self._measuring, self._crc, self._pending = False, False, b""
        self._divider, self._gsr_range = 640, _GSR_RANGES
        self._channels: tuple[int, ...] = (GSR,)
        self._registers = [_REGISTERS, _REGISTERS]
        self._next = 0

    def obey(self, commands: bytes, at_s: float) -> bytes:
        """What it answers to bytes that come at `at_s` of play; FE to what it does not know."""
        self._pending += commands
        answer = b""
        while self._pending:
            command = self._pending[0]
            length = 1 + _ARGUMENTS.get(command, 0)
            if command == 0x61:
                length = 4 + self._pending[3] if len(self._pending) > 3 else 4
            if len(self._pending) < length:
                break
            arguments, self._pending = self._pending[1:length], self._pending[length:]
            answer += self._answer(command, arguments, at_s)
        return answer

    def frames(self, until_s: float) -> npt.NDArray[np.uint8]:
        """[n, bytes of a packet]: the packets that are due until `until_s` of play and were not given yet."""
        end = int(until_s * CLOCK_HZ * self._clock_rate) // self._divider
        ticks = np.arange(self._next, max(end, self._next)) * self._divider
        self._next = max(end, self._next)
        times_s = ticks / (CLOCK_HZ * self._clock_rate) % self.duration_s
        raw = np.zeros((ticks.size, len(self._channels)), np.int64)
        for column, channel in enumerate(self._channels):
            raw[:, column] = self._raw(channel, times_s)
        return encode_packets(ticks, raw, self._crc, self._channels, 2 if self._old else 3)

    def _answer(self, command: int, arguments: bytes, at_s: float) -> bytes:
        if command == 0x05:
            self._divider = max(int.from_bytes(arguments, "little"), 1)
        elif command == 0x08:
            self._channels = _chosen(int.from_bytes(arguments, "little"))
        elif command == 0x21:
            self._gsr_range = min(arguments[0], _GSR_RANGES)
        elif command == 0x8B:
            if arguments[0] == 1 or self._old:
                return _NACK
            self._crc = arguments[0] == 2
        elif command == 0x07:
            self._measuring = True
            self._next = -int(-at_s * CLOCK_HZ * self._clock_rate // self._divider)
        elif command == 0x20:
            self._measuring = False
        elif command == 0x61:
            chip, begin = arguments[0] & 1, arguments[1]
            before = self._registers[chip]
            self._registers[chip] = (before[:begin] + arguments[3:] + before[begin + arguments[2] :])[: len(before)]
        elif command not in _WITHOUT and command not in (0x5E, 0x63, 0x66, *([] if self._old else [0xA3])):
            return _NACK
        return _ACK + self._reply(command, arguments)

    def _reply(self, command: int, arguments: bytes) -> bytes:
        divider, ids = self._divider.to_bytes(2, "little"), bytes(self._channels)
        replies = {
            0x3F: _HARDWARE,
            0x2E: _OLD_FIRMWARE if self._old else _FIRMWARE,
            0x03: b"\x04" + divider,
            0x63: b"\x62\x0a" + self._registers[arguments[0] & 1 if arguments else 0],
            0x66: _BOARDS[self._unit],
            0x01: b"\x02" + divider + bytes(4) + bytes([len(ids), 1]) + ids,
            0x72: b"\x8a\x71" + bytes([0x10 * self._measuring]),
            0x95: _CHARGE,
        }
        return replies.get(command, b"")

    def _raw(self, channel: int, times_s: npt.NDArray[np.float64]) -> npt.NDArray[np.integer[Any]]:
        """What a channel gives at these times; 0 where nothing of the recording is on it."""
        nothing = np.zeros(times_s.size, np.int64)
        if channel in EXG_STATUS:
            return nothing + _STATUS
        modality = {GSR: Modality.EDA, INT_A12: Modality.BVP, INT_A13: Modality.BVP}.get(channel, Modality.ECG)
        signal = self._signals.get(modality)
        if signal is None:
            return nothing
        values = np.interp(times_s, signal.times_s, np.nan_to_num(signal.values))
        if modality is Modality.ECG:
            return self._ecg(channel, values)
        return self._gsr(values) if channel == GSR else _ppg(values, signal)

    def _ecg(self, channel: int, values_mv: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Counts on the lead's channel, 0 on the others."""
        o = msgspec.structs.replace(self._options, ecg_bits=24 if channel in (*EXG_24[0], *EXG_24[1]) else 16)
        if channel != o.ecg_channel:
            return np.zeros(values_mv.size, np.int64)
        gain = o.gain_of(self._registers[o.ecg_chip]) or 1
        most = 1 << o.ecg_bits - 1
        return np.clip(np.rint(values_mv / ecg_step_mv(gain, o)), -most, most - 1).astype(np.int64)

    def _gsr(self, values_us: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
        o = self._options
        resistors = np.array([o.rf0_kohm, o.rf1_kohm, o.rf2_kohm, o.rf3_kohm])
        counts = 0.5 * (1.0 + np.outer(values_us, resistors) / 1000.0) * 4095 / o.adc_v
        if self._gsr_range < _GSR_RANGES:
            ranges = np.full(values_us.size, self._gsr_range)
        else:
            ranges = np.maximum((counts < _TOP).sum(axis=1) - 1, 0)
        chosen = np.clip(np.rint(counts[np.arange(values_us.size), ranges]), 0, 4095)
        raw: npt.NDArray[np.uint16] = (ranges << 14 | chosen.astype(np.int64)).astype(np.uint16)
        return raw


def _chosen(bits: int) -> tuple[int, ...]:
    """Channels of a sensor mask. GSR is the last of the analog ones, as in LogAndStream; ExG comes after them.

    A board without any channel measures GSR.
    """
    analog = [channel for channel in (INT_A12, INT_A13, GSR) if bits & SENSOR_BITS[channel]]
    exg = [c for chip in (*EXG_24, *EXG_16) if bits & SENSOR_BITS[chip[1]] for c in chip]
    return tuple(analog + exg) or (GSR,)


def _ppg(values: npt.NDArray[np.float64], signal: Signal) -> npt.NDArray[np.uint16]:
    """A pulse wave without a unit, spread over the middle of the ADC's range."""
    there = signal.values[np.isfinite(signal.values)]
    low, high = (float(there.min()), float(there.max())) if there.size else (0.0, 0.0)
    share = 0.1 + 0.8 * (values - low) / ((high - low) or 1.0)
    return np.clip(np.rint(share * 4095), 0, 4095).astype(np.uint16)
