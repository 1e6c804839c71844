"""One recorded session as `edgepain convert --to parquet` or `--to csv` writes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edgepain.errors import DataError, MissingExtraError
from edgepain.signal import Modality, Signal, interpolate
from edgepain.train.datasets.session_rules import SessionMarker
from edgepain.train.datasets.tables import read_header

if TYPE_CHECKING:
    import pandas

ENDINGS = (".parquet", ".csv", ".csv.gz")
TIME, MARKER, VALUE = "time_s", "marker", "marker_value"
# A rate this near to a whole number is one: the device's clock, or the computer's, is a little off.
_WHOLE = 1e-3
# Seconds of nothing for each second of samples, at most.
_MOST_GAPS = 100


def session_name(path: Path) -> str:
    """The file's name without its ending."""
    return next((path.name.removesuffix(ending) for ending in ENDINGS if path.name.endswith(ending)), path.name)


def session_signals(path: Path) -> tuple[Modality, ...]:
    """Signals that the file has columns for. Raises DataError where it cannot be read, MissingExtraError."""
    names = _parquet_names(path) if path.suffix == ".parquet" else read_header(path)[0]
    if missing := [name for name in (TIME, MARKER, VALUE) if name not in names]:
        raise DataError(f"{path}: no column {missing[0]!r}; convert the recording with `edgepain convert`")
    return tuple(modality for modality in Modality if modality.column in names)


def read_session(
    path: Path, modalities: Sequence[Modality]
) -> tuple[dict[Modality, Signal], tuple[SessionMarker, ...]]:
    """Signals, evenly sampled, NaN where none is for more than one and a half periods; markers in order of time.

    The clock is that of the file. Raises DataError where it cannot be read or has no such signal, MissingExtraError.
    """
    table = _table(path, [TIME, *(modality.column for modality in modalities), MARKER, VALUE])
    times_s = table[TIME].to_numpy(np.float64)
    if not np.isfinite(times_s).all():
        raise DataError(f"{path}: {TIME} has no number in row {int(np.flatnonzero(~np.isfinite(times_s))[0]) + 2}")
    signals = {}
    for modality in modalities:
        values = table[modality.column].to_numpy(np.float32)
        there = np.isfinite(values)
        signals[modality] = _even(modality, times_s[there], values[there], f"{path}: {modality.column}")
    marks = table[table[MARKER].notna()].sort_values(TIME, kind="stable")
    rows = zip(marks[TIME].tolist(), marks[MARKER].tolist(), marks[VALUE].tolist(), strict=True)
    markers = tuple(SessionMarker(at_s, str(label), None if value != value else value) for at_s, label, value in rows)
    return signals, markers


def _even(modality: Modality, times_s: npt.NDArray[np.float64], values: npt.NDArray[np.float32], what: str) -> Signal:
    if times_s.size < 2:
        raise DataError(f"{what} has {times_s.size} values; a rate needs at least two")
    steps_s = np.diff(times_s)
    if steps_s.min() < 0:
        raise DataError(f"{what}: {TIME} runs backwards; convert the recording again")
    usual_s = float(np.median(steps_s))
    usual = steps_s[(steps_s > 0.5 * usual_s) & (steps_s < 1.5 * usual_s)]
    if usual_s <= 0 or usual.size == 0:
        raise DataError(f"{what}: its times tell no rate; convert the recording again")
    rate_hz = 1.0 / float(usual.mean())
    if abs(rate_hz - round(rate_hz)) < _WHOLE * rate_hz:
        rate_hz = float(round(rate_hz))
    points = int((times_s[-1] - times_s[0]) * rate_hz + 0.5) + 1
    if points > _MOST_GAPS * times_s.size:
        raise DataError(f"{what}: nearly all of it is a gap; cut the recording at its gaps")
    grid_s = times_s[0] + np.arange(points) / rate_hz
    even, backed = interpolate(times_s, values, grid_s, rate_hz)
    even[~backed] = np.nan
    return Signal(modality, even, rate_hz, float(times_s[0]))


def _parquet_names(path: Path) -> list[str]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError("pyarrow", "convert") from None
    try:
        return list(pq.read_schema(path).names)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())}); convert it again") from error


def _table(path: Path, columns: list[str]) -> pandas.DataFrame:
    try:
        import pandas
    except ImportError:
        raise MissingExtraError("pandas", "train") from None
    numbers = {column: "float64" if column in (TIME, VALUE) else "float32" for column in columns if column != MARKER}
    try:
        if path.suffix == ".parquet":
            return pandas.read_parquet(path, columns=columns).astype(numbers)
        return pandas.read_csv(
            path, usecols=columns, dtype={**numbers, MARKER: "str"}, keep_default_na=False, na_values=["", "nan"]
        )
    except ImportError:
        raise MissingExtraError("pyarrow", "convert") from None
    # Whatever a damaged file makes of its readers: pyarrow's errors are of many kinds.
    except Exception as error:
        text = " ".join(str(error).split())
        raise DataError(f"{path}: is no table of a session ({text}); convert the recording again") from error
