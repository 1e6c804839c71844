"""Pictures of scores over folds and subjects: violins of F1 (the paper's Fig. 4), bars of accuracy (Fig. 3), people."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from edgepain.train.report.beside import printed_table
from edgepain.train.report.drawing import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    WIDTH_IN,
    Picture,
    as_svg,
    canvas,
    colour,
    drawable,
    percent_axis,
)
from edgepain.train.report.source import TEMPERED, Digest
from edgepain.train.report.text import model_name, percent
from edgepain.train.statistics import over_seeds, subject_scores

_MARKERS = "osD^vPX*"
_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, GREY)
# Fewer points than this make a shape that is not in them.
_MIN_VIOLIN = 5


def violins(digest: Digest) -> Picture | None:
    """F1 of every fold under every model; None where no model has two folds."""
    models = _shown(digest)
    values = [over_seeds(digest.scores[digest.trained(model)])["f1"].to_numpy() for model in models]
    if max(v.size for v in values) < 2:
        return None
    with canvas(max(WIDTH_IN, 0.95 * len(models)), 4.2) as figure:
        axes = figure.subplots()
        for place, (model, f1) in enumerate(zip(models, values, strict=True)):
            _violin(axes, place, f1, colour(digest, model))
        _model_ticks(axes, digest, models, [v.size for v in values])
        percent_axis(axes, "y", "F1, %")
        axes.set_ylim(-0.02, 1.02)
        svg = as_svg(figure)
    unit = "subjects, each left out once" if digest.run.config.protocol == "loso" else "folds"
    return Picture(
        f"{digest.slug}-violins",
        "F1 of every fold (as Fig. 4 of the paper)",
        f"{digest.what}. A point is the F1 of one fold, averaged over seeds; n: number of {unit} with windows of every "
        "class. Violin: density between the smallest and largest value. White: median; black bar: quartiles.",
        svg,
    )


def bars(digest: Digest) -> Picture:
    """Mean accuracy of every model, with the paper's where it has one."""
    models = _shown(digest)
    printed, _ = printed_table(digest.run)
    with canvas(WIDTH_IN, 0.36 * len(models) + 1.4) as figure:
        axes = figure.subplots()
        for place, model in enumerate(models):
            summary = digest.summaries[digest.trained(model)]
            mean, sd = (summary.mean if summary.folds else summary.pooled)["accuracy"], summary.sd["accuracy"]
            axes.barh(place, mean, 0.62, color=colour(digest, model), alpha=0.85)
            if not np.isnan(sd):
                axes.errorbar(mean, place, xerr=sd, color="black", capsize=3, linewidth=1)
            axes.text(0.01, place, percent(mean), va="center", color="white", weight="bold")
            if printed and model in printed.rows:
                accuracy = printed.rows[model].scores["accuracy"][0] / 100
                axes.plot(accuracy, place, "D", color="white", markeredgecolor="black", markersize=6)
        most = _largest_class(digest)
        axes.axvline(most, color="black", linewidth=1, linestyle=":")
        axes.set_yticks(range(len(models)), [_name(digest, model) for model in models])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        percent_axis(axes, "x", "accuracy, %")
        axes.set_xlim(0, 1.02)
        svg = as_svg(figure)
    paper = f" Diamond: as {printed.name} of the paper prints it." if printed else ""
    folds = digest.summaries[digest.trained(digest.main)].folds
    bar = f"Bar: mean over folds, whisker: ± SD (n = {folds})." if folds > 1 else "Bar: the one fold."
    return Picture(
        f"{digest.slug}-accuracy",
        "Accuracy (as Fig. 3 of the paper)",
        f"{digest.what}. {bar}{paper} Dotted line: {percent(most)} %, what always naming the "
        "largest class would reach. FAT: FCN-ALSTM-Transformer.",
        svg,
    )


def runs_accuracy(digests: Sequence[Digest]) -> Picture:
    """Accuracy of every model in several runs, side by side."""
    names: dict[str, None] = {}
    for digest in digests:
        names |= dict.fromkeys(_name(digest, model) for model in _shown(digest))
    rows = list(names)
    with canvas(WIDTH_IN, 0.3 * len(rows) + 0.22 * len(digests) + 1.4) as figure:
        axes = figure.subplots()
        for number, digest in enumerate(digests):
            offset = (number - (len(digests) - 1) / 2) * 0.7 / len(digests)
            for model in _shown(digest):
                summary = digest.summaries[digest.trained(model)]
                mean, sd = summary.mean["accuracy"], summary.sd["accuracy"]
                place = rows.index(_name(digest, model)) + offset
                axes.errorbar(
                    mean,
                    place,
                    xerr=None if np.isnan(sd) else sd,
                    fmt=_MARKERS[number % len(_MARKERS)],
                    color=_COLOURS[number % len(_COLOURS)],
                    capsize=2,
                    linewidth=1,
                )
        handles = [
            Line2D(
                [], [], color=_COLOURS[n % 5], marker=_MARKERS[n % 8], linestyle="", label=drawable(digest.short, 90)
            )
            for n, digest in enumerate(digests)
        ]
        figure.legend(handles=handles, loc="outside upper left")
        axes.set_yticks(range(len(rows)), rows)
        axes.invert_yaxis()
        percent_axis(axes, "x", "accuracy, %")
        axes.set_xlim(0, 1.02)
        svg = as_svg(figure)
    return Picture(
        "all-runs-accuracy",
        "Accuracy of all runs",
        "Mean, and ± SD over folds where there are several. " + " ".join(f"{digest.what}." for digest in digests),
        svg,
    )


def subjects(digest: Digest) -> Picture:
    """Accuracy of every held-out subject under the main model and, where there are such, under one modality."""
    modalities = digest.run.config.modalities
    models = [m for m in (*(f"transformer.{x}" for x in modalities), digest.main) if m in digest.models]
    scores = {m: subject_scores(digest.answers[digest.trained(m)])["accuracy"] for m in models}
    order = scores[digest.main].sort_values(kind="stable").index
    height = min(max(0.17 * len(order), 1.2), 20) + 1.3
    with canvas(WIDTH_IN, height) as figure:
        axes = figure.subplots()
        for model in models:
            accuracy = scores[model].reindex(order)
            whole = model == digest.main
            axes.plot(
                accuracy,
                range(len(order)),
                "o" if whole else ("|", "x")[models.index(model) % 2],
                color=colour(digest, model),
                markersize=6 if whole else 7,
                label=f"{_name(digest, model)} (mean {percent(float(accuracy.mean()), 1)} %)",
            )
        axes.set_yticks(range(len(order)), [drawable(str(s), 16) for s in order], fontsize=8)
        axes.set_ylim(-1, len(order))
        axes.set_ylabel("subject")
        percent_axis(axes, "x", "accuracy, %")
        axes.set_xlim(-0.02, 1.02)
        figure.legend(loc="outside upper left", ncols=3)
        svg = as_svg(figure)
    return Picture(
        f"{digest.slug}-people",
        "Single subjects",
        f"{digest.what}. Accuracy of each held-out subject (n = {len(order)}), averaged over seeds, in the order of "
        f"{model_name(digest.main, modalities)}. FAT: FCN-ALSTM-Transformer.",
        svg,
    )


def _violin(axes: Axes, place: int, values: np.ndarray, face: str) -> None:
    if values.size >= _MIN_VIOLIN and np.ptp(values) > 1e-6:
        body = axes.violinplot([values], [place], widths=0.8, showextrema=False)
        for part in body["bodies"]:  # type: ignore[attr-defined]
            part.set(facecolor=face, alpha=0.35, edgecolor=face)
    # Neighbours in rank lie apart, so that equal values can be seen.
    jitter = 0.16 * np.sin(2.4 * np.argsort(np.argsort(values, kind="stable")))
    axes.plot(place + jitter, values, "o", color=face, markersize=3.5, alpha=0.8, markeredgewidth=0)
    if values.size:
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
        axes.plot([place, place], [low, high], color="black", linewidth=3, solid_capstyle="butt")
        axes.plot(place, median, "o", color="white", markeredgecolor="black", markersize=5)


def _model_ticks(axes: Axes, digest: Digest, models: Sequence[str], counts: Sequence[int]) -> None:
    names = [textwrap.fill(_name(digest, model), 10) for model in models]
    labels = [f"{name}\nn = {n}" for name, n in zip(names, counts, strict=True)]
    axes.set_xticks(range(len(models)), labels)
    axes.grid(visible=False, axis="x")


def _shown(digest: Digest) -> list[str]:
    """A temperature changes no answer, so it has no place among accuracies and F1."""
    return [model for model in digest.models if model != TEMPERED] or list(digest.models)


def _name(digest: Digest, model: str) -> str:
    return drawable(model_name(model, digest.run.config.modalities, short=True))


def _largest_class(digest: Digest) -> float:
    labels = np.concatenate([a.labels for a in digest.answers[digest.trained(digest.main)]])
    return float(np.bincount(labels).max() / labels.size)
