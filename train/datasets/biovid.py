"""BioVid Heat Pain Database, Part A: one file a clip of 5.5 s, cut by its owners 3 s after stimulus onset."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from edgepain.errors import ConfigError, DataError
from edgepain.signal import Event, Modality, Recording, Signal
from edgepain.train.datasets.base import Dataset, Placement, as_names
from edgepain.train.datasets.biovid_subjects import NONREACTIVE, VALIDATION
from edgepain.train.datasets.tables import find_table, read_numbers, read_texts

RATE_HZ = 512.0
CLIP_ROWS = 2816
CLIP_S = CLIP_ROWS / RATE_HZ
# A clip may lack a few samples at its end; one that lacks more was not copied whole.
MAX_MISSING_ROWS = 5
SIGNALS = ("filtered", "raw")
LEVELS = ("BL1", "PA1", "PA2", "PA3", "PA4")
COLUMN_OF = {Modality.EDA: "gsr", Modality.ECG: "ecg"}
SAMPLES = (Path("starting_point", "samples.csv"), Path("samples.csv"))

_SAMPLE_NAME = re.compile(r"(?P<subject>\d{6}_[wm]_\d{1,3})-(?P<level>BL1|PA[1-4])-\d{1,4}")


class BioVid(Dataset):
    """Clips under `<root>/PartA` (or `<root>` itself), listed in samples.csv.

    levels: the levels to tell apart, in label order. exclude_nonreactive: leave out the 20 subjects of
    `NONREACTIVE`. signals: "filtered" or "raw" files.

    The number in a sample's name is no clock: it counts within levels. In its order one level would follow
    the other, and the history of a window would give its label away. So clips come in the order of a hash
    of their names, which is fixed and says nothing about the level.
    """

    name = "biovid"
    ordered = False
    modalities = (Modality.EDA, Modality.ECG)

    def __init__(
        self,
        root: Path | str,
        *,
        levels: Sequence[str] = ("BL1", "PA4"),
        exclude_nonreactive: bool = False,
        signals: Literal["filtered", "raw"] = "filtered",
    ) -> None:
        super().__init__()
        levels = as_names(levels)
        if len(set(levels)) < 2 or len(set(levels)) < len(levels) or not set(levels) <= set(LEVELS):
            raise ConfigError(f"levels must be two or more different ones of {', '.join(LEVELS)}")
        if signals not in SIGNALS:
            raise ConfigError(f"signals must be 'filtered' or 'raw', not {signals!r}")
        self.labels = levels
        self.placement = Placement(offset_s=0.0, hop_s=CLIP_S, max_per_event=1)
        self._folder, samples = _find_tree(Path(root), f"biosignals_{signals}")
        self._clips = self._list_clips(samples, set(NONREACTIVE) if exclude_nonreactive else set())
        if not self._clips:
            raise DataError(f"{self._folder}: holds no clip of {', '.join(levels)} that {samples} lists")
        validation = tuple(s for s in self.subjects() if s in VALIDATION)
        self.holdouts: Mapping[str, tuple[str, ...]] = {"validation": validation} if validation else {}

    @staticmethod
    def recognises(root: Path) -> bool:
        """True where a folder of signals lies in PartA or in `root`."""
        return any((part / f"biosignals_{kind}").is_dir() for part in _parts(root) for kind in SIGNALS)

    def subjects(self) -> tuple[str, ...]:
        """Names of the subjects that have clips of the chosen levels."""
        return tuple(sorted(self._clips))

    def recordings(self, subject: str) -> Iterator[Recording]:
        """One recording a clip, in the order of a hash of its name."""
        for sample in self._clips[subject]:
            path = find_table(self._path(subject, sample))
            if path is None:
                continue
            try:
                signals = _read_clip(path)
            except DataError as error:
                self._report(path, error)
                continue
            level = sample.split("-")[1]
            event = Event(level, self.labels.index(level), 0.0, CLIP_S)
            yield Recording(subject, sample, signals, (event,))

    def _path(self, subject: str, sample: str) -> Path:
        return self._folder / subject / f"{sample}_bio.csv"

    def _list_clips(self, samples: Path, excluded: set[str]) -> dict[str, list[str]]:
        """Sample names by subject, in reading order, for the subjects with at least one file."""
        listed: dict[str, list[str]] = defaultdict(list)
        for number, sample in enumerate(read_texts(samples, ["sample_name"])["sample_name"], 2):
            match = _SAMPLE_NAME.fullmatch(sample)
            if match is None:
                self._report(f"{samples}, line {number}", f"{sample[:60]!r} is no sample name")
            elif match["level"] in self.labels and match["subject"] not in excluded:
                listed[match["subject"]].append(sample)
        clips: dict[str, list[str]] = {}
        for subject, names in listed.items():
            there = [name for name in names if find_table(self._path(subject, name))]
            if len(there) < len(names):
                missing = len(names) - len(there)
                self._report(self._folder / subject, f"{missing} of {len(names)} listed clips are missing; copy them")
            if there:
                clips[subject] = sorted(there, key=lambda name: hashlib.sha256(name.encode()).digest())
        return clips


def _parts(root: Path) -> tuple[Path, Path]:
    return root / "PartA", root


def _find_tree(root: Path, folder_name: str) -> tuple[Path, Path]:
    """The folder of signal files and the list of samples."""
    for part in _parts(root):
        if not (part / folder_name).is_dir():
            continue
        for samples in SAMPLES:
            if found := find_table(part / samples):
                return part / folder_name, found
        raise DataError(f"{part}: no starting_point/samples.csv beside {folder_name}; copy it there")
    raise DataError(f"{root}: expected PartA/{folder_name} and PartA/starting_point/samples.csv here")


def _read_clip(path: Path) -> dict[Modality, Signal]:
    table = read_numbers(path, ["time", *COLUMN_OF.values()])
    rows = table["time"].size
    if rows < CLIP_ROWS - MAX_MISSING_ROWS:
        raise DataError(f"{path}: {rows} rows, expected {CLIP_ROWS}; copy it again")
    elapsed_us = table["time"] - table["time"][0]
    expected_us = np.arange(rows) * 1e6 / RATE_HZ
    if not np.all(np.abs(elapsed_us - expected_us) <= 1e6 / RATE_HZ):
        raise DataError(f"{path}: column 'time' does not rise by 1/{RATE_HZ:g} s in microseconds")
    signals = {
        modality: Signal(modality, table[column].astype(np.float32), RATE_HZ) for modality, column in COLUMN_OF.items()
    }
    for modality, signal in signals.items():
        if not np.isfinite(signal.values).any():
            raise DataError(f"{path}: column {COLUMN_OF[modality]!r} holds no number")
    return signals
