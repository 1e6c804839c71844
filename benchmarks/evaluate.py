"""Judge a bundle on labelled recordings offline, and hold live decisions against the same windows.

Windows come from the path that training uses (`cut_table`, causal scaling), not from the live runtime: where both
give the same probabilities, nothing was lost or altered between the sensor and the decision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from edgepain.bundle import Bundle
from edgepain.engine import Engine, softmax
from edgepain.errors import BundleMismatchError, ConfigError, DataError
from edgepain.runtime import Abstention, Decision
from edgepain.signal import Event, Recording
from edgepain.train.datasets.base import Dataset, Placement
from edgepain.train.metrics import Scores, score
from edgepain.train.windows import WindowTable, cut_table

UNLABELLED = -1
# Live and offline may differ by this much in a probability before they count as different.
TOLERANCE = 1e-4


class Evaluation(msgspec.Struct, frozen=True):
    """Scores on the labelled windows that can be judged. abstained: those that cannot (quality or history)."""

    subjects: tuple[str, ...]
    precision: str
    abstained: int
    scores: Scores


class Comparison(msgspec.Struct, frozen=True):
    """Live decisions of one recording beside the offline answers to the same windows.

    windows: all up to the end of play, after which live use waited in vain for samples.
    compared: windows that both judged. only_live, only_offline: windows that only one judged.
    live: scores of the live decisions on labelled windows, None where there is no such window.
    """

    subject: str
    windows: int
    compared: int
    only_live: int
    only_offline: int
    changed_labels: int
    max_probability_difference: float
    live: Scores | None

    @property
    def equal(self) -> bool:
        """Whether live use is what was evaluated."""
        within = self.max_probability_difference <= TOLERANCE
        return within and self.compared > 0 and not (self.only_live or self.only_offline or self.changed_labels)


@dataclass(frozen=True)
class _Live:
    starts_s: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]
    judged: npt.NDArray[np.bool_]


def evaluate(bundle: Bundle, engine: Engine, dataset: Dataset, subjects: Sequence[str]) -> Evaluation:
    """Answers of the engine on the labelled windows of these subjects, scaled causally as live.

    Raises BundleMismatchError where the dataset's classes are others in number than the bundle's, DataError where
    no window can be judged.
    """
    _require_classes(bundle, dataset)
    table = _cut(bundle, dataset, subjects)
    x, usable = table.scaled("causal")
    if not usable.any():
        raise DataError(f"no window of {', '.join(subjects)} can be judged: quality or history never suffices")
    kept = table.select(usable)
    probabilities = softmax(engine.predict(x[usable]))
    abstained = int(np.count_nonzero(~usable))
    return Evaluation(tuple(subjects), engine.precision, abstained, score(kept.labels, probabilities, kept.subjects))


def compare_live(bundle: Bundle, engine: Engine, dataset: Dataset, subject: str, decisions: Path) -> Comparison:
    """Hold the decisions that `edgepain run --json` wrote against the windows of the recording they were made on.

    The recording must have been played from its beginning. Raises DataError where the file holds no decisions of
    this bundle.
    """
    _require_classes(bundle, dataset)
    live = _read_decisions(decisions, bundle.manifest.labels)
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
    )


def _cut(bundle: Bundle, dataset: Dataset, subjects: Sequence[str]) -> WindowTable:
    manifest = bundle.manifest
    modalities = manifest.network.modalities
    return cut_table(dataset, modalities, spec=manifest.window_spec, causal=manifest.causal_spec, subjects=subjects)


def _require_classes(bundle: Bundle, dataset: Dataset) -> None:
    if len(dataset.labels) != len(bundle.manifest.labels):
        raise BundleMismatchError(
            f"bundle {bundle.manifest.name!r} tells {' / '.join(bundle.manifest.labels)} apart, the dataset "
            f"{' / '.join(dataset.labels)}; choose the reader's options so that the classes agree"
        )


def _read_decisions(path: Path, labels: Sequence[str]) -> _Live:
    found: list[Decision] = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); write it with: edgepain run --json") from error
    for number, line in enumerate(lines, 1):
        try:
            if msgspec.json.decode(line, type=_Typed).type != "decision":
                continue
            decision = msgspec.json.decode(line, type=Decision)
        except msgspec.DecodeError as error:
            raise DataError(f"{path}, line {number}: not written by edgepain run --json ({error})") from error
        named = decision.probabilities
        if named is not None and set(named) != set(labels):
            raise DataError(
                f"{path}, line {number}: decided {', '.join(named)}, not {', '.join(labels)}; other bundle?"
            )
        found.append(decision)
    while found and found[-1].abstain is Abstention.NO_DATA:
        found.pop()
    if not found:
        raise DataError(f"{path} holds no decision on any sample; write it with: edgepain run --json")
    named_all = [decision.probabilities or dict.fromkeys(labels, 0.0) for decision in found]
    return _Live(
        np.array([decision.start_s for decision in found]),
        np.array([[named[label] for label in labels] for named in named_all]),
        np.array([decision.probabilities is not None for decision in found]),
    )


def _only_recording(dataset: Dataset, subject: str) -> Recording:
    if subject not in dataset.subjects():
        raise ConfigError(f"the dataset has no subject {subject!r}")
    recordings = list(dataset.recordings(subject))
    if len(recordings) != 1:
        raise DataError(f"{subject} has {len(recordings)} recordings; live decisions are compared with one")
    return recordings[0]


class _Typed(msgspec.Struct):
    type: str


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
