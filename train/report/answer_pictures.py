"""Pictures of answers: confusion matrices, ROC curves, reliability."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn import metrics

from edgepain.train.answers import Answers
from edgepain.train.metrics import BINS, reliability
from edgepain.train.report.drawing import (
    BLUE,
    WIDTH_IN,
    Picture,
    as_svg,
    canvas,
    colour,
    drawable,
    line_style,
    percent_axis,
)
from edgepain.train.report.source import TEMPERED, Digest
from edgepain.train.report.text import model_name, percent
from edgepain.train.statistics import join

_COLUMNS = 4


def confusions(digest: Digest) -> Picture:
    """How many windows of each class were given which."""
    models = [model for model in digest.models if model != TEMPERED]
    columns = min(_COLUMNS, len(models))
    rows = math.ceil(len(models) / columns)
    classes = len(digest.run.labels)
    with canvas(WIDTH_IN, 2.35 * rows + 0.3) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(models) :]:
            axes.set_axis_off()
        for place, model in enumerate(models):
            pooled = _pooled(digest, model)
            predicted = pooled.probabilities.argmax(axis=1)
            matrix = metrics.confusion_matrix(pooled.labels, predicted, labels=range(classes))
            axes = grid.flat[place]
            _confusion(axes, matrix, [drawable(label, 12) for label in digest.run.labels])
            axes.set_title(_name(digest, model))
            if place % columns:
                axes.set_yticklabels([])
        figure.supxlabel("answer", fontsize=10)
        figure.supylabel("class", fontsize=10)
        svg = as_svg(figure)
    return Picture(
        f"{digest.slug}-confusion",
        "Confusion",
        f"{digest.what}. Share of each class's windows (a row adds up to 100 %) and their number, all folds and seeds "
        f"together: {_windows(digest)}. FAT: FCN-ALSTM-Transformer.",
        svg,
    )


def rocs(digest: Digest) -> Picture:
    """ROC curves over all windows: one panel, or for three classes one a class against the others."""
    labels = digest.run.labels
    positives = [1] if len(labels) == 2 else list(range(len(labels)))
    panels = len(positives)
    single = digest.summaries[digest.trained(digest.main)].folds == 1
    with canvas(WIDTH_IN, 4.6 if panels == 1 else 3.3 + 0.165 * len(digest.models)) as figure:
        grid = figure.subplots(1, panels, squeeze=False)[0]
        for axes, positive in zip(grid, positives, strict=True):
            axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
            for model in digest.models:
                if model != TEMPERED:
                    _roc(axes, digest, model, positive)
            percent_axis(axes, "x", "1 − specificity, %")
            percent_axis(axes, "y", "sensitivity, %" if axes is grid[0] else "")
            axes.set_aspect("equal", anchor="N")
            axes.set_title(f"{drawable(labels[positive])} against the rest" if panels > 1 else drawable(labels[1]))
        _roc_legend(figure, grid, panels)
        svg = as_svg(figure)
    return Picture(
        f"{digest.slug}-roc",
        "ROC",
        f"{digest.what}. All windows of all folds and seeds together: {_windows(digest)}; AUC in per cent"
        f"{'' if single else ', which is not the mean over folds of the table'}. FAT: FCN-ALSTM-Transformer.",
        svg,
    )


def reliabilities(digest: Digest) -> Picture:
    """How sure the main model was and how often it was right, before and after the temperature."""
    models = [digest.main] + [m for m in digest.models if m == TEMPERED and digest.main != TEMPERED]
    with canvas(WIDTH_IN if len(models) > 1 else 4.4, 4.8) as figure:
        grid = figure.subplots(2, len(models), squeeze=False, height_ratios=[3, 1], sharex="col")
        for column, model in enumerate(models):
            _reliability(grid[0, column], grid[1, column], _pooled(digest, model), len(digest.run.labels))
            grid[0, column].set_title(_name(digest, model) + grid[0, column].get_title())
        svg = as_svg(figure)
    return Picture(
        f"{digest.slug}-reliability",
        "Reliability",
        f"{digest.what}. Windows by the probability of the answer, in {BINS} bins of equal width; a model that knows "
        f"how sure it is has its bars end on the line. ECE: expected calibration error. {_windows(digest)}, all folds "
        "and seeds together." + ("" if len(models) > 1 else " No temperature was fitted in this run."),
        svg,
    )


def _confusion(axes: Axes, matrix: npt.NDArray[np.int64], labels: list[str]) -> None:
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (truth, answer), share in np.ndenumerate(shares):
        text = f"{percent(share, 0)} %\n{matrix[truth, answer]}"
        axes.text(answer, truth, text, ha="center", va="center", color="white" if share > 0.55 else "black", fontsize=9)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks(range(len(labels)), labels, fontsize=9)
    axes.set_yticks(range(len(labels)), labels, fontsize=9, rotation=90, va="center")


def _roc(axes: Axes, digest: Digest, model: str, positive: int) -> None:
    pooled = _pooled(digest, model)
    truth = pooled.labels == positive
    if truth.all() or not truth.any():
        return
    false, true, _ = metrics.roc_curve(truth, pooled.probabilities[:, positive])
    label = f"{_name(digest, model)}: {percent(float(metrics.auc(false, true)))}"
    axes.plot(false, true, color=colour(digest, model), linestyle=line_style(digest, model), linewidth=1.6, label=label)


def _roc_legend(figure: Figure, grid: npt.NDArray[np.object_], panels: int) -> None:
    if panels == 1:
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside right upper", title="AUC, %")
        return
    for axes in grid:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), title="AUC, %", fontsize=8)


def _reliability(above: Axes, below: Axes, pooled: Answers, classes: int) -> None:
    result = reliability(pooled.labels, pooled.probabilities)
    edges = np.linspace(0, 1, BINS + 1)
    above.bar(
        edges[:-1], np.nan_to_num(result.accuracy), 1 / BINS, align="edge", color=BLUE, alpha=0.8, edgecolor="white"
    )
    above.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle="--")
    above.set_title(f": ECE {percent(result.ece)} %")
    percent_axis(above, "y", "right answers, %")
    below.bar(edges[:-1], result.counts, 1 / BINS, align="edge", color="#7F7F7F", edgecolor="white")
    below.set_ylabel("windows")
    percent_axis(below, "x", "probability of the answer, %")
    below.set_xlim(math.floor(BINS / classes) / BINS, 1)


def _pooled(digest: Digest, model: str) -> Answers:
    return join(digest.answers[digest.trained(model)])


def _windows(digest: Digest) -> str:
    summary = digest.summaries[digest.trained(digest.main)]
    seeds = f" × {summary.seeds} seeds" if summary.seeds > 1 else ""
    return f"n = {summary.windows:g} windows{seeds} of {summary.subjects} subjects"


def _name(digest: Digest, model: str) -> str:
    return drawable(model_name(model, digest.run.config.modalities, short=True))
