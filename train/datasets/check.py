"""Read a whole dataset once and say what is in it, and what is the matter with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepain.signal import Modality, Signal, in_contact
from edgepain.train.datasets.base import Dataset, Problem

# A stretch of equal values this long is a stuck or disconnected sensor, not a steady one.
FLAT_S = 5.0


@dataclass(frozen=True)
class ChannelReport:
    """One signal of one subject, over all recordings.

    rates_hz: all rates met. gaps: runs of missing samples, missing_s long in all. flat_s: seconds in
    stretches of `FLAT_S` or more without any change. no_contact_s: seconds with values that a sensor on
    skin cannot give.
    """

    modality: Modality
    unit: str
    rates_hz: tuple[float, ...]
    seconds: float
    gaps: int
    missing_s: float
    flat_s: float
    no_contact_s: float


@dataclass(frozen=True)
class SubjectReport:
    """One subject. events: labelled stretches by class name."""

    subject: str
    recordings: int
    seconds: float
    events: dict[str, int]
    channels: tuple[ChannelReport, ...]


@dataclass(frozen=True)
class Report:
    """What a dataset holds. subjects: only those with recordings that can be used."""

    dataset: str
    synthetic: bool
    labels: tuple[str, ...]
    holdouts: dict[str, tuple[str, ...]]
    subjects: tuple[SubjectReport, ...]
    problems: tuple[Problem, ...]

    @property
    def events(self) -> dict[str, int]:
        """Labelled stretches of all subjects by class name, 0 for a class that is missing."""
        return {label: sum(s.events.get(label, 0) for s in self.subjects) for label in self.labels}

    @property
    def usable(self) -> bool:
        """Whether there are two subjects and labelled stretches of two classes, without which nothing can be judged."""
        return len(self.subjects) >= 2 and sum(count > 0 for count in self.events.values()) >= 2

    @property
    def obstacles(self) -> list[str]:
        """Why nobody could train on this, one line each; empty where it is possible."""
        lines = [f"no labelled stretch of class {label!r}" for label, count in self.events.items() if not count]
        if len(self.labels) < 2:
            lines.append(f"only one class ({self.labels[0]!r}); telling apart needs two")
        if len(self.subjects) < 2:
            lines.append(f"{len(self.subjects)} usable subject(s); training and judging need two or more")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and text."""
        return {**asdict(self), "events": self.events, "usable": self.usable, "obstacles": self.obstacles}


def check_dataset(dataset: Dataset, progress: Callable[[int, int], None] | None = None) -> Report:
    """Read every recording of `dataset`. `progress(done, total)` counts subjects."""
    names = dataset.subjects()
    reports: list[SubjectReport] = []
    for done, subject in enumerate(names, 1):
        report = _check_subject(dataset, subject)
        if report.recordings:
            reports.append(report)
        if progress:
            progress(done, len(names))
    return Report(
        dataset.name,
        dataset.synthetic,
        dataset.labels,
        dict(dataset.holdouts),
        tuple(reports),
        tuple(dataset.problems()),
    )


def _check_subject(dataset: Dataset, subject: str) -> SubjectReport:
    events: Counter[str] = Counter()
    channels: dict[Modality, list[ChannelReport]] = {}
    recordings, seconds = 0, 0.0
    for recording in dataset.recordings(subject):
        recordings += 1
        seconds += recording.duration_s
        events.update(dataset.labels[event.label] for event in recording.events)
        for modality, signal in recording.signals.items():
            channels.setdefault(modality, []).append(_check_channel(signal))
    merged = tuple(_merge(parts) for parts in channels.values())
    return SubjectReport(subject, recordings, seconds, dict(events), merged)


def _check_channel(signal: Signal) -> ChannelReport:
    missing = ~np.isfinite(signal.values)
    off_skin = ~missing & ~in_contact(signal.modality, signal.values)
    return ChannelReport(
        modality=signal.modality,
        unit=signal.unit,
        rates_hz=(signal.rate_hz,),
        seconds=signal.duration_s,
        gaps=int(np.count_nonzero(np.diff(missing.astype(np.int8), prepend=0) == 1)),
        missing_s=float(np.count_nonzero(missing)) / signal.rate_hz,
        flat_s=_flat_samples(signal.values, round(FLAT_S * signal.rate_hz)) / signal.rate_hz,
        no_contact_s=float(np.count_nonzero(off_skin)) / signal.rate_hz,
    )


def _flat_samples(values: npt.NDArray[np.float32], shortest: int) -> int:
    """Number of samples in runs of at least `shortest` equal values."""
    # NaN differs from NaN, so missing samples are no run.
    starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    lengths = np.diff(np.append(starts, values.size))
    return int(lengths[lengths >= max(shortest, 2)].sum())


def _merge(parts: list[ChannelReport]) -> ChannelReport:
    first = parts[0]
    return ChannelReport(
        first.modality,
        first.unit,
        tuple(sorted({rate for part in parts for rate in part.rates_hz})),
        sum(part.seconds for part in parts),
        sum(part.gaps for part in parts),
        sum(part.missing_s for part in parts),
        sum(part.flat_s for part in parts),
        sum(part.no_contact_s for part in parts),
    )
