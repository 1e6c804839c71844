"""Scores of every model of a run, from what the models said of held-out windows."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from edgepain.bundle import Scaling
from edgepain.train.answers import Answers
from edgepain.train.files import write_text_atomically
from edgepain.train.metrics import Scores, score
from edgepain.train.run import Run


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scores of one model on held-out subjects.

    missing: a modality that was taken away from the windows, empty for none. left_out: windows that this scaling
    could not use. pooled: over the windows of all folds and seeds together. folds: of each fold.
    """

    model: str
    scaling: Scaling
    missing: str
    left_out: int
    pooled: Scores
    folds: dict[str, Scores]


class Results(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `results.json` holds. labels: class names, in the order of `Scores.missing_classes`' indices.

    unfinished: tasks without answers; the scores are over the others.
    """

    protocol: str
    labels: tuple[str, ...]
    unfinished: tuple[str, ...]
    rows: tuple[Result, ...]


def grouped(answers: Sequence[Answers]) -> dict[tuple[str, Scaling, str], list[Answers]]:
    """Answers by model, scaling and missing modality, in the order in which these come first."""
    groups: dict[tuple[str, Scaling, str], list[Answers]] = {}
    for each in answers:
        groups.setdefault((each.model, each.scaling, each.missing), []).append(each)
    return groups


def write_results(run: Run) -> Results:
    """Score all answers of a run and write results.json."""
    rows = []
    for (model, scaling, missing), parts in grouped(run.answers()).items():
        labels, subjects = (np.concatenate([getattr(p, name) for p in parts]) for name in ("labels", "subjects"))
        pooled = score(labels, np.concatenate([p.probabilities for p in parts]), subjects)
        folds = {p.fold: score(p.labels, p.probabilities, p.subjects) for p in parts}
        rows.append(Result(model, scaling, missing, sum(p.left_out for p in parts), pooled, folds))
    results = Results(run.protocol, run.labels, tuple(run.unfinished()), tuple(rows))
    text = msgspec.json.format(msgspec.json.encode(results), indent=2).decode()
    write_text_atomically(run.folder / "results.json", text + "\n")
    return results
