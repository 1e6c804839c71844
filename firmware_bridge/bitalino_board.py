"""A simulated BITalino without a line: obeys the commands of the real one and plays a recording."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgepain.errors import ConfigError
from edgepain.firmware_bridge.bitalino import FRAME_BYTES, RATES_HZ, pack
from edgepain.firmware_bridge.bitalino_driver import BitalinoOptions
from edgepain.signal import Modality, Recording, Signal

FIRMWARE = b"BITalino_v5.2\n"
PORTS = 6
_RATE_OF = {command: rate_hz for rate_hz, command in RATES_HZ.items()}


class SimulatedBitalino:
    """The board without a line: commands in, answers out; frames of the recording while it measures.

    skew_ppm: how much faster than true time its clock runs. Raises ConfigError where no signal of the recording is
    on a port.
    """

    def __init__(self, recording: Recording, options: BitalinoOptions, skew_ppm: float = 0.0) -> None:
        self.name = "bitalino"
        self.duration_s = recording.duration_s
        self.rate_hz = 1000
        self.ports: tuple[int, ...] = ()
        self.sequence = 0
        self._clock_rate = 1.0 + skew_ppm * 1e-6
        self._sent = 0
        self._began_s = 0.0
        self._counts = {
            port: (signal.times_s, to_counts(signal, options))
            for modality, port in options.ports.items()
            if (signal := recording.signals.get(modality)) is not None
        }
        if not self._counts:
            there = ", ".join(map(str, recording.signals))
            raise ConfigError(f"the recording has {there} and none of it is on a port; give one with --device-option")

    @property
    def measuring(self) -> bool:
        """Whether frames are due."""
        return bool(self.ports)

    def obey(self, commands: bytes, at_s: float) -> bytes:
        """What it answers to bytes that come at `at_s` of play. What it does not know it ignores."""
        answer = b""
        for command in commands:
            if command == 0:
                self.ports = ()
            elif self.measuring:
                continue
            elif command == 7:
                answer += FIRMWARE
            elif command in _RATE_OF:
                self.rate_hz = _RATE_OF[command]
            elif command & 3 in (1, 2) and command >> 2:
                self.ports = tuple(port for port in range(1, PORTS + 1) if command >> (port + 1) & 1)
                self.sequence, self._sent, self._began_s = 0, 0, at_s
        return answer

    def switch_off(self) -> None:
        """Forget what was asked for."""
        self.ports, self.rate_hz = (), 1000

    def frames(self, until_s: float) -> npt.NDArray[np.uint8]:
        """[n, bytes of a frame]: the frames that are due until `until_s` of play and were not given yet."""
        size = FRAME_BYTES[len(self.ports) - 1]
        due = int((until_s - self._began_s) * self.rate_hz * self._clock_rate)
        numbers = np.arange(self._sent, due)
        if not numbers.size:
            return np.empty((0, size), np.uint8)
        times_s = (self._began_s + numbers / (self.rate_hz * self._clock_rate)) % self.duration_s
        columns = [self._port(port, times_s, 1023 if slot < 4 else 63) for slot, port in enumerate(self.ports)]
        wire = pack(np.stack(columns, axis=1), self.sequence)
        self._sent = due
        self.sequence = (self.sequence + numbers.size) & 15
        return np.frombuffer(wire, np.uint8).reshape(-1, size)

    def _port(self, port: int, times_s: npt.NDArray[np.float64], most: int) -> npt.NDArray[np.uint16]:
        if port not in self._counts:
            return np.zeros(times_s.size, np.uint16)
        counts = np.interp(times_s, *self._counts[port])
        return np.rint(counts * most / 1023).astype(np.uint16)


def to_counts(signal: Signal, options: BitalinoOptions) -> npt.NDArray[np.float64]:
    """What a 10-bit port would read of a signal: the inverse of `to_units`, cut to its range; missing samples are 0.

    BVP has no unit: its range is spread over the middle of the port's.
    """
    values = signal.values.astype(np.float64)
    if signal.modality is Modality.ECG:
        share = values * options.ecg_gain / (options.vcc_v * 1000.0) + 0.5
    elif signal.modality is Modality.EDA:
        share = values * options.eda_v_per_us / options.vcc_v
        if options.eda_sensor == "2013":
            share = 1.0 - 1.0 / np.maximum(values, 1.0)
    else:
        there = values[np.isfinite(values)]
        low, high = (there.min(), there.max()) if there.size else (0.0, 0.0)
        share = 0.1 + 0.8 * (values - low) / ((high - low) or 1.0)
    return np.clip(np.nan_to_num(share) * 1024, 0, 1023)
