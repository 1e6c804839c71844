"""Latency against accuracy: one point an engine."""

from __future__ import annotations

from pathlib import Path

from edgepain.benchmarks.report import Report
from edgepain.benchmarks.tables import NAMES
from edgepain.errors import ConfigError, MissingExtraError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#8F4A7C", "#5F5F5F", "#E69F00", "#56B4E9")


def plot(report: Report, path: Path) -> None:
    """Draw `report` into a file; its ending says in which format.

    Engines whose answers are not known, because their weights are random, are lines. Raises
    MissingExtraError without matplotlib, ConfigError where the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(error.name or "matplotlib", "report") from error
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for row, colour in zip(report.engines, COLOURS, strict=True):
        if row.latency is None:
            continue
        median_ms = row.latency.p50_ms
        label = f"{NAMES[row.engine]}, {median_ms:.2f} ms"
        if row.accuracy is None:
            axes.axvline(median_ms, color=colour, linestyle=":", label=f"{label}, random weights")
        else:
            axes.plot(median_ms, 100 * row.accuracy, "o", color=colour, label=label)
    axes.set_xscale("log")
    for axis in ("set_major_formatter", "set_minor_formatter"):
        getattr(axes.xaxis, axis)("{x:g}")
    axes.set_ylim(0, 100)
    axes.set_xlabel("milliseconds a window, median, one thread")
    axes.set_ylabel(f"accuracy on {report.golden_windows} golden windows, %")
    what = "demonstration bundle" if report.demonstration else "bundle"
    axes.set_title(f"{what} {report.bundle!r} on {report.machine.processor}", parse_math=False)
    axes.grid(color="#DDDDDD")
    axes.legend(loc="lower left", fontsize=8)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be drawn ({error}); name a file that ends in .png, .svg or .pdf") from error
