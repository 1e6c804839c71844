"""What a wrist needs to know: the other scaling, a missing modality, the temperature, and other runs."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from edgepain.train.report.results import model_cells, raw_row, run_columns
from edgepain.train.report.source import MAIN, TEMPERED, Digest
from edgepain.train.report.table import Table
from edgepain.train.report.text import count, interval, model_name, percent, printable, signed, with_sd
from edgepain.train.statistics import Condition, Summary


def conditions_table(digest: Digest) -> Table:
    """Every model under every condition, beside the one that it was trained for."""
    conditions = [c for model in digest.models for c in _of_model(digest, model)]
    shown, raw = [], []
    for condition in conditions:
        summary = digest.summaries[condition]
        trained = digest.summaries[digest.trained(condition.model)]
        change = None if summary is trained else summary.mean["f1"] - trained.mean["f1"]
        shown.append(
            model_cells(digest, condition.model)
            | _condition_cells(digest, condition)
            | {"Windows": count(summary.windows), "Left out": count(summary.left_out)}
            | _score_cells(summary)
            | {"Δ F1": "" if change is None else signed(change)}
        )
        raw.append(raw_row(digest, summary))
    return Table(
        f"{digest.slug}-conditions",
        "Scaling, missing modality, temperature",
        digest.what,
        pd.DataFrame(shown),
        pd.DataFrame(raw),
        (
            "Per cent, mean ± SD over folds where there are several; ECE over all windows. Δ F1: points against the "
            "first row of the model, which is how it was trained.",
            "Subject scaling uses all windows of a person, past and future; causal scaling only what came before the "
            "window, which is all that a live wearable has. Left out: windows that a scaling cannot use (quality or "
            "history), so the two may judge different windows.",
            "A missing modality is all 0 in the scaled window; in training the fusion met such windows with a chance "
            f"of {digest.run.config.train.modality_dropout:g} (modality dropout)."
            + ("" if TEMPERED in digest.models else " No temperature was fitted in this run."),
        ),
    )


def joint_table(digests: Sequence[Digest]) -> Table:
    """The main model of every run under every condition, one below the other."""
    shown, raw = [], []
    for digest in digests:
        for model in [m for m in digest.models if m in (digest.main, MAIN, TEMPERED)]:
            for condition in _of_model(digest, model):
                summary = digest.summaries[condition]
                shown.append(
                    {"Run": digest.label, **_run_cells(digest)}
                    | {"Model": model_name(model.partition("+")[0], digest.run.config.modalities, short=True)}
                    | _condition_cells(digest, condition)
                    | _score_cells(summary)
                    | {"F1 95 % CI": interval(summary.f1_interval)}
                )
                raw.append(
                    run_columns(digest)
                    | {"window_s": digest.run.config.train.window.seconds, "fusion": digest.run.config.train.fusion}
                    | raw_row(digest, summary)
                )
    notes = [
        "Per cent, mean ± SD over folds where there are several; ECE over all windows. Runs may differ in more than "
        "one setting."
    ]
    what = f"{len(digests)} runs: " + "; ".join(d.short for d in digests)
    return Table("all-runs", "Every condition of every run", what, pd.DataFrame(shown), pd.DataFrame(raw), tuple(notes))


def _of_model(digest: Digest, model: str) -> list[Condition]:
    """Conditions with answers: that of training first, the other scaling, then with a modality missing."""
    found = [c for c in digest.summaries if c.model == model]
    return sorted(found, key=lambda c: (c.missing != "", c.missing, c.scaling != digest.run.scaling))


def _condition_cells(digest: Digest, condition: Condition) -> dict[str, str]:
    trained = " (trained)" if condition.scaling == digest.run.scaling else ""
    return {
        "Scaling": condition.scaling + trained,
        "Missing": printable(condition.missing.upper()) or "none",
        "Temperature": "yes" if condition.model == TEMPERED else "no",
    }


def _score_cells(summary: Summary) -> dict[str, str]:
    return {
        "Accuracy": with_sd(summary.mean["accuracy"], summary.sd["accuracy"]),
        "F1": with_sd(summary.mean["f1"], summary.sd["f1"]),
        "AUC": with_sd(summary.mean["auc"], summary.sd["auc"]),
        "ECE": percent(summary.pooled["ece"]),
    }


def _run_cells(digest: Digest) -> dict[str, str]:
    config = digest.run.config
    return {
        "Data": f"{config.dataset}, {'synthetic' if digest.run.synthetic else 'recorded'}",
        "Protocol": digest.short_protocol,
        "Window, s": f"{config.train.window.seconds:g}",
        "Fusion": config.train.fusion,
        "Folds": str(digest.summaries[digest.trained(digest.main)].folds),
        "Seeds": str(len(config.seeds)),
    }
