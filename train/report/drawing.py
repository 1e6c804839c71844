"""What all pictures share: size, colours, fonts, and SVG as the result."""

from __future__ import annotations

import io
import re
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import matplotlib as mpl
import matplotlib.font_manager as fonts
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from edgepain.train.report.source import MAIN, TEMPERED, Digest
from edgepain.train.report.text import printable

# Okabe and Ito's colours, told apart by people with any colour vision.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#8F4A7C", "#5F5F5F"
WIDTH_IN = 8.0
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "text.parse_math": False,
    "svg.hashsalt": "edgepain",
    "figure.constrained_layout.use": True,
}
_LINES = {"fcn": ":", "alstm": "--"}


@dataclass(frozen=True)
class Picture:
    """caption: what it shows, in words; also the text for those who cannot see it."""

    name: str
    title: str
    caption: str
    svg: bytes

    @property
    def base64(self) -> str:
        """The SVG for the page."""
        return b64encode(self.svg).decode()

    @property
    def width_px(self) -> int:
        """The width that it was drawn for, at 96 pixels an inch."""
        width_pt = re.search(rb'<svg[^>]* width="([0-9.]+)pt"', self.svg)
        assert width_pt is not None
        return round(float(width_pt[1]) * 96 / 72)


@contextmanager
def canvas(width_in: float, height_in: float) -> Iterator[Figure]:
    """A figure in the style of reports, without the global state of pyplot."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width_in, height_in))
        FigureCanvasSVG(figure)
        yield figure


def as_svg(figure: Figure) -> bytes:
    """The figure as SVG, the same bytes for the same figure. To be called inside of `canvas`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def colour(digest: Digest, model: str) -> str:
    """By signals: the first modality, the second, the whole network, peers."""
    modalities = [str(m) for m in digest.run.config.modalities]
    modality = model.partition(".")[2]
    if modality in modalities:
        return (BLUE, ORANGE)[modalities.index(modality) % 2]
    return GREEN if model in (MAIN, TEMPERED) else (GREY, PURPLE)[_peers(digest).index(model) % 2]


def line_style(digest: Digest, model: str) -> str:
    """Beside the colour, so that lines can be told apart without it."""
    if model in _peers(digest):
        return ("-", "-", "--", "--", ":", ":")[_peers(digest).index(model) % 6]
    return "--" if model == TEMPERED else _LINES.get(model.partition(".")[0], "-")


def drawable(text: str, most: int = 28) -> str:
    """Text cut to a length, with a ? for what the font cannot draw. A leading _ would hide it from a legend."""
    text = printable(text)
    text = text if len(text) <= most else text[: most - 1] + "…"
    text = "".join(c if ord(c) in _glyphs() else "?" for c in text)
    return f" {text}" if text.startswith("_") else text


def percent_axis(axes: Axes, axis: str, label: str) -> None:
    """Shares on an axis, shown as per cent from 0 to 100."""
    getattr(axes, f"set_{axis}lim")(0, 1)
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    getattr(axes, f"set_{axis}ticks")(ticks, [f"{100 * tick:.0f}" for tick in ticks])
    getattr(axes, f"set_{axis}label")(label)


def _peers(digest: Digest) -> list[str]:
    modalities = [str(m) for m in digest.run.config.modalities]
    return [m for m in digest.models if m not in (MAIN, TEMPERED) and m.partition(".")[2] not in modalities]


@lru_cache(maxsize=1)
def _glyphs() -> frozenset[int]:
    return frozenset(fonts.get_font(fonts.findfont("DejaVu Sans")).get_charmap())
