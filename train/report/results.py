"""Tables of scores: over folds, over all windows, and of single subjects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from edgepain.train.report.source import Digest
from edgepain.train.report.table import Table
from edgepain.train.report.text import (
    NONE,
    count,
    interval,
    listed,
    model_parts,
    percent,
    printable,
    with_sd,
)
from edgepain.train.statistics import METRICS, Summary, subject_scores

HEADINGS = {
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "precision": "Precision",
    "f1": "F1",
    "auc": "AUC",
    "balanced_accuracy": "Balanced acc.",
    "ece": "ECE",
}
_OVER_FOLDS = tuple(name for name in METRICS if name != "ece")
_ECE = (
    "ECE: expected calibration error in 15 bins of equal width on the probability of the answer, over all windows at "
    "once (in a fold of few windows it would be large by chance)."
)
_MACRO = "Sensitivity, specificity, precision, F1 and AUC are means over the three classes, each against the rest."


def main_table(digest: Digest) -> Table:
    """Every model as it was trained: mean ± SD over folds."""
    summaries = [digest.summaries[digest.trained(model)] for model in digest.models]
    shown = []
    for summary in summaries:
        row = model_cells(digest, summary.condition.model) | {"Folds": str(summary.folds)}
        for name in _OVER_FOLDS:
            row[HEADINGS[name]] = with_sd(summary.mean[name], summary.sd[name])
            if name == "f1":
                row["F1 95 % CI"] = interval(summary.f1_interval)
        shown.append(row | {"ECE": percent(summary.pooled["ece"])})
    return Table(
        f"{digest.slug}-results",
        "Results",
        digest.what,
        pd.DataFrame(shown),
        pd.DataFrame([raw_row(digest, summary) for summary in summaries]),
        _main_notes(digest, summaries),
    )


def pooled_table(digest: Digest) -> Table | None:
    """Scores over all windows at once, and what another seed changes; None where that is the main table again."""
    summaries = [digest.summaries[digest.trained(model)] for model in digest.models]
    if all(summary.folds == 1 and summary.seeds == 1 and not summary.one_class for summary in summaries):
        return None
    shown = []
    for summary in summaries:
        row = model_cells(digest, summary.condition.model) | {"Windows": count(summary.windows)}
        row |= {HEADINGS[name]: percent(summary.pooled[name]) for name in METRICS}
        if summary.seeds > 1:
            row |= {f"{HEADINGS[n]}: SD of seeds": percent(summary.seed_sd[n]) for n in ("accuracy", "f1")}
        shown.append(row)
    notes = ["All held-out windows at once, per cent; with several seeds, the mean over seeds."]
    if any(summary.seeds > 1 for summary in summaries):
        notes.append("SD of seeds: of the seeds' means, n − 1. It says how much chance decides.")
    raw = pd.DataFrame([raw_row(digest, summary) for summary in summaries])
    raw = raw.drop(columns=["f1_ci_low", "f1_ci_high", *(f"{m}_{s}" for m in METRICS for s in ("mean", "sd"))])
    return Table(
        f"{digest.slug}-pooled", "All windows at once", digest.what, pd.DataFrame(shown).fillna(NONE), raw, tuple(notes)
    )


def subject_table(digest: Digest) -> Table:
    """Accuracy and F1 of each held-out subject under every model as it was trained."""
    modalities = digest.run.config.modalities
    shown = pd.DataFrame(index=pd.Index(digest.subject_order, name="Subject"))
    parts = []
    for model in digest.models:
        scores = subject_scores(digest.answers[digest.trained(model)])
        if "Windows" not in shown:
            shown["Windows"] = scores["windows"].reindex(shown.index)
        heading = " ".join(model_parts(model, modalities))
        cells = [f"{percent(a, 1)} / {percent(f, 1)}" for a, f in zip(scores["accuracy"], scores["f1"], strict=True)]
        shown[heading] = pd.Series(cells, scores.index)
        parts.append(scores.reset_index().assign(model=model))
    shown["Windows"] = shown["Windows"].map(lambda n: NONE if pd.isna(n) else count(n))
    shown = shown.fillna(NONE).reset_index()
    shown["Subject"] = shown["Subject"].map(printable)
    raw = pd.concat(parts, ignore_index=True)
    for position, (name, value) in enumerate(run_columns(digest).items()):
        raw.insert(position, name, value)
    notes = (
        "Accuracy / F1 in per cent, averaged over seeds; F1 is n/a where a subject has no window of some class. "
        f"Windows: of {' '.join(model_parts(digest.models[0], modalities))}.",
    )
    return Table(f"{digest.slug}-subjects", "Single subjects", digest.what, shown, raw, notes)


def raw_row(digest: Digest, summary: Summary) -> dict[str, Any]:
    """Everything about one condition in plain numbers."""
    low, high = summary.f1_interval or (None, None)
    row: dict[str, Any] = {
        **run_columns(digest),
        "model": summary.condition.model,
        "scaling": summary.condition.scaling,
        "missing": summary.condition.missing,
        "folds": summary.folds,
        "folds_without_a_class": len(summary.one_class),
        "seeds": summary.seeds,
        "subjects": summary.subjects,
        "windows": summary.windows,
        "left_out": summary.left_out,
        "f1_ci_low": low,
        "f1_ci_high": high,
    }
    for name in METRICS:
        row |= {f"{name}_mean": summary.mean[name], f"{name}_sd": summary.sd[name]}
        row |= {f"{name}_pooled": summary.pooled[name], f"{name}_seed_sd": summary.seed_sd[name]}
    return row


def run_columns(digest: Digest) -> dict[str, str]:
    """What every row of a file for programs begins with."""
    return {
        "run": digest.label,
        "dataset": printable(digest.run.config.dataset),
        "data": "synthetic" if digest.run.synthetic else "recorded",
        "protocol": printable(digest.run.protocol),
    }


def model_cells(digest: Digest, model: str) -> dict[str, str]:
    """What every row of a shown table begins with."""
    modality, name = model_parts(model, digest.run.config.modalities)
    return {"Modality": modality, "Model": name}


def _main_notes(digest: Digest, summaries: Sequence[Summary]) -> tuple[str, ...]:
    first = summaries[0]
    notes = [f"Per cent. Scaling of the windows: {digest.run.scaling}, as in training."]
    if any(summary.folds > 1 for summary in summaries):
        notes[0] += " Mean ± SD (n − 1) over folds; 95 % confidence interval of the mean F1 by Student's t over folds."
    else:
        notes[0] += " One fold: there is no SD and no confidence interval over folds."
    seeds = max(summary.seeds for summary in summaries)
    if first.redrawn:
        notes.append(
            f"{seeds} seeds, each with folds of its own: the SD is over all of them, the confidence interval counts "
            "the folds of one seed, for judging the same people again is no new evidence."
        )
    elif seeds > 1:
        notes.append(
            f"{seeds} seeds: a fold is averaged over its seeds first, for judging the same people again is no new "
            "evidence."
        )
    if first.one_class:
        notes.append(
            f"Folds without a window of some class: {len(first.one_class)} ({listed(first.one_class)}). They have no "
            "scores of their own; their windows count in the figures over all windows."
        )
    if len(digest.run.labels) > 2:
        notes.append(_MACRO)
    return (*notes, _ECE)
