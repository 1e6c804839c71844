"""Judge a bundle on labelled recordings offline, and hold live decisions against the same windows.

Windows come from the path that training uses (`cut_table`, causal scaling), not from the live runtime: where both
give the same probabilities, nothing was lost or altered between the sensor and the decision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from edgepain.benchmarks.live_decisions import read_live_decisions
from edgepain.bundle import Bundle
from edgepain.engine import OnnxEngine, softmax
from edgepain.errors import BundleMismatchError, ConfigError, DataError
from edgepain.signal import Event, Recording
from edgepain.train.datasets.base import Dataset, Placement
from edgepain.train.metrics import Scores, score
from edgepain.train.windows import WindowTable, cut_table

UNLABELLED = -1
# Live and offline may differ by this much in a probability before they count as different.
TOLERANCE = 1e-4


class Evaluation(msgspec.Struct, frozen=True):
    """Scores on the labelled windows that can be judged. abstained: those that cannot (quality or history).

    maybe_trained_on: subjects that the bundle may have learnt from. labels: the bundle's classes; dataset_labels: what
    the dataset calls them.
    """

    subjects: tuple[str, ...]
    maybe_trained_on: tuple[str, ...]
    precision: str
    labels: tuple[str, ...]
    dataset_labels: tuple[str, ...]
    abstained: int
    scores: Scores


class Comparison(msgspec.Struct, frozen=True):
    """Live decisions of one recording beside the offline answers to the same windows.

    windows: all up to the end of play, after which live use waited in vain for samples.
    compared: windows that both judged. only_live, only_offline: windows that only one judged.
    live: scores of the live decisions on labelled windows, None where there is no such window.
    maybe_trained_on: whether the bundle may have learnt from this subject.
    """

    subject: str
    windows: int
    compared: int
    only_live: int
    only_offline: int
    changed_labels: int
    max_probability_difference: float
    live: Scores | None
    maybe_trained_on: bool

    @property
    def equal(self) -> bool:
        """Whether live use is what was evaluated."""
        within = self.max_probability_difference <= TOLERANCE
        return within and self.compared > 0 and not (self.only_live or self.only_offline or self.changed_labels)


def default_subjects(bundle: Bundle, dataset: Dataset) -> tuple[str, ...]:
    """Subjects that the training held out and the dataset has; all of the dataset where there is none of them."""
    everybody = dataset.subjects()
    if bundle.manifest.training.dataset != dataset.name:
        return everybody
    return tuple(subject for subject in everybody if subject in bundle.manifest.training.held_out) or everybody


def maybe_trained_on(bundle: Bundle, dataset: Dataset, subjects: Sequence[str]) -> tuple[str, ...]:
    """Those subjects that the bundle may have learnt from: of the same kind of dataset, and not known as held out."""
    training = bundle.manifest.training
    if training.dataset != dataset.name:
        return ()
    return tuple(subject for subject in subjects if subject not in training.held_out)


def evaluate(
    bundle: Bundle, engine: OnnxEngine, dataset: Dataset, subjects: Sequence[str], *, any_labels: bool = False
) -> Evaluation:
    """Answers of the engine on the labelled windows of these subjects, scaled causally as live.

    any_labels: take the dataset's classes for the bundle's in the same order, whatever their names.

    Raises BundleMismatchError where the dataset's classes are not the bundle's, DataError where no window can be
    judged.
    """
    _require_labels(bundle, dataset, any_labels)
    table = _cut(bundle, dataset, subjects)
    x, usable = table.scaled("causal")
    if not usable.any():
        raise DataError(f"no window of {', '.join(subjects)} can be judged: quality or history never suffices")
    kept = table.select(usable)
    probabilities = softmax(engine.predict(x[usable]))
    return Evaluation(
        subjects=tuple(subjects),
        maybe_trained_on=maybe_trained_on(bundle, dataset, subjects),
        precision=engine.precision,
        labels=bundle.manifest.labels,
        dataset_labels=dataset.labels,
        abstained=int(np.count_nonzero(~usable)),
        scores=score(kept.labels, probabilities, kept.subjects),
    )


def compare_live(
    bundle: Bundle, engine: OnnxEngine, dataset: Dataset, subject: str, decisions: Path, *, any_labels: bool = False
) -> Comparison:
    """Hold the decisions that `edgepain run --json` wrote against the windows of the recording they were made on.

    The recording must have been played from its beginning. Raises BundleMismatchError as `evaluate` does, DataError
    where the file holds no decisions of this graph of this bundle.
    """
    _require_labels(bundle, dataset, any_labels)
    live = read_live_decisions(decisions, bundle, engine.precision)
    recording = _only_recording(dataset, subject)
    table = _cut(bundle, _AtStarts(dataset, recording, live.starts_s, bundle.manifest.window.seconds), [subject])
    x, usable = table.scaled("causal")
    offline = np.zeros_like(live.probabilities)
    offline[usable] = softmax(engine.predict(x[usable]))
    both = usable & live.judged
    difference = np.abs(offline[both] - live.probabilities[both])
    labelled = live.judged & (table.labels != UNLABELLED)
    scores = None
    if labelled.any():
        scores = score(table.labels[labelled], live.probabilities[labelled], table.subjects[labelled])
    return Comparison(
        subject=subject,
        windows=len(table),
        compared=int(np.count_nonzero(both)),
        only_live=int(np.count_nonzero(live.judged & ~usable)),
        only_offline=int(np.count_nonzero(usable & ~live.judged)),
        changed_labels=int(
            np.count_nonzero(offline[both].argmax(axis=1) != live.probabilities[both].argmax(axis=1)),
        ),
        max_probability_difference=float(difference.max()) if difference.size else 0.0,
        live=scores,
        maybe_trained_on=bool(maybe_trained_on(bundle, dataset, [subject])),
    )


def _cut(bundle: Bundle, dataset: Dataset, subjects: Sequence[str]) -> WindowTable:
    manifest = bundle.manifest
    modalities = manifest.network.modalities
    return cut_table(
        dataset, modalities, spec=manifest.window_spec, scaling_spec=manifest.scaling_spec, subjects=subjects
    )


def _require_labels(bundle: Bundle, dataset: Dataset, any_labels: bool) -> None:
    ours, theirs = bundle.manifest.labels, dataset.labels
    if ours == theirs:
        return
    if len(ours) != len(theirs):
        remedy = "choose the reader's options so that the classes agree"
    elif sorted(ours) == sorted(theirs):
        remedy = "in another order, so that each would count as the other; swap them in the reader's options"
    elif any_labels:
        return
    else:
        remedy = "choose the reader's options so that the names agree, or take them for the same with --any-labels"
    raise BundleMismatchError(
        f"bundle {bundle.manifest.name!r} tells {' / '.join(ours)} apart, the dataset {' / '.join(theirs)}; {remedy}"
    )


def _only_recording(dataset: Dataset, subject: str) -> Recording:
    if subject not in dataset.subjects():
        raise ConfigError(f"the dataset has no subject {subject!r}")
    recordings = list(dataset.recordings(subject))
    if len(recordings) != 1:
        raise DataError(f"{subject} has {len(recordings)} recordings; live decisions are compared with one")
    return recordings[0]


class _AtStarts(Dataset):
    """One recording of another dataset, with one event for each window of a live session."""

    name: ClassVar[str] = "live windows"
    ordered: ClassVar[bool] = True

    def __init__(self, dataset: Dataset, played: Recording, starts_s: npt.NDArray[np.float64], seconds: float) -> None:
        super().__init__()
        self.labels, self.modalities, self.holdouts = dataset.labels, dataset.modalities, {}
        self.placement = Placement(max_per_event=1)
        self._played, self._starts_s, self._seconds = played, starts_s, seconds

    def subjects(self) -> tuple[str, ...]:
        """The one subject."""
        return (self._played.subject,)

    def recordings(self, subject: str) -> Iterator[Recording]:
        """The one recording; a window has the label of the event that it lies in wholly."""
        played = self._played
        events = tuple(
            Event(
                "window",
                _label_of(played.events, start_s, start_s + self._seconds),
                start_s,
                start_s + self._seconds,
            )
            for start_s in self._starts_s.tolist()
        )
        yield Recording(played.subject, played.name, played.signals, events)


def _label_of(events: Sequence[Event], start_s: float, end_s: float) -> int:
    for event in events:
        if event.start_s <= start_s and end_s <= event.end_s:
            return event.label
    return UNLABELLED
