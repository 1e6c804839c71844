"""AI4PAIN challenge data (2025, 2026): one file a subject and signal, in which every column is a trial."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from edgepain.errors import ConfigError, DataError
from edgepain.signal import Event, Modality, Recording, Signal
from edgepain.train.datasets.base import Dataset, Placement
from edgepain.train.datasets.tables import read_header, read_numbers

RATE_HZ = 100.0
SPLITS = ("train", "validation", "test")
FOLDER_OF = {Modality.EDA: "eda", Modality.BVP: "bvp"}
# Column spelling → kind of trial.
KIND_OF = {
    "baseline": "no pain",
    "nopain": "no pain",
    "rest": "rest",
    "low": "low",
    "high": "high",
    "arm": "arm",
    "painarm": "arm",
    "hand": "hand",
    "painhand": "hand",
}
_COLUMN = re.compile(rf"(?:.*_)?({'|'.join(KIND_OF)})_?\d+", re.IGNORECASE)


class Ai4Pain(Dataset):
    """Trials under `<root>/{train,validation,test}/{Eda,Bvp}/<subject>.csv`, 100 Hz; EDA and BVP are read.

    task: "three" tells no pain, low and high apart (in a 2026 tree: no pain, arm and hand), "binary" no
    pain and high. rest: "drop" leaves rest trials unlabelled (they are still read: they are the history of
    what follows), "no pain" labels them. The baseline is cut into stretches as long as a stimulus.

    The baseline comes first and lasts under a minute, so its windows have little history: for causal
    scaling label the rests as no pain, or ask for less history.
    """

    name = "ai4pain"
    ordered = True
    modalities = (Modality.EDA, Modality.BVP)

    def __init__(
        self,
        root: Path | str,
        *,
        task: Literal["three", "binary"] = "three",
        rest: Literal["drop", "no pain"] = "drop",
    ) -> None:
        super().__init__()
        if task not in ("three", "binary"):
            raise ConfigError(f"task must be 'three' or 'binary', not {task!r}")
        if rest not in ("drop", "no pain"):
            raise ConfigError(f"rest must be 'drop' or 'no pain', not {rest!r}")
        self._rest = rest
        if rest == "drop":
            self.history_option = "--option 'rest=no pain'"
        self._files = _find_files(Path(root))
        split_of, kinds = self._scan()
        if {"arm", "hand"} & kinds:
            if task == "binary":
                raise ConfigError(f"{root}: this tree has no pain levels (it is of 2026); use task 'three'")
            self.labels = ("no pain", "arm", "hand")
        else:
            self.labels = ("no pain", "low", "high") if task == "three" else ("no pain", "high")
        self._subjects = tuple(sorted(split_of))
        self.holdouts: Mapping[str, tuple[str, ...]] = {
            split: tuple(s for s in self._subjects if split_of[s] == split)
            for split in SPLITS[1:]
            if split in split_of.values()
        }
        self.placement = Placement(offset_s=3.0, max_per_event=1)

    @staticmethod
    def recognises(root: Path) -> bool:
        """True where a split folder has an EDA or BVP folder."""
        return any(
            set(FOLDER_OF.values()) & set(_children(folder))
            for split, folder in _children(root).items()
            if split in SPLITS
        )

    def subjects(self) -> tuple[str, ...]:
        """File names (without .csv) of the subjects with labelled trials."""
        return self._subjects

    def recordings(self, subject: str) -> Iterator[Recording]:
        """One recording a trial, in the order of the columns."""
        _, paths = self._files[subject]
        try:
            trials = {modality: _read_trials(path) for modality, path in paths.items()}
        except DataError as error:
            self._report(paths[Modality.EDA].parent, error)
            return
        stimulus_s = _stimulus_s(trials[Modality.EDA])
        for column in trials[Modality.EDA]:
            kind = kind_of(column)
            if kind is None:
                continue
            signals: dict[Modality, Signal] = {}
            for modality, path in paths.items():
                values = trials[modality].get(column, np.empty(0, np.float32))
                if values.size == 0:
                    self._report(f"{path}, column {column}", "missing or without a number")
                    break
                signals[modality] = Signal(modality, values, RATE_HZ)
            else:
                length_s = min(signal.duration_s for signal in signals.values())
                yield Recording(subject, column, signals, tuple(self._events(kind, length_s, stimulus_s)))

    def _events(self, kind: str, length_s: float, stimulus_s: float) -> Iterator[Event]:
        name = "no pain" if kind == "rest" and self._rest == "no pain" else kind
        if name not in self.labels:
            return
        # A baseline is as long as several stimuli; every other trial is one event.
        pieces = max(int((length_s + 0.05) / stimulus_s), 1) if kind == "no pain" else 1
        step_s = stimulus_s if pieces > 1 else length_s
        for k in range(pieces):
            yield Event(name, self.labels.index(name), k * step_s, min((k + 1) * step_s, length_s))

    def _scan(self) -> tuple[dict[str, str], set[str]]:
        """Split of every subject with labelled trials, and the kinds of trials there are."""
        split_of: dict[str, str] = {}
        all_kinds: set[str] = set()
        for subject, (split, paths) in self._files.items():
            missing = [m for m in self.modalities if m not in paths]
            some_path = next(iter(paths.values()))
            if missing:
                self._report(some_path, f"subject {subject} has no {missing[0]} file in {split}")
                continue
            try:
                names, _ = read_header(paths[Modality.EDA])
            except DataError as error:
                self._report(paths[Modality.EDA], error)
                continue
            unlabelled = [name for name in names if kind_of(name) is None]
            if unlabelled:
                self._report(
                    paths[Modality.EDA],
                    f"{len(unlabelled)} columns without a label (such as {unlabelled[0][:40]!r})",
                )
            if len(unlabelled) < len(names):
                split_of[subject] = split
                all_kinds |= {kind for name in names if (kind := kind_of(name))}
        if not split_of:
            why = "".join(f"; {problem}" for problem in self.problems()[:3])
            raise DataError(f"no subject with labelled EDA and BVP trials{why}")
        return split_of, all_kinds


def kind_of(column: str) -> str | None:
    """ "no pain", "rest", "low", "high", "arm" or "hand"; None for a column without a label."""
    match = _COLUMN.fullmatch(column)
    return KIND_OF[match[1].lower()] if match else None


def _find_files(root: Path) -> dict[str, tuple[str, dict[Modality, Path]]]:
    """Split and files of every subject. Folder names match in any case."""
    files: dict[str, tuple[str, dict[Modality, Path]]] = {}
    for split, folder in _children(root).items():
        if split not in SPLITS:
            continue
        signal_folders = _children(folder)
        for modality, name in FOLDER_OF.items():
            for path in sorted(signal_folders[name].iterdir()) if name in signal_folders else []:
                subject = path.name.removesuffix(".gz").removesuffix(".csv")
                if subject == path.name or path.name.startswith("."):
                    continue
                known_split, paths = files.setdefault(subject, (split, {}))
                if known_split != split:
                    raise DataError(f"{root}: subject {subject} is in {known_split} and in {split}; keep one")
                paths[modality] = path
    if not files:
        raise DataError(f"{root}: no AI4PAIN data here; expected train/Eda/<subject>.csv, train/Bvp/… and so on")
    return files


def _children(folder: Path) -> dict[str, Path]:
    return {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}


def _read_trials(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Every column without the NaN below its last number (columns are as long as the longest trial)."""
    names, _ = read_header(path)
    trials: dict[str, npt.NDArray[np.float32]] = {}
    for column, values in read_numbers(path, names).items():
        real = np.flatnonzero(np.isfinite(values))
        trials[column] = values[: real[-1] + 1 if real.size else 0].astype(np.float32)
    return trials


def _stimulus_s(trials: Mapping[str, npt.NDArray[np.float32]]) -> float:
    """Median length of the painful trials, or of all where there are none."""
    painful = [v.size for name, v in trials.items() if kind_of(name) not in (None, "no pain", "rest")]
    sizes = [size for size in painful or [v.size for v in trials.values()] if size]
    return float(np.median(sizes)) / RATE_HZ if sizes else 1.0
