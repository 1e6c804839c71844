"""Scores of every model of a run, from what the models said of held-out windows."""

from __future__ import annotations

import msgspec
import pandas as pd

from edgepain.bundle import Scaling
from edgepain.train.files import write_text_atomically
from edgepain.train.metrics import Scores, score
from edgepain.train.run import Run
from edgepain.train.statistics import by_condition, fold_scores, join, summarise


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scores of one model on held-out subjects.

    missing: a modality that was taken away from the windows, empty for none. left_out: windows that this scaling
    could not use. pooled: over the windows of all folds and seeds together. folds: of each fold. mean, sd: over folds,
    see `edgepain.train.statistics.Summary`; folds that lack a class are not in them.
    """

    model: str
    scaling: Scaling
    missing: str
    left_out: int
    pooled: Scores
    folds: dict[str, Scores]
    mean: dict[str, float | None]
    sd: dict[str, float | None]


class Results(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `results.json` holds. labels: class names, in the order of `Scores.missing_classes`' indices.

    unfinished: tasks without answers; the scores are over the others.
    """

    protocol: str
    labels: tuple[str, ...]
    unfinished: tuple[str, ...]
    rows: tuple[Result, ...]


def write_results(run: Run) -> Results:
    """Score all answers of a run and write results.json."""
    rows = []
    for condition, parts in by_condition(run.answers()).items():
        whole = join(parts)
        summary = summarise(condition, parts, fold_scores(parts))
        rows.append(
            Result(
                *condition,
                left_out=whole.left_out,
                pooled=score(whole.labels, whole.probabilities, whole.subjects),
                folds={p.fold: score(p.labels, p.probabilities, p.subjects) for p in parts},
                mean=_without_nan(summary.mean),
                sd=_without_nan(summary.sd),
            )
        )
    results = Results(run.protocol, run.labels, tuple(run.unfinished()), tuple(rows))
    text = msgspec.json.format(msgspec.json.encode(results), indent=2).decode()
    write_text_atomically(run.folder / "results.json", text + "\n")
    return results


def _without_nan(values: pd.Series) -> dict[str, float | None]:
    return {str(name): None if pd.isna(value) else float(value) for name, value in values.items()}
