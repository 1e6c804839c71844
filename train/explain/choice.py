"""Which window is explained, by which network: of the run's own table, or any window of any recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import nn

from edgepain.bundle import Scaling
from edgepain.errors import ConfigError, DataError
from edgepain.signal import Event, Modality, QualityCode, Recording, ScalingSpec, WindowSpec, assess
from edgepain.train.datasets.base import Dataset, Placement
from edgepain.train.models import CrossModTransformer
from edgepain.train.split import Split
from edgepain.train.staged import TrainedStages
from edgepain.train.windows import WindowTable, cut_table

_OTHER, _CHOSEN = 0, 1
_REASONS = {
    QualityCode.GAPS: "misses too many samples",
    QualityCode.NO_CONTACT: "has no contact to the skin",
    QualityCode.FLAT: "is flat",
}


class Fold(Protocol):
    """One trained network of a run and who it was trained without."""

    @property
    def name(self) -> str: ...

    @property
    def split(self) -> Split: ...

    def trained(self) -> TrainedStages: ...

    def network(self) -> CrossModTransformer: ...


class Run(Protocol):
    """What explanations need of a run."""

    @property
    def folds(self) -> Sequence[Fold]: ...

    def fold(self, name: str = "") -> Fold: ...

    @property
    def table(self) -> WindowTable: ...

    @property
    def scaling(self) -> Scaling: ...

    @property
    def window(self) -> WindowSpec: ...

    @property
    def scaling_spec(self) -> ScalingSpec: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def synthetic(self) -> bool: ...


@dataclass(frozen=True)
class ChosenWindow:
    """A window that can be scaled. M modalities, S steps.

    start_s: on the recording's clock. label: name of its class, empty where it has none. times_s: [S] since the
    window's start. values: [M, S] in the modalities' units. scaled: [M, S], what the network sees. scaling: how they
    were scaled, in words.
    """

    subject: str
    recording: str
    start_s: float
    label: str
    modalities: tuple[Modality, ...]
    times_s: npt.NDArray[np.float64]
    values: npt.NDArray[np.float32]
    scaled: npt.NDArray[np.float32]
    scaling: str


def choose_fold(run: Run, name: str, subject: str) -> Fold:
    """The named fold; else the first of several that holds the subject out; else the only one.

    Raises ConfigError where there is none.
    """
    if not name and len(run.folds) > 1:
        for fold in run.folds:
            if subject in fold.split.held_out:
                return fold
    return run.fold(name)


def standing(fold: Fold, subject: str) -> str:
    """Whether the fold's network was trained on this subject, in words."""
    if subject in fold.split.held_out:
        return "held out"
    return "trained on" if subject in fold.split.train else "not in this run"


def unimodal_heads(fold: Fold) -> dict[str, nn.Linear]:
    """What the embedding of each modality was trained under, by modality."""
    prefix = "transformer."
    blocks = fold.trained().blocks
    return {name.removeprefix(prefix): headed.head for name, headed in blocks.items() if name.startswith(prefix)}


def choose_row(table: WindowTable, scaling: Scaling, subject: str, index: int) -> ChosenWindow:
    """Window `index` (from 0) of a subject in a run's table.

    Raises ConfigError where there is no such window, DataError where it cannot be scaled.
    """
    part = table.select(table.subjects == subject)
    if not len(part):
        known = [str(name) for name in np.unique(table.subjects)]
        raise ConfigError(f"the run has no window of {subject!r}; it has {', '.join(known)}")
    if not 0 <= index < len(part):
        raise ConfigError(f"{subject} has no window {index}; there are 0 to {len(part) - 1}")
    _, usable = part.scaled(scaling)
    first = np.flatnonzero(usable)[:1]
    other = f"; the first of {subject} that can be is --window {first[0]}" if first.size else ""
    return _chosen(part, scaling, index, table.label_names[part.labels[index]], other)


def choose_recorded(
    recordings: Iterable[Recording],
    at_s: float,
    *,
    modalities: tuple[Modality, ...],
    window: WindowSpec,
    scaling_spec: ScalingSpec,
    scaling: Scaling,
    name: str | None = None,
    labels: Sequence[str] = (),
) -> ChosenWindow:
    """The window at `at_s` of a recording (`name` says which, where there are several of this person).

    Causal scaling sees what came before in this recording and in those before it; scaling by subject sees all
    windows of all of them, laid end to end. labels: class names of the events; without them their own names.

    Raises ConfigError where there is no such recording or time, DataError where signals are missing or the window
    cannot be scaled.
    """
    person = _Person(list(recordings), at_s, name, modalities, window, tiled=scaling == "subject")
    table = cut_table(person, modalities, spec=window, scaling_spec=scaling_spec)
    index = int(np.flatnonzero(table.labels == _CHOSEN)[0])
    return _chosen(table, scaling, index, person.label(labels))


class _Person(Dataset):
    """Recordings of one person, whose only labelled stretches are the windows to cut."""

    name = "recording"
    ordered = True
    labels = ("other", "chosen")

    def __init__(
        self,
        recordings: list[Recording],
        at_s: float,
        name: str | None,
        modalities: tuple[Modality, ...],
        window: WindowSpec,
        tiled: bool,
    ) -> None:
        super().__init__()
        self._recordings, self._at_s, self._seconds, self._tiled = recordings, at_s, window.seconds, tiled
        self._chosen = _named(recordings, name)
        self.modalities = modalities
        self.holdouts = {}
        self.placement = Placement()
        for recording in recordings:
            _check_signals(recording, modalities)
        # A sample holds until the next one is due, so a window may end where the recording does.
        if not 0 <= at_s <= self._chosen.duration_s - self._seconds + 1e-6:
            raise ConfigError(
                f"no window of {self._seconds:g} s at {at_s:g} s: {self._chosen.name} is "
                f"{self._chosen.duration_s:.1f} s long; choose another --at"
            )

    def subjects(self) -> tuple[str, ...]:
        return (self._chosen.subject,)

    def recordings(self, subject: str) -> Iterator[Recording]:
        for recording in self._recordings:
            events = list(self._tiles(recording)) if self._tiled else []
            if recording is self._chosen:
                events.append(self._event(_CHOSEN, self._at_s))
            yield replace(recording, events=tuple(events))

    def label(self, names: Sequence[str]) -> str:
        for event in self._chosen.events:
            if event.start_s - 1e-6 <= self._at_s and self._at_s + self._seconds <= event.end_s + 1e-6:
                return names[event.label] if names else event.name.removeprefix("label ")
        return ""

    def _tiles(self, recording: Recording) -> Iterator[Event]:
        """Windows end to end, placed so that the chosen one is the only one where it lies."""
        chosen = recording is self._chosen
        begin_s = self._at_s % self._seconds if chosen else 0.0
        count = int((recording.duration_s - begin_s) / self._seconds + 1e-6)
        skipped = round((self._at_s - begin_s) / self._seconds) if chosen else None
        for k in range(count):
            if k != skipped:
                yield self._event(_OTHER, begin_s + k * self._seconds)

    def _event(self, label: int, start_s: float) -> Event:
        return Event("", label, start_s, start_s + self._seconds)


def _named(recordings: list[Recording], name: str | None) -> Recording:
    names = [recording.name for recording in recordings]
    listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    if name is None and len(names) == 1:
        return recordings[0]
    if name not in names:
        wrong = f"no recording is called {name!r}" if name is not None else f"there are {len(names)} recordings"
        raise ConfigError(f"{wrong}; choose one with --name ({listed or 'there is none'})")
    return recordings[names.index(name)]


def _check_signals(recording: Recording, modalities: tuple[Modality, ...]) -> None:
    for m in modalities:
        if m not in recording.signals:
            there = ", ".join(recording.signals) or "nothing"
            raise DataError(f"{recording.name} has {there}, the network needs {' and '.join(modalities)}")
        if recording.signals[m].unit != m.unit:
            raise DataError(f"{recording.name}: {m} is in {recording.signals[m].unit}, the network needs {m.unit}")


def _chosen(part: WindowTable, scaling: Scaling, index: int, label: str, other: str = "") -> ChosenWindow:
    """Row `index` of a table of one person's windows. other: which one to take where this cannot be scaled."""
    x, usable = part.scaled(scaling)
    start_s, subject = float(part.start_s[index]), str(part.subjects[index])
    if not usable[index]:
        reason = _why_unusable(part, scaling, index)
        raise DataError(f"the window at {start_s:g} s of {subject} cannot be scaled: {reason}{other}")
    if scaling == "causal":
        seconds = ", ".join(
            f"{m} over {s:.0f} s" for m, s in zip(part.modalities, part.history_seconds[index], strict=True)
        )
        words = f"causal, by what came before the window ({seconds})"
    else:
        words = f"by all {np.count_nonzero(part.quality_ok)} good windows of the person, later ones too"
    return ChosenWindow(
        subject=subject,
        recording=str(part.recordings[index]),
        start_s=start_s,
        label=label,
        modalities=part.modalities,
        times_s=part.spec.grid_s(0.0),
        values=part.values[index],
        scaled=x[index],
        scaling=words,
    )


def _why_unusable(part: WindowTable, scaling: Scaling, index: int) -> str:
    if not part.quality_ok[index]:
        for m, values in zip(part.modalities, part.values[index], strict=True):
            quality = assess(m, values, np.isfinite(values))
            if not quality.ok:
                return f"{m} {_REASONS[quality.code]}"
        # The table keeps values that were interpolated across gaps.
        return f"a signal {_REASONS[QualityCode.GAPS]}"
    for m, seconds, iqr in zip(part.modalities, part.history_seconds[index], part.history_iqr[index], strict=True):
        if scaling == "causal" and seconds < part.scaling_spec.min_history_s:
            return f"{m} has {seconds:.1f} s of valid signal before it, causal scaling needs " + (
                f"{part.scaling_spec.min_history_s:g} s"
            )
        if scaling == "causal" and not iqr > 0:
            return f"{m} is flat before it (inter-quartile range of 0)"
    return "a signal has an inter-quartile range of 0 over all windows"
