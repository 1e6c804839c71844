"""What a report is written from, and what is worked out of it once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from edgepain.bundle import Scaling
from edgepain.errors import DataError
from edgepain.train.answers import Answers
from edgepain.train.config import RunConfig
from edgepain.train.report.text import printable
from edgepain.train.statistics import Condition, Summary, by_condition, fold_scores, summarise

if TYPE_CHECKING:
    from edgepain.train.stage import EpochMetrics

MAIN = "crossmod"
TEMPERED = f"{MAIN}+temperature"


class ReportableRun(Protocol):
    """A run as a report sees it; `edgepain.train.run.Run` is one.

    labels: class names. synthetic: the subjects are simulated. scaling: what training used. protocol: in words.
    environment: what `environment.json` holds.
    """

    @property
    def folder(self) -> Path: ...
    @property
    def config(self) -> RunConfig: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def synthetic(self) -> bool: ...
    @property
    def scaling(self) -> Scaling: ...
    @property
    def protocol(self) -> str: ...
    @property
    def environment(self) -> Mapping[str, Any]: ...

    def answers(self) -> list[Answers]:
        """Of all folds, models, scalings and conditions that are finished."""

    def unfinished(self) -> list[str]:
        """Folds and models that are not."""

    def curves(self) -> dict[str, dict[str, list[EpochMetrics]]]:
        """Epochs by fold and stage."""


@dataclass(frozen=True)
class Digest:
    """A run and what follows from its answers. label, slug: names of the run to show and for files."""

    run: ReportableRun
    label: str
    slug: str
    answers: Mapping[Condition, list[Answers]]
    scores: Mapping[Condition, pd.DataFrame]
    summaries: Mapping[Condition, Summary]
    unfinished: tuple[str, ...]

    def trained(self, model: str) -> Condition:
        """The condition that this model was trained for: its own scaling, nothing missing."""
        return Condition(model, self.run.scaling, "")

    @property
    def models(self) -> tuple[str, ...]:
        """Models with answers under the conditions of training: stages by modality, peers, the whole network."""
        found = [c.model for c in self.answers if c == self.trained(c.model)]
        return tuple(sorted(found, key=self._order))

    @property
    def main(self) -> str:
        """The model that others are compared with."""
        return MAIN if MAIN in self.models else self.models[-1]

    @property
    def subject_order(self) -> tuple[str, ...]:
        """Subjects with answers, sorted by name."""
        return tuple(sorted({str(s) for m in self.models for a in self.answers[self.trained(m)] for s in a.subjects}))

    @property
    def what(self) -> str:
        """Run, data and protocol in one line: the head of every table and picture."""
        data = "synthetic (simulated people)" if self.run.synthetic else "recorded people"
        return printable(f"{self.label}: {self.run.config.dataset}, {data}; {self.run.protocol}")

    @property
    def short_protocol(self) -> str:
        """The protocol's name where there is no room for `what`."""
        chosen = ", EPOCH CHOSEN ON THE TEST FOLD" if self.run.config.epoch_choice == "test-fold" else ""
        return printable(self.run.config.protocol) + chosen

    @property
    def short(self) -> str:
        """`what` where there is little room."""
        return f"{self.label} ({self.short_protocol}{', synthetic' if self.run.synthetic else ''})"

    def _order(self, model: str) -> tuple[int, int, str]:
        stages = [f"{kind}.{m}" for m in self.run.config.modalities for kind in ("fcn", "alstm", "transformer")]
        if model in stages:
            return 0, stages.index(model), ""
        return (2 if model in (MAIN, TEMPERED) else 1), 0, model


def digests(runs: Sequence[ReportableRun]) -> Iterator[Digest]:
    """Digests of runs, under different names. Raises DataError for a run without answers to report on."""
    labels: list[str] = []
    slugs: list[str] = []
    for run in runs:
        answers = by_condition(run.answers())
        if not any(c.scaling == run.scaling and not c.missing for c in answers):
            raise DataError(
                f"{run.folder} has no answers to held-out windows under {run.scaling} scaling, which it was trained "
                f"with; go on with: edgepain train --resume {run.folder}"
            )
        scores = {condition: fold_scores(said) for condition, said in answers.items()}
        summaries = {c: summarise(c, said, scores[c]) for c, said in answers.items()}
        name = printable(run.folder.resolve().name) or "run"
        labels.append(_unlike(name, labels, " ({})"))
        slugs.append(_unlike(re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.") or "run", slugs, "-{}"))
        yield Digest(run, labels[-1], slugs[-1], answers, scores, summaries, tuple(run.unfinished()))


def _unlike(name: str, taken: Sequence[str], suffix: str) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = name + suffix.format(number)
    return free
