"""Pictures of an explained window (matplotlib, without a display)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline

from edgepain.signal import Modality
from edgepain.train.explain.attention import FUSION, AttentionMap, Explanation
from edgepain.train.explain.choice import ChosenWindow
from edgepain.train.explain.contributions import ContributionMap

Array = npt.NDArray[Any]

# Lightness rises or falls all the way, so that nobody needs to tell hues apart.
LOW_TO_HIGH = "YlOrRd"
MATRIX = "cividis"
AGAINST_TO_FOR = "PuOr_r"
SIGNAL_COLOUR = "#222222"
SCALED_COLOURS = ("#0072B2", "#D55E00")
UNITS = {"uS": "µS", "uV": "µV"}
EVEN = "× even attention"
# Colour is not stretched over less than this to either side of even attention, or it would show noise.
EVEN_SHARE = 0.02


def signal_label(modality: Modality) -> str:
    """Such as `EDA (µS)`."""
    return f"{modality.upper()} ({UNITS.get(modality.unit, modality.unit)})"


def draw_window(window: ChosenWindow, explanation: Explanation, title: str) -> dict[str, Figure]:
    """All pictures of one window, by the name of their file.

    Pictures of attention between modalities are there for `sequence` fusion only: with `pooled` fusion each modality
    is one token, whose weight is always 1.
    """
    maps = [m for m in explanation.attention if m.over_time]
    own = [m for m in maps if m.of_self]
    crossing = [m for m in maps if not m.of_self]
    alstm = {(str(m), "ALSTM, weights of its context"): explanation.alstm[m] for m in window.modalities}
    pictures = {
        "self_attention": draw_overlay(
            window, {_cell(m): m.received for m in own}, f"{title}\nself-attention that each time step receives"
        ),
        "self_attention_diagonal": draw_overlay(
            window,
            {_cell(m): m.diagonal for m in own},
            f"{title}\nself-attention of each time step to itself (as Figure 5 of the paper)",
        ),
        "self_attention_heads": draw_heads(window, own, f"{title}\nself-attention that each time step receives"),
        "alstm_attention": draw_overlay(window, alstm, f"{title}\nattention of the ALSTM over time"),
        "cross_attention_streams": draw_cross(
            window, [m for m in crossing if m.block != FUSION], f"{title}\ncross-attention between FCN and ALSTM"
        ),
        "embedding_attention": draw_contributions(
            window,
            explanation.contributions,
            f"{title}\nwhat each time step and dimension argues for the answer (after Figure 7 of the paper)",
        ),
    }
    if between := [m for m in crossing if m.block == FUSION]:
        pictures["cross_attention_modalities"] = draw_cross(
            window, between, f"{title}\ncross-attention between modalities (as Figure 6 of the paper)"
        )
    return pictures


def draw_overlay(window: ChosenWindow, weights: dict[tuple[str, str], Array], title: str) -> Figure:
    """The signals, one row a modality, with weights [S] by (modality, column title) as colour under them."""
    columns = list(dict.fromkeys(column for _, column in weights))
    figure, axes = _grid(len(window.modalities), len(columns), (4.6, 2.4), title)
    for row, m in enumerate(window.modalities):
        for column, name in enumerate(columns):
            ax = axes[row, column]
            image = _fill(ax, window, window.values[row], weights[m, name])
            _say_if_even(ax, weights[m, name])
            _colour_bar(figure, ax, image, EVEN)
            if row == 0:
                ax.set_title(name)
            if column == 0:
                ax.set_ylabel(signal_label(m))
    _name_time(axes)
    return figure


def draw_heads(window: ChosenWindow, maps: Sequence[AttentionMap], title: str) -> Figure:
    """What every head looks at, one strip a head, under the signal."""
    columns = list(dict.fromkeys(_cell(m)[1] for m in maps))
    figure, axes = _grid(2 * len(window.modalities), len(columns), (4.6, 1.7), title)
    for a in maps:
        m, name = _cell(a)
        row, column = window.modalities.index(Modality(m)), columns.index(name)
        above, below = axes[2 * row, column], axes[2 * row + 1, column]
        above.plot(window.times_s, window.values[row], color=SIGNAL_COLOUR, linewidth=1)
        above.set_xlim(*_span(window))
        heads = len(a.weights)
        image = _show(below, a.received_by_head, (*_edges(window), heads + 0.5, 0.5), LOW_TO_HIGH)
        _say_if_even(below, a.received_by_head)
        below.set_yticks(range(1, heads + 1))
        _colour_bar(figure, below, image, EVEN)
        if row == 0:
            above.set_title(name)
        if column == 0:
            above.set_ylabel(signal_label(Modality(m)))
            below.set_ylabel("head")
    _name_time(axes)
    return figure


def draw_cross(window: ChosenWindow, maps: Sequence[AttentionMap], title: str) -> Figure:
    """Query time against key time, mean over heads, with the signals along the edges; two maps a row."""
    figure = Figure(figsize=(11, 0.8 + 4.7 * ((len(maps) + 1) // 2)), layout="constrained")
    figure.suptitle(title, fontsize=11, parse_math=False)
    outer = figure.add_gridspec((len(maps) + 1) // 2, 2, wspace=0.06, hspace=0.06)
    for position, a in enumerate(maps):
        inner = outer[divmod(position, 2)].subgridspec(2, 2, width_ratios=(1, 4), height_ratios=(1, 4))
        ax, above, left = (figure.add_subplot(inner[place]) for place in ((1, 1), (0, 1), (1, 0)))
        query, key = _modality(a.block, a.query), _modality(a.block, a.key)
        extent = (*_edges(window), *_edges(window))
        image = _show(ax, a.mean, extent, MATRIX, origin="lower")
        ax.set(xlim=_span(window), ylim=_span(window))
        _say_if_even(ax, a.mean)
        _colour_bar(figure, ax, image, EVEN)
        ax.set_xlabel(f"time of keys: {_token(a.block, a.key)} (s)")
        above.plot(window.times_s, _signal(window, key), color=SIGNAL_COLOUR, linewidth=1)
        above.set_xlim(*_span(window))
        above.set_title(f"{_token(a.block, a.query)} looks at {_token(a.block, a.key)}", fontsize=10)
        above.set_ylabel(signal_label(key), fontsize=8)
        left.plot(_signal(window, query), window.times_s, color=SIGNAL_COLOUR, linewidth=1)
        left.set_ylim(*_span(window))
        left.set_ylabel(f"time of queries: {_token(a.block, a.query)} (s)")
        left.set_xlabel(signal_label(query), fontsize=8)
        left.invert_xaxis()
        left.tick_params(axis="x", rotation=90)
        above.tick_params(labelbottom=False)
        ax.tick_params(labelleft=False)
    return figure


def draw_contributions(window: ChosenWindow, maps: Sequence[ContributionMap], title: str) -> Figure:
    """Figure 7: dimensions of an embedding against time, under the sum over dimensions and the signals."""
    figure = Figure(figsize=(4.6 * len(maps), 7.5), layout="constrained")
    figure.suptitle(title, fontsize=11, parse_math=False)
    axes = figure.subplots(3, len(maps), squeeze=False, sharex="col", height_ratios=(1, 1, 3))
    for (above, total, ax), a in zip(axes.T, maps, strict=True):
        above.set_title(
            a.name.upper() if a.name != FUSION else "fused" if a.exact else "fused (slopes)", loc="left", fontsize=11
        )
        for m, values, colour in zip(window.modalities, window.scaled, SCALED_COLOURS, strict=False):
            if a.name in (m, FUSION):
                above.plot(window.times_s, values, color=colour, linewidth=1, label=m.upper())
        above.legend(fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2)
        total.plot(window.times_s, a.over_time, color=SIGNAL_COLOUR, linewidth=1)
        _widen(total, a.over_time)
        # A few strong dimensions would leave nothing to see of the others.
        limit = float(np.quantile(np.abs(a.parts), 0.995)) or 1.0
        image = ax.imshow(
            a.parts,
            aspect="auto",
            origin="lower",
            cmap=AGAINST_TO_FOR,
            vmin=-limit,
            vmax=limit,
            extent=(*_edges(window), -0.5, len(a.parts) - 0.5),
            interpolation="nearest",
        )
        ax.set_xlim(*_span(window))
        _colour_bar(figure, ax, image, "part of the margin: against (−) or for (+)", extend="both")
        ax.set_xlabel("time in the window (s)")
    for ax, name in zip(axes[:, 0], ("signal (IQRs)", "sum", "dimension of the embedding"), strict=True):
        ax.set_ylabel(name)
    return figure


def _fill(ax: Axes, window: ChosenWindow, values: Array, weights: Array) -> Any:
    """The signal, and the weights as colour: full under it, faint above it."""
    ax.plot(window.times_s, values, color=SIGNAL_COLOUR, linewidth=1.2)
    low, high = float(values.min()), float(values.max())
    margin = 0.08 * (high - low) or 1.0
    bottom, top = low - margin, high + margin
    extent = (*_edges(window), bottom, top)
    _show(ax, weights[None], extent, LOW_TO_HIGH, zorder=0, alpha=0.25)
    image = _show(ax, weights[None], extent, LOW_TO_HIGH, zorder=0)
    begin_s, end_s = _span(window)
    corners = [(begin_s, bottom), *zip(window.times_s, values, strict=True), (end_s, bottom)]
    image.set_clip_path(PathPatch(Outline(np.array(corners)), transform=ax.transData))
    ax.set_xlim(begin_s, end_s)
    ax.set_ylim(bottom, top)
    return image


def _show(ax: Axes, weights: Array, extent: tuple[float, float, float, float], colours: str, **options: Any) -> Any:
    """Weights [rows, columns] as an image."""
    low, high = min(float(weights.min()), 1 - EVEN_SHARE), max(float(weights.max()), 1 + EVEN_SHARE)
    return ax.imshow(weights, aspect="auto", cmap=colours, vmin=low, vmax=high, extent=extent, **options)


def _say_if_even(ax: Axes, weights: Array) -> None:
    """A picture of one colour needs a word, or it looks broken."""
    largest = float(np.abs(weights - 1).max())
    if largest < EVEN_SHARE:
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2}
        text = f"even within {max(largest, 0.001):.1%}"
        ax.text(0.5, 0.06, text, transform=ax.transAxes, ha="center", fontsize=8, bbox=box)


def _widen(ax: Axes, values: Array) -> None:
    """Show at least a tenth of the level, so that noise on it does not fill the picture."""
    low, high = float(values.min()), float(values.max())
    middle = (low + high) / 2
    half = 1.1 * max((high - low) / 2, 0.05 * abs(middle)) or 1.0
    ax.set_ylim(middle - half, middle + half)


def _grid(rows: int, columns: int, cell: tuple[float, float], title: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(cell[0] * max(columns, 1.4), 0.8 + cell[1] * rows), layout="constrained")
    figure.suptitle(title, fontsize=11, parse_math=False)
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=True)


def _colour_bar(figure: Figure, ax: Axes, image: Any, label: str, **options: Any) -> None:
    bar = figure.colorbar(image, ax=ax, pad=0.02, **options)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=8)


def _name_time(axes: Any) -> None:
    for ax in axes[-1]:
        ax.set_xlabel("time in the window (s)")


def _edges(window: ChosenWindow) -> tuple[float, float]:
    """Of an image with one column a time step, so that each column has its step in the middle."""
    begin_s, end_s = _span(window)
    half_s = (end_s - begin_s) / (window.times_s.size - 1) / 2
    return begin_s - half_s, end_s + half_s


def _span(window: ChosenWindow) -> tuple[float, float]:
    return float(window.times_s[0]), float(window.times_s[-1])


def _cell(a: AttentionMap) -> tuple[str, str]:
    """Modality and column title of a map of self-attention."""
    if a.block == FUSION:
        return a.query, "fusion, encoder of the modality"
    return a.block, f"encoder of {a.query.upper()} tokens"


def _modality(block: str, tokens: str) -> Modality:
    return Modality(tokens if block == FUSION else block)


def _token(block: str, tokens: str) -> str:
    return tokens.upper() if block == FUSION else f"{block.upper()} {tokens.upper()}"


def _signal(window: ChosenWindow, modality: Modality) -> Array:
    signal: Array = window.values[window.modalities.index(modality)]
    return signal
