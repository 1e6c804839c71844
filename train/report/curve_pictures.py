"""Learning curves: loss and accuracy in training, median and range over folds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from edgepain.train.report.drawing import BLUE, ORANGE, WIDTH_IN, Picture, as_svg, canvas
from edgepain.train.report.source import Digest

if TYPE_CHECKING:
    from edgepain.train.stage import EpochMetrics


_SHORT = {"fcn": "FCN", "alstm": "ALSTM", "transformer": "FAT"}


def curves(digest: Digest) -> Picture | None:
    """One panel a stage, a row a modality; None for a run without stages."""
    stages = _by_stage(digest.run.curves())
    modalities = [str(m) for m in digest.run.config.modalities]
    if not stages:
        return None
    with canvas(WIDTH_IN, 4.8) as figure:
        grid = figure.subplots(len(modalities), 4, sharey=True, squeeze=False)
        for row, modality in enumerate(modalities):
            for column, kind in enumerate(_SHORT):
                _panel(grid[row, column], f"{modality.upper()} {_SHORT[kind]}", stages.get(f"{kind}.{modality}", []))
        _panel(grid[0, 3], "CrossMod", stages.get("crossmod", []))
        for axes in grid[1:, 3]:
            axes.set_axis_off()
        for axes in grid[:, 0]:
            axes.set_ylabel("loss, accuracy")
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
        figure.supxlabel("epoch", fontsize=10)
        svg = as_svg(figure)
    return Picture(
        f"{digest.slug}-learning",
        "Learning curves",
        f"{digest.what}. Loss (cross-entropy, nats) and accuracy (share) on the training windows as they were seen "
        "(dropout on), not on held-out people. Line: median, band: range, over "
        f"{max(map(len, stages.values()))} trainings (folds × seeds). FAT: FCN-ALSTM-Transformer.",
        svg,
    )


def _by_stage(curves: Mapping[str, Mapping[str, list[EpochMetrics]]]) -> dict[str, list[list[EpochMetrics]]]:
    stages: dict[str, list[list[EpochMetrics]]] = {}
    for fold in curves.values():
        for stage, epochs in fold.items():
            if epochs:
                stages.setdefault(stage, []).append(epochs)
    return stages


def _panel(axes: Axes, title: str, trainings: list[list[EpochMetrics]]) -> None:
    axes.set_title(title)
    axes.set_ylim(0, None)
    if not trainings:
        axes.text(0.5, 0.5, "not trained", ha="center", transform=axes.transAxes)
        return
    length = max(map(len, trainings))
    for name, colour, style in (("loss", BLUE, "-"), ("accuracy", ORANGE, "--")):
        values = np.full((len(trainings), length), np.nan)
        for row, epochs in enumerate(trainings):
            values[row, : len(epochs)] = [getattr(epoch, name) for epoch in epochs]
        x = np.arange(1, length + 1)
        axes.fill_between(x, np.nanmin(values, axis=0), np.nanmax(values, axis=0), color=colour, alpha=0.2, linewidth=0)
        axes.plot(x, np.nanmedian(values, axis=0), color=colour, linestyle=style, label=name)
