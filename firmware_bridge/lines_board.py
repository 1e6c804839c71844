"""A simulated board that prints text lines, as one of the sketches that the driver reads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgepain.errors import ConfigError
from edgepain.firmware_bridge.sketches import (
    EMOTIBIT_RATES_HZ,
    GROVE_FULL_SCALE,
    MAX3010X_FULL_SCALE,
    SIGNAL_COLUMNS,
    TIME_COLUMNS,
    LinesOptions,
    open_sketch,
)
from edgepain.signal import Modality, Recording, Signal

_BANNER = b"Starting...\r\n"
_DEFAULT_RATE_HZ = 64.0
_SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "space": " "}
_WRAP = 2**32


class SimulatedLines:
    """Prints from when its line is opened, with some text first; listens to nobody.

    opened: whether it is. skew_ppm: how much faster than true time its clock runs.

    Raises ConfigError where the recording lacks a signal that the sketch prints.
    """

    def __init__(
        self, recording: Recording, options: LinesOptions, opened: Callable[[], bool], skew_ppm: float = 0.0
    ) -> None:
        self.name = "lines"
        self.duration_s = recording.duration_s
        self._options = options
        self._opened, self._begun = opened, False
        rates_hz = open_sketch(options).rates_hz
        missing = [str(modality) for modality in rates_hz if modality not in recording.signals]
        if missing:
            raise ConfigError(
                f"the recording has no {' and no '.join(missing)}, which sketch={options.sketch} prints; choose "
                "another recording, or other columns"
            )
        self._signals = {modality: recording.signals[modality] for modality in rates_hz}
        # Each kind of line has a rate of its own.
        self._rates_hz = (
            EMOTIBIT_RATES_HZ
            if options.sketch == "emotibit"
            else {next(iter(rates_hz)): next(iter(rates_hz.values())) or _DEFAULT_RATE_HZ}
        )
        self._clock_rate = 1.0 + skew_ppm * 1e-6
        self._next = dict.fromkeys(self._rates_hz, 0)
        self._powered_s: float | None = 0.0
        self._booting = True
        self._packet = 0

    @property
    def measuring(self) -> bool:
        """Whether it has begun: a board like this restarts when its port is opened."""
        self._begun = self._begun or self._opened()
        return self._begun

    def obey(self, commands: bytes, at_s: float) -> bytes:
        """Nothing, whatever is said."""
        return b""

    def switch_off(self) -> None:
        """Its clock begins anew."""
        self._powered_s, self._booting = None, True

    def frames(self, until_s: float) -> list[bytes]:
        """The lines that are due until `until_s` of play and were not printed yet."""
        if self._powered_s is None:
            self._powered_s = until_s
        due = []
        for modality, rate_hz in self._rates_hz.items():
            end = int(until_s * rate_hz * self._clock_rate)
            due += [(k / (rate_hz * self._clock_rate), modality) for k in range(self._next[modality], end)]
            self._next[modality] = max(end, self._next[modality])
        lines = [self._line(at_s, modality).encode() + b"\r\n" for at_s, modality in sorted(due)]
        if lines and self._booting:
            self._booting = False
            lines[0] = _BANNER + lines[0]
        return lines

    def _line(self, at_s: float, modality: Modality) -> str:
        if self._options.sketch == "emotibit":
            return self._emotibit(at_s, modality)
        if self._options.sketch == "columns":
            return self._columns(at_s)
        counts = self._counts(at_s)
        return {
            "pulsesensor_plotter": "72,833,{}",
            "pulsesensor_visualizer": "S{}",
            "max3010x_value": "{}",
            "max3010x_bpm": "IR={}, BPM=71.43, Avg BPM=70",
            "max3010x_rate": " R[{0}] IR[{0}] G[{0}] Hz[25.00]",
            "max3010x_spo2": "red={0}, ir={0}, HR=71, HRvalid=1, SPO2=98, SPO2Valid=1",
            "grove_gsr": "{}",
        }[self._options.sketch].format(counts)

    def _counts(self, at_s: float) -> int:
        if self._options.sketch == "grove_gsr":
            eda_us = self._value(Modality.EDA, at_s)
            counts = (100.0 * self._options.cal - 1024.0 * eda_us) / (100.0 + 2.0 * eda_us)
            return min(max(round(counts), 0), GROVE_FULL_SCALE)
        full_scale = MAX3010X_FULL_SCALE if self._options.sketch.startswith("max") else self._options.adc_max
        return round(_share(self._value(Modality.BVP, at_s), self._signals[Modality.BVP]) * full_scale)

    def _columns(self, at_s: float) -> str:
        cells = []
        for name in (column.strip() for column in self._options.columns.split(",")):
            if name in TIME_COLUMNS:
                cells.append(str(int(self._board_s(at_s) * TIME_COLUMNS[name]) % _WRAP))
            else:
                cells.append(f"{self._value(SIGNAL_COLUMNS[name], at_s):.6f}" if name in SIGNAL_COLUMNS else "x")
        return _SEPARATORS[self._options.separator].join(cells)

    def _emotibit(self, at_s: float, modality: Modality) -> str:
        self._packet = (self._packet + 1) & 0xFFFF
        tag = "EA" if modality is Modality.EDA else {"ir": "PI", "red": "PR", "green": "PG"}[self._options.led]
        time_ms = int(self._board_s(at_s) * 1e3) % _WRAP
        return f"{time_ms},{self._packet},1,{tag},1,100,{self._value(modality, at_s):.6f}"

    def _board_s(self, at_s: float) -> float:
        return max(at_s - (self._powered_s or 0.0), 0.0) * self._clock_rate

    def _value(self, modality: Modality, at_s: float) -> float:
        signal = self._signals[modality]
        return float(np.interp(at_s % self.duration_s, signal.times_s, np.nan_to_num(signal.values)))


def _share(value: float, signal: Signal) -> float:
    """A pulse wave without a unit, spread over the middle of the ADC's range."""
    there: npt.NDArray[np.float32] = signal.values[np.isfinite(signal.values)]
    low, high = (float(there.min()), float(there.max())) if there.size else (0.0, 0.0)
    return 0.1 + 0.8 * (value - low) / ((high - low) or 1.0)
