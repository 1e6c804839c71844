"""What a line of text means: the sketches that people run on Arduino-style boards, and columns of one's own.

A sketch turns one line into a `Reading`, or into None where it is not a line of that sketch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Literal

import msgspec

from edgepain.errors import ConfigError
from edgepain.firmware_bridge.driver import DriverOptions
from edgepain.signal import Modality

SketchName = Literal[
    "columns",
    "pulsesensor_plotter",
    "pulsesensor_visualizer",
    "max3010x_value",
    "max3010x_bpm",
    "max3010x_rate",
    "max3010x_spo2",
    "grove_gsr",
    "emotibit",
]
SIGNAL_COLUMNS = {
    "eda_us": Modality.EDA,
    "ecg_mv": Modality.ECG,
    "bvp": Modality.BVP,
    "bvp_au": Modality.BVP,
}
# Ticks a second of a column of times.
TIME_COLUMNS = {"time_ms": 1e3, "time_us": 1e6}
# What a sound sensor may send, in the unit of the modality; far wider than what a person gives.
LIMITS = {Modality.EDA: (-10.0, 1000.0), Modality.ECG: (-1000.0, 1000.0), Modality.BVP: (-1e9, 1e9)}
MAX3010X_FULL_SCALE = 2**18 - 1
GROVE_FULL_SCALE = 1023
PULSESENSOR_RATE_HZ = 50.0
GROVE_RATE_HZ = 20.0
EMOTIBIT_RATES_HZ = {Modality.EDA: 15.0, Modality.BVP: 25.0}
_EMOTIBIT_LEDS = {"ir": b"PI", "red": b"PR", "green": b"PG"}
_NUMBER = re.compile(rb"[-+]?(?:\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})(?:[eE][-+]?\d{1,3})?")
_INTEGER = re.compile(rb"\d{1,9}")


class LinesOptions(DriverOptions, frozen=True):
    """sketch: which one runs on the board. columns, separator, scale: of `sketch=columns`, see `docs/devices.md`.

    rate_hz: lines with a sample a second; 0 for what the sketch or the times in its lines say. led: of a sketch
    that sends several. adc_max: full scale of the board's ADC. cal: of a Grove GSR, its number with nobody on it.
    """

    sketch: SketchName = "columns"
    columns: str = "time_ms,eda_us,bvp"
    separator: Literal["comma", "semicolon", "tab", "space"] = "comma"
    scale: str = ""
    rate_hz: Annotated[float, msgspec.Meta(ge=0, le=10_000)] = 0.0
    led: Literal["ir", "red", "green"] = "ir"
    adc_max: Annotated[int, msgspec.Meta(ge=1, le=2**24)] = 1023
    cal: Annotated[float, msgspec.Meta(ge=0, le=GROVE_FULL_SCALE)] = 0.0


@dataclass(frozen=True)
class Reading:
    """What one line says. values: of each modality, in its unit, NaN where out of range; none on a line of other facts.

    time_s: of the last value, on the device's clock; None where the line tells no time.
    """

    values: Mapping[Modality, tuple[float, ...]] = field(default_factory=dict)
    time_s: float | None = None
    out_of_range: int = 0
    lead_off: bool = False
    clipped: bool = False


@dataclass(frozen=True)
class Sketch:
    """rates_hz: of each modality; 0 where the times in the lines have to tell. wrap_s: of its clock; 0 for no clock.

    values_a_line: about the most of one modality.
    """

    rates_hz: Mapping[Modality, float]
    wrap_s: float
    read: Callable[[bytes], Reading | None]
    values_a_line: int = 1

    @property
    def tells_rate(self) -> bool:
        """Whether the rate is known without looking at times."""
        return all(self.rates_hz.values())


def open_sketch(options: LinesOptions) -> Sketch:
    """The sketch that `options` name. Raises ConfigError where they do not fit together."""
    if options.sketch == "columns":
        return _columns(options)
    if options.sketch == "emotibit":
        return Sketch(EMOTIBIT_RATES_HZ, 2**32 / 1e3, partial(_emotibit, _EMOTIBIT_LEDS[options.led]), 4)
    if options.sketch == "grove_gsr":
        if not options.cal:
            raise ConfigError(
                "device lines: sketch=grove_gsr needs cal=NUMBER, what the board sends while nobody wears the "
                "electrodes (turn its potentiometer until that is about 512)"
            )
        rate_hz = options.rate_hz or GROVE_RATE_HZ
        return Sketch({Modality.EDA: rate_hz}, 0.0, partial(_grove, options.cal))
    return _pulse_wave(options)


def grove_us(counts: float, cal: float) -> float:
    """EDA in µS of a Grove GSR: R = (1024 + 2x)·10 kΩ / (cal − x), of its maker's page; nobody on it is 0."""
    return max(100.0 * (cal - counts) / (1024.0 + 2.0 * counts), 0.0)


def _pulse_wave(options: LinesOptions) -> Sketch:
    pattern, full_scale, rate_hz = {
        "pulsesensor_plotter": (rb"\d{1,5},\d{1,6},(?P<bvp>\d{1,9})", options.adc_max, PULSESENSOR_RATE_HZ),
        "pulsesensor_visualizer": (rb"S(?P<bvp>\d{1,9})|[BQ]\d{1,9}", options.adc_max, PULSESENSOR_RATE_HZ),
        "max3010x_value": (rb"(?P<bvp>\d{1,9})", MAX3010X_FULL_SCALE, 0.0),
        "max3010x_bpm": (
            rb"IR=(?P<bvp>\d{1,9}), BPM=-?[\d.]{1,12}, Avg BPM=\d{1,9}(?P<off> No finger\?)?",
            MAX3010X_FULL_SCALE,
            0.0,
        ),
        "max3010x_rate": (
            rb"R\[(?P<red>\d{1,9})\] IR\[(?P<ir>\d{1,9})\] G\[(?P<green>\d{1,9})\] Hz\[[\d.]{1,12}\]",
            MAX3010X_FULL_SCALE,
            0.0,
        ),
        "max3010x_spo2": (rb"red=(?P<red>\d{1,9}), ir=(?P<ir>\d{1,9}), HR=-?\d{1,9}.*", MAX3010X_FULL_SCALE, 0.0),
    }[options.sketch]
    rate_hz = options.rate_hz or rate_hz
    if not rate_hz:
        raise ConfigError(
            f"device lines: sketch={options.sketch} sends as fast as it was told to: give rate_hz=NUMBER, its lines a "
            "second"
        )
    compiled = re.compile(pattern)
    group = "bvp" if "bvp" in compiled.groupindex else options.led
    if group not in compiled.groupindex:
        raise ConfigError(f"device lines: sketch={options.sketch} sends no led={options.led}; choose ir or red")
    return Sketch({Modality.BVP: rate_hz}, 0.0, partial(_counts, compiled, group, full_scale))


def _counts(pattern: re.Pattern[bytes], group: str, full_scale: int, line: bytes) -> Reading | None:
    found = pattern.fullmatch(line)
    if found is None:
        return None
    if found[group] is None:
        return Reading()
    counts = int(found[group])
    if counts > full_scale:
        return Reading({Modality.BVP: (float("nan"),)}, out_of_range=1)
    off = bool(found.groupdict().get("off"))
    return Reading({Modality.BVP: (float(counts),)}, lead_off=off, clipped=counts in (0, full_scale))


def _grove(cal: float, line: bytes) -> Reading | None:
    if not _INTEGER.fullmatch(line):
        return None
    counts = int(line)
    if counts > GROVE_FULL_SCALE:
        return Reading({Modality.EDA: (float("nan"),)}, out_of_range=1)
    clipped = counts in (0, GROVE_FULL_SCALE)
    return Reading({Modality.EDA: (grove_us(counts, cal),)}, lead_off=counts >= cal, clipped=clipped)


def _emotibit(led: bytes, line: bytes) -> Reading | None:
    """`ms,packet,n,TAG,version,reliability,d1,…,dn`; lines of other tags say nothing here, whatever is in them."""
    cells = line.split(b",")
    if len(cells) < 6 or not all(_INTEGER.fullmatch(cell) for cell in cells[:3]):
        return None
    modality = {b"EA": Modality.EDA, led: Modality.BVP}.get(cells[3])
    if modality is None:
        return Reading() if re.fullmatch(rb"[A-Z0-9%]{2}", cells[3]) else None
    texts = cells[6:]
    if not texts or len(texts) != int(cells[2]) or not all(_NUMBER.fullmatch(text) for text in texts):
        return None
    checked = [_within(float(text), modality) for text in texts]
    outside = sum(value != value for value in checked)
    return Reading({modality: tuple(checked)}, int(cells[0]) / 1e3, out_of_range=outside)


def _columns(options: LinesOptions) -> Sketch:
    names = [name.strip() for name in options.columns.split(",")]
    signals = {SIGNAL_COLUMNS[name]: name for name in names if name in SIGNAL_COLUMNS}
    times = [name for name in names if name in TIME_COLUMNS]
    strange = [name for name in names if name not in (*SIGNAL_COLUMNS, *TIME_COLUMNS, "-")]
    if strange or not signals or len(times) > 1 or len(signals) < sum(name in SIGNAL_COLUMNS for name in names):
        raise ConfigError(
            f"device lines: columns={options.columns}: expected, in the order of the line, any of "
            f"{', '.join(SIGNAL_COLUMNS)}, each signal once, at most one of {', '.join(TIME_COLUMNS)}, and - for "
            "what is not to be read"
        )
    if not times and not options.rate_hz:
        raise ConfigError(
            "device lines: without a column of times, time_ms or time_us, give rate_hz=NUMBER, the lines a second"
        )
    wanted = [
        (k, SIGNAL_COLUMNS[name], _scale(options, name)) for k, name in enumerate(names) if name in SIGNAL_COLUMNS
    ]
    clock = (names.index(times[0]), TIME_COLUMNS[times[0]]) if times else None
    split = {"comma": b",", "semicolon": b";", "tab": b"\t", "space": None}[options.separator]
    read = partial(_cells, split, len(names), wanted, clock)
    return Sketch(dict.fromkeys(signals, options.rate_hz), 2**32 / clock[1] if clock else 0.0, read)


def _scale(options: LinesOptions, name: str) -> float:
    """Factor of a column: `scale=eda_us:0.01,bvp:2`. Raises ConfigError."""
    factors = {}
    for part in filter(None, options.scale.split(",")):
        column, _, text = part.partition(":")
        sound = _NUMBER.fullmatch(text.encode()) and column in options.columns.split(",")
        if not sound or column not in SIGNAL_COLUMNS:
            raise ConfigError(f"device lines: scale={options.scale}: expected COLUMN:NUMBER, such as eda_us:0.01,bvp:2")
        factors[column] = float(text)
    return factors.get(name, 1.0)


def _cells(
    split: bytes | None,
    count: int,
    wanted: list[tuple[int, Modality, float]],
    clock: tuple[int, float] | None,
    line: bytes,
) -> Reading | None:
    cells = [cell.strip() for cell in line.split(split)]
    needed = [k for k, _, _ in wanted] + ([clock[0]] if clock else [])
    if len(cells) != count or not all(_NUMBER.fullmatch(cells[k]) for k in needed):
        return None
    values = {modality: (_within(float(cells[k]) * factor, modality),) for k, modality, factor in wanted}
    outside = sum(value != value for (value,) in values.values())
    time_s = float(cells[clock[0]]) / clock[1] if clock else None
    if time_s is not None and not 0 <= time_s < 2**53:
        return None
    return Reading(values, time_s, out_of_range=outside)


def _within(value: float, modality: Modality) -> float:
    low, high = LIMITS[modality]
    return value if low <= value <= high else float("nan")
