"""Pictures of where held-out windows lie in the embeddings (matplotlib, without a display)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from edgepain.errors import ConfigError
from edgepain.train.explain.embeddings import Embeddings, Method

# Okabe and Ito's colours, told apart by colour-blind people too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "osD^v<>PX*pH"
AXES = {"tsne": "t-SNE", "pca": "principal component"}


def draw_planes(
    embeddings: Embeddings,
    planes: Mapping[str, npt.NDArray[np.float32]],
    method: Method,
    title: str,
    mark_subjects: bool = False,
) -> Figure:
    """Planes [N, 2] by block, one row a modality and the fusion on the right, coloured by class.

    Raises ConfigError where more subjects are to be marked than there are markers.
    """
    windows = embeddings.windows
    subjects = [str(s) for s in np.unique(windows.subjects)] if mark_subjects else [""]
    if len(subjects) > len(MARKERS):
        raise ConfigError(
            f"{len(MARKERS)} subjects can be told apart by markers, there are {len(subjects)}; leave --mark-subjects "
            "out: embeddings.csv names the subject of each point"
        )
    rows, kinds = windows.modalities, ("fcn", "alstm", "transformer")
    figure = Figure(figsize=(16, 0.9 + 3.5 * len(rows)), layout="constrained")
    figure.suptitle(title, fontsize=12, parse_math=False)
    grid = figure.add_gridspec(len(rows), 4, width_ratios=(1, 1, 1, 1.7))
    places = {f"{kind}.{m}": grid[row, column] for row, m in enumerate(rows) for column, kind in enumerate(kinds)}
    for block, place in {**places, "crossmod": grid[:, 3]}.items():
        ax = figure.add_subplot(place)
        kind, _, modality = block.partition(".")
        ax.set_title(f"{modality.upper()}: {kind.upper() if kind != 'transformer' else 'Transformer'}")
        if not modality:
            ax.set_title("fusion, before the last layer")
        for subject, marker in zip(subjects, MARKERS, strict=False):
            of_subject = windows.subjects == subject if mark_subjects else np.ones(len(windows), np.bool_)
            for label, colour in zip(range(len(windows.label_names)), COLOURS, strict=False):
                points = planes[block][of_subject & (windows.labels == label)]
                ax.scatter(points[:, 0], points[:, 1], s=16, color=colour, marker=marker, alpha=0.65, linewidths=0)
        ax.set_xlabel(f"{AXES[method]} 1")
        ax.set_ylabel(f"{AXES[method]} 2")
        ax.tick_params(labelsize=8)
    legend = figure.legend(
        handles=_legend(windows.label_names, subjects if mark_subjects else []), loc="outside lower center", ncols=8
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _legend(labels: tuple[str, ...], subjects: list[str]) -> list[Line2D]:
    handles = [
        Line2D([], [], linestyle="", marker="o", color=c, label=n) for n, c in zip(labels, COLOURS, strict=False)
    ]
    return handles + [
        Line2D([], [], linestyle="", marker=marker, color="#777777", label=subject)
        for subject, marker in zip(subjects, MARKERS, strict=False)
    ]
