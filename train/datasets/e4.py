"""Empatica E4 sessions with a table of labelled segments, such as Stress-Predict or anyone's own."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepain.errors import ConfigError, DataError
from edgepain.signal import Event, Modality, Recording, e4_files, read_e4_session
from edgepain.train.datasets.base import Dataset, Placement, as_names

COLUMNS = ("subject", "segment", "start_s", "end_s")


@dataclass(frozen=True)
class _Row:
    line: int
    subject: str
    segment: str
    label: str
    start_s: float
    end_s: float


class E4Sessions(Dataset):
    """Sessions in `<root>/raw/<subject>/` or `<root>/<subject>/`, segments in `<root>/labels.csv`.

    The label file is comma separated with columns subject, segment, start_s, end_s (seconds after the
    session's first sample). positive, negative: segment names of label 1 and 0; segments in neither stay
    unlabelled. Without both, an integer column `label` decides.
    """

    name = "e4"
    ordered = True

    def __init__(
        self,
        root: Path | str,
        *,
        label_file: str = "labels.csv",
        positive: Sequence[str] = (),
        negative: Sequence[str] = (),
    ) -> None:
        super().__init__()
        root = Path(root)
        self._labels_path = root / label_file
        self._folders = _session_folders(root)
        if not self._folders:
            raise DataError(f"{root}: no Empatica E4 session here; expected raw/<subject>/EDA.csv or <subject>/EDA.csv")
        rows = list(self._read_rows())
        positive, negative = as_names(positive), as_names(negative)
        self.labels, label_of = _label_rule(self._labels_path, rows, positive, negative)
        self._events: dict[str, list[tuple[_Row, int]]] = defaultdict(list)
        for row in rows:
            if row.subject not in self._folders:
                self._report(self._where(row), f"no session folder of subject {row.subject}")
            elif (label := label_of(row)) is not None:
                self._events[row.subject].append((row, label))
        for subject in sorted(set(self._folders) - set(self._events)):
            self._report(self._folders[subject], f"no segment in {label_file} has one of the chosen labels")
        if not self._events:
            raise DataError(f"{self._labels_path}: names no segment of the sessions under {root}")
        self.modalities = tuple(m for m in Modality if any(m in e4_files(self._folders[s]) for s in self._events))
        self.holdouts: Mapping[str, tuple[str, ...]] = {}
        self.placement = Placement()

    @staticmethod
    def recognises(root: Path) -> bool:
        """True where a session folder lies in raw/ or in `root`."""
        return bool(_session_folders(root))

    def subjects(self) -> tuple[str, ...]:
        """Folder names of the sessions that have labelled segments."""
        return tuple(sorted(self._events))

    def recordings(self, subject: str) -> Iterator[Recording]:
        """The one session of this subject, with its labelled segments as events."""
        folder = self._folders[subject]
        try:
            session = read_e4_session(folder, subject)
        except DataError as error:
            self._report(folder, error)
            return
        missing = [m for m in self.modalities if m not in session.signals]
        if missing:
            self._report(folder, f"no {missing[0]} file, which other sessions have")
            return
        events = tuple(sorted(self._placed(session, subject), key=lambda event: event.start_s))
        if events:
            yield Recording(subject, session.name, session.signals, events)

    def _placed(self, session: Recording, subject: str) -> Iterator[Event]:
        for row, label in self._events[subject]:
            start_s, end_s = max(row.start_s, 0.0), min(row.end_s, session.duration_s)
            if end_s <= start_s:
                self._report(self._where(row), f"lies outside the session of {session.duration_s:.0f} s")
            else:
                yield Event(row.segment, label, start_s, end_s)

    def _read_rows(self) -> Iterator[_Row]:
        for line, cells in _read_cells(self._labels_path):
            try:
                start_s, end_s = float(cells["start_s"]), float(cells["end_s"])
            except ValueError:
                start_s = end_s = math.nan
            row = _Row(line, cells["subject"], cells["segment"], cells.get("label", "").strip(), start_s, end_s)
            if math.isfinite(start_s) and math.isfinite(end_s) and start_s < end_s:
                yield row
            else:
                self._report(self._where(row), "start_s and end_s are not two rising numbers of seconds")

    def _where(self, row: _Row) -> str:
        return f"{self._labels_path}, line {row.line}"


def _session_folders(root: Path) -> dict[str, Path]:
    """Session folders by subject."""
    for parent in (root / "raw", root):
        if parent.is_dir():
            folders = {path.name: path for path in sorted(parent.iterdir()) if path.is_dir() and e4_files(path)}
            if folders:
                return folders
    return {}


def _read_cells(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells by column name of every row of a comma-separated file."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path}: no column {missing[0]!r}; it needs {', '.join(COLUMNS)}")
            for cells in reader:
                yield reader.line_num, {name: cell for name, cell in cells.items() if name is not None}
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file; it tells which segment is which, with columns {', '.join(COLUMNS)}"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as comma-separated text ({error})") from error


def _label_rule(
    path: Path, rows: Sequence[_Row], positive: Sequence[str], negative: Sequence[str]
) -> tuple[tuple[str, ...], Callable[[_Row], int | None]]:
    """Class names, and a function from a row to its label (None: unlabelled)."""
    if bool(positive) != bool(negative):
        raise ConfigError("give segment names for both positive and negative, or for neither")
    if not positive:
        return _label_column(path, rows)
    present = {row.segment for row in rows}
    for segment in (*positive, *negative):
        if segment not in present:
            raise ConfigError(f"no segment is called {segment!r}; {path} has {', '.join(sorted(present))}")
    if both := set(positive) & set(negative):
        raise ConfigError(f"segment {min(both)!r} cannot be both positive and negative")
    label_of = dict.fromkeys(negative, 0) | dict.fromkeys(positive, 1)
    return ("+".join(negative), "+".join(positive)), lambda row: label_of.get(row.segment)


def _label_column(path: Path, rows: Sequence[_Row]) -> tuple[tuple[str, ...], Callable[[_Row], int | None]]:
    values = sorted({row.label for row in rows if row.label.isdecimal()}, key=int)
    if not values:
        raise ConfigError(f"{path} has no integer column 'label'; say which segments are positive and negative")
    label_of = {value: index for index, value in enumerate(values)}
    return tuple(f"label {value}" for value in values), lambda row: label_of.get(row.label)
