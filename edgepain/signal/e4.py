"""Empatica E4 session folders: one file a signal; lines are Unix start time, rate, then one value each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgepain.errors import DataError
from edgepain.signal.modality import Modality
from edgepain.signal.recording import Recording, Signal
from edgepain.signal.textfile import read_text

FILE_STEMS = {Modality.EDA: "EDA", Modality.BVP: "BVP"}
# A day of the fastest file is about 60 MB of text: what is larger is no E4 file.
MAX_BYTES = 256 * 2**20
MAX_RATE_HZ = 1000.0
MIN_RATE_HZ = 0.1
# Files of one session start at the same second; this much apart they are from two sessions.
MAX_START_SPREAD_S = 60.0


def e4_files(folder: Path | str) -> dict[Modality, Path]:
    """The signal files (`EDA.csv`, `BVP.csv`, or either with `.gz`) that lie in `folder`."""
    files: dict[Modality, Path] = {}
    for modality, stem in FILE_STEMS.items():
        for path in (Path(folder, f"{stem}.csv"), Path(folder, f"{stem}.csv.gz")):
            if path.is_file():
                files.setdefault(modality, path)
    return files


def read_e4_session(folder: Path | str, subject: str = "") -> Recording:
    """Read one session folder: EDA (µS, 4 Hz) and BVP (a.u., 64 Hz), whichever are there; no events.

    The recording's clock is 0 where the first signal starts. NaN at the end of a file is dropped, in the
    middle it stays and marks missing samples. `subject` defaults to the folder's name.

    Raises DataError where no signal file is there, or one of them cannot be read.
    """
    folder = Path(folder)
    files = e4_files(folder)
    if not files:
        raise DataError(f"{folder}: neither EDA.csv nor BVP.csv (or .csv.gz) here; name an Empatica E4 session folder")
    read = {modality: _read_file(path) for modality, path in files.items()}
    first_s = min(start_s for start_s, _, _ in read.values())
    if max(start_s for start_s, _, _ in read.values()) - first_s > MAX_START_SPREAD_S:
        raise DataError(
            f"{folder}: EDA and BVP start more than {MAX_START_SPREAD_S:g} s apart; "
            "put files of one session into one folder"
        )
    signals = {
        modality: Signal(modality, values, rate_hz, start_s=start_s - first_s)
        for modality, (start_s, rate_hz, values) in read.items()
    }
    return Recording(subject=subject or folder.name, name=folder.name, signals=signals)


def _read_file(path: Path) -> tuple[float, float, npt.NDArray[np.float32]]:
    """Unix start time (s), rate (Hz) and values of one file."""
    lines = read_text(path, MAX_BYTES).rstrip().splitlines()
    if len(lines) < 3:
        raise DataError(f"{path}: {len(lines)} lines, expected a start time, a rate and values; copy it again")
    try:
        numbers = np.fromiter(map(float, lines), np.float64, count=len(lines))
    except ValueError:
        number, line = next((n, line) for n, line in enumerate(lines, 1) if not _is_number(line))
        raise DataError(f"{path}: line {number} is not one number: {line[:40]!r}") from None
    start_s, rate_hz = float(numbers[0]), float(numbers[1])
    if not (np.isfinite(start_s) and start_s >= 0):
        raise DataError(f"{path}: line 1 should be the Unix start time, it is {lines[0][:40]!r}")
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise DataError(f"{path}: line 2 should be a rate in Hz, it is {lines[1][:40]!r}")
    with np.errstate(over="ignore"):
        values = numbers[2:].astype(np.float32)
    values[~np.isfinite(values)] = np.nan
    real = np.flatnonzero(np.isfinite(values))
    if real.size == 0:
        raise DataError(f"{path}: no value is a number; record or copy it again")
    return start_s, rate_hz, values[: real[-1] + 1]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
