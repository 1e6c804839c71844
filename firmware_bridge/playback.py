"""Recordings to play: Empatica E4 folders, CSV files, and the one that comes with the package."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgepain.errors import ConfigError, DataError
from edgepain.signal import Event, Modality, Recording, Signal
from edgepain.signal.e4 import read_e4_session
from edgepain.signal.textfile import read_text

COLUMNS = {"eda_us": Modality.EDA, "ecg_mv": Modality.ECG, "bvp_au": Modality.BVP}
# A day of three signals at 1000 Hz would be more; a file to play live is not that long.
MAX_BYTES = 512 * 2**20
# Share of a sample period by which a time may be off its regular grid.
MAX_JITTER = 0.25


def read_e4(path: Path | str) -> Recording:
    """An Empatica E4 session folder (EDA.csv, BVP.csv, or .gz). Raises DataError."""
    return read_e4_session(path)


def read_csv(path: Path | str) -> Recording:
    """A CSV file, possibly gzipped: column `time_s`, any of `eda_us`, `ecg_mv`, `bvp_au`, maybe `label`.

    Each signal must be regular; its rate is deduced from the times at which it has values, and a column of a
    lower rate is blank in between. Samples missing from the grid become NaN. Each run of equal
    integers in `label` becomes one event; blank is unlabelled. The clock is that of `time_s`.

    Raises DataError where a column or a number is missing, or times are irregular.
    """
    path = Path(path)
    return _parse_csv(read_text(path, MAX_BYTES), str(path), path.name.split(".")[0])


def packaged_recording() -> Recording:
    """The synthetic recording that comes with the package. Raises DataError where it is not installed."""
    path = Path(str(resources.files("edgepain"))) / "demo" / "recording.csv.gz"
    if not path.is_file():
        raise DataError("edgepain/demo/recording.csv.gz is not installed; reinstall edgepain, or name a recording")
    return _parse_csv(read_text(path, MAX_BYTES), str(path), "demo")


def load(path: Path | str | None) -> Recording:
    """A folder as E4 session, a file as CSV, None as the packaged recording. Raises DataError."""
    if path is None:
        return packaged_recording()
    return read_e4(path) if Path(path).is_dir() else read_csv(path)


def part(recording: Recording, start_s: float = 0.0, duration_s: float | None = None) -> Recording:
    """The signals of [start_s, start_s + duration_s), moved so that `start_s` becomes 0; without events.

    Raises ConfigError where nothing lies there.
    """
    end_s = recording.duration_s if duration_s is None else start_s + duration_s
    signals = {}
    for modality, signal in recording.signals.items():
        begin, end = np.searchsorted(signal.times_s, (start_s, end_s))
        if end > begin:
            first_s = float(signal.times_s[begin]) - start_s
            values = signal.values[begin:end]
            signals[modality] = Signal(modality, values, signal.rate_hz, first_s, signal.unit)
    if not signals:
        raise ConfigError(
            f"nothing to play from {start_s:g} s to {end_s:g} s: the recording is {recording.duration_s:g} s long"
        )
    return Recording(recording.subject, recording.name, signals)


def _parse_csv(text: str, file: str, name: str) -> Recording:
    header, columns = _columns(text, file)
    present = [column for column in COLUMNS if column in header]
    if "time_s" not in header or not present:
        raise DataError(
            f"{file}: columns are {', '.join(header)[:80]!r}, expected time_s and any of {', '.join(COLUMNS)}"
        )
    times_s = _numbers(columns[header.index("time_s")], "time_s", file)
    if not np.isfinite(times_s).all():
        row = int(np.flatnonzero(~np.isfinite(times_s))[0])
        raise DataError(f"{file}: time_s has no number in line {row + 2}; every row needs a time")
    signals = {}
    for column in present:
        values = _numbers(columns[header.index(column)], column, file)
        there = np.isfinite(values)
        signals[COLUMNS[column]] = _signal(COLUMNS[column], times_s[there], values[there], f"{file}: {column}")
    events = _events(columns[header.index("label")], times_s, file) if "label" in header else ()
    return Recording(name, name, signals, events)


def _columns(text: str, file: str) -> tuple[list[str], list[tuple[str, ...]]]:
    try:
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
    except csv.Error as error:
        raise DataError(f"{file}: not a CSV file ({error}); separate columns by commas") from error
    if len(rows) < 3:
        raise DataError(f"{file}: {len(rows)} lines, expected a header and at least two rows of samples")
    uneven = next((i for i, row in enumerate(rows) if len(row) != len(rows[0])), None)
    if uneven is not None:
        raise DataError(
            f"{file}: row {uneven + 1} has {len(rows[uneven])} columns, the header has {len(rows[0])}; "
            "leave values that are not there blank"
        )
    return [cell.strip() for cell in rows[0]], list(zip(*rows[1:], strict=True))


def _numbers(cells: Sequence[str], column: str, file: str) -> npt.NDArray[np.float64]:
    values = np.empty(len(cells))
    for i, cell in enumerate(cells):
        try:
            values[i] = float(cell) if cell.strip() else np.nan
        except ValueError:
            raise DataError(f"{file}: {column} in row {i + 2} is not a number: {cell[:40]!r}") from None
    return values


def _signal(modality: Modality, times_s: npt.NDArray[np.float64], values: npt.NDArray[np.float64], what: str) -> Signal:
    if times_s.size < 2:
        raise DataError(f"{what} has {times_s.size} values; a rate needs at least two")
    steps_s = np.diff(times_s)
    if steps_s.min() <= 0:
        row = int(np.flatnonzero(steps_s <= 0)[0])
        raise DataError(f"{what}: time_s does not increase after {times_s[row]:g} s; sort the rows by time")
    # Each step is rounded by itself: times written with few decimals do not add up to a wrong count.
    index = np.concatenate(([0], np.cumsum(np.rint(steps_s / np.median(steps_s)).astype(np.int64))))
    if index[-1] > 10 * times_s.size:
        raise DataError(f"{what}: more gaps than samples; cut the recording at its gaps")
    rate_hz = float(index[-1] / (times_s[-1] - times_s[0])) if index[-1] else 0.0
    if rate_hz and _off_grid(times_s, index, float(round(rate_hz))) < MAX_JITTER:
        rate_hz = float(round(rate_hz))
    if not rate_hz or np.diff(index).min() < 1 or _off_grid(times_s, index, rate_hz) > MAX_JITTER:
        raise DataError(f"{what} is not regularly sampled; resample it to one rate first")
    grid = np.full(int(index[-1]) + 1, np.nan, np.float32)
    with np.errstate(over="ignore"):
        grid[index] = values
    return Signal(modality, grid, rate_hz, float(times_s[0]))


def _off_grid(times_s: npt.NDArray[np.float64], index: npt.NDArray[np.int64], rate_hz: float) -> float:
    """Largest distance of a time from the regular grid, in sample periods; infinite at rate 0."""
    return float(np.abs((times_s - times_s[0]) * rate_hz - index).max()) if rate_hz else float("inf")


def _events(cells: Sequence[str], times_s: npt.NDArray[np.float64], file: str) -> tuple[Event, ...]:
    labels = _numbers(cells, "label", file)
    if not np.array_equal(labels[~np.isnan(labels)], np.rint(labels[~np.isnan(labels)])):
        raise DataError(f"{file}: label must be an integer or blank")
    same = (labels[1:] == labels[:-1]) | (np.isnan(labels[1:]) & np.isnan(labels[:-1]))
    begins = np.concatenate(([0], np.flatnonzero(~same) + 1))
    ends_s = np.append(times_s[begins[1:]], times_s[-1])
    return tuple(
        Event(f"label {int(labels[begin])}", int(labels[begin]), float(times_s[begin]), float(end_s))
        for begin, end_s in zip(begins, ends_s, strict=True)
        if np.isfinite(labels[begin])
    )
