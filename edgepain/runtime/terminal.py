"""The view of a session for a person: a panel that stays in place on a terminal, lines elsewhere."""

from __future__ import annotations

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from edgepain.runtime.decision import Decision
from edgepain.runtime.live_panel import LivePanel, marker_text
from edgepain.runtime.session import Percentiles, Summary
from edgepain.signal import Marker

BAR = 16


class TerminalView(LivePanel):
    """Shows link, signal quality, the newest decision and totals. A context manager."""

    def __init__(self, console: Console, title: str) -> None:
        super().__init__(console, title, "session")
        self._last: Decision | None = None
        self._marker: Text | None = None
        self._counts: dict[str, int] = {}
        self._lost = 0

    def decision(self, decision: Decision) -> None:
        """Show the newest decision."""
        self._last = decision
        self._lost += decision.frames_lost
        kind = decision.label or f"no decision ({decision.abstain})"
        self._counts[kind] = self._counts.get(kind, 0) + 1
        self._line(_in_words(decision))

    def marker(self, marker: Marker) -> None:
        """Show the newest marker."""
        self._marker = Text(f"marked: {marker_text(marker)}", style="cyan")
        self._line(self._marker.plain)

    def summary(self, summary: Summary) -> None:
        """Print the totals, below whatever was shown."""
        self._print_below(_summary_table(summary))

    def rows(self) -> list[RenderableType]:
        """Signals and verdict of the newest decision, the newest marker, counts."""
        rows: list[RenderableType] = []
        if self._last:
            rows += [Text(), _signals_table(self._last), Text(), *_verdict(self._last)]
        if self._marker:
            rows += [Text(), self._marker]
        counts = ", ".join(f"{count} {kind}" for kind, count in self._counts.items()) or "none yet"
        return [*rows, Text(), Text(f"so far: {counts}; {self._lost} frames lost", style="dim")]


def _bar(share: float) -> str:
    filled = round(BAR * min(max(share, 0.0), 1.0))
    return "█" * filled + "░" * (BAR - filled)


def _signals_table(decision: Decision) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, signal in decision.signals.items():
        style = "green" if signal.quality == "ok" else "red"
        table.add_row(
            name,
            Text(signal.quality, style=style),
            _bar(signal.valid_fraction),
            f"{100 * signal.valid_fraction:.0f} % valid",
            f"{signal.history_s:.0f} s of history",
            " ".join(signal.flags),
        )
    return table


def _verdict(decision: Decision) -> list[RenderableType]:
    span = f"{decision.start_s:.1f} … {decision.end_s:.1f} s"
    if decision.probabilities is None:
        return [Text(f"{span}  no decision: {decision.abstain} ({decision.reason})", style="bold yellow")]
    rows: list[RenderableType] = [Text(f"{span}  {decision.label}{_without(decision)}", style="bold")]
    for label, probability in decision.probabilities.items():
        rows.append(Text(f"  {label:<24} {_bar(probability)} {100 * probability:5.1f} %"))
    return [*rows, Text(f"  {_milliseconds(decision)}", style="dim")]


def _without(decision: Decision) -> str:
    return f" ({decision.reason})" if decision.without else ""


def _milliseconds(decision: Decision) -> str:
    parts = []
    if decision.latency_ms is not None:
        parts.append(f"{decision.latency_ms:.1f} ms after its last sample")
    if decision.inference_ms is not None:
        of_it = "of it " if parts else ""
        parts.append(f"{decision.inference_ms:.1f} ms {of_it}in the network")
    if decision.sensor_latency_ms is not None:
        parts.append(f"{decision.sensor_latency_ms:.1f} ms since it was taken")
    return ", ".join(parts)


def _in_words(decision: Decision) -> str:
    span = f"{decision.start_s:7.1f} … {decision.end_s:7.1f} s"
    if decision.probabilities is None:
        text = f"{span}  no decision  {decision.abstain}: {decision.reason}"
    else:
        shares = "  ".join(f"{label} {100 * p:.1f} %" for label, p in decision.probabilities.items())
        text = f"{span}  {decision.label}{_without(decision)}  ({shares})  {_milliseconds(decision)}"
    return text + (f"  [{decision.frames_lost} frames lost]" if decision.frames_lost else "")


def _summary_table(summary: Summary) -> Table:
    table = Table(title="session", show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column()
    labels = ", ".join(f"{count} {label}" for label, count in sorted(summary.labels.items()))
    abstained = ", ".join(f"{count} {why}" for why, count in sorted(summary.abstentions.items()))
    table.add_row("ended by", Text(summary.ended))
    table.add_row("length", f"{summary.seconds:.1f} s")
    table.add_row("decisions", Text(f"{summary.decisions}" + (f" ({labels})" if labels else "")))
    table.add_row("abstentions", f"{sum(summary.abstentions.values())}" + (f" ({abstained})" if abstained else ""))
    least = "at least " if summary.lost_is_minimum else ""
    table.add_row("wire", f"{summary.bytes_read} bytes, {summary.frames} frames, {least}{summary.frames_lost} lost")
    table.add_row(
        "damage",
        f"{summary.crc_errors} CRC errors, {summary.repeated} repeated, {summary.out_of_order} out of order, "
        f"{summary.malformed} malformed",
    )
    table.add_row("signals", f"{summary.clipped} frames clipped, {summary.range_switches} switches of range")
    table.add_row("link", f"{summary.reconnects} reconnects, {summary.restarts} restarts of the device")
    for name, totals in summary.outputs.items():
        trouble = f" ({totals.trouble})" if totals.trouble else ""
        counts = f"{totals.sent} sent, {totals.waiting} not sent, {totals.dropped} dropped"
        table.add_row(f"to {name}", Text(counts + trouble))
    if summary.samples_out_of_order:
        table.add_row("left out", f"{summary.samples_out_of_order} samples out of order")
    for text, name in (
        ("latency, last sample to decision", "latency_ms"),
        ("the same, from when it was taken", "sensor_latency_ms"),
        ("network alone", "inference_ms"),
    ):
        table.add_row(text, Text(_percentiles(getattr(summary, name), summary.unknown.get(name))))
    ppm = summary.clock_skew_ppm
    skew = f"n/a ({summary.unknown['clock_skew_ppm']})" if ppm is None else f"{ppm:+.0f} ppm against this machine's"
    table.add_row("the device's clock", Text(skew))
    within_ms = summary.clock_uncertainty_ms
    within = f"n/a ({summary.unknown['clock_uncertainty_ms']})" if within_ms is None else f"within {within_ms:.1f} ms"
    table.add_row("its times on this machine's", Text(within))
    return table


def _percentiles(ms: Percentiles | None, unknown: str | None) -> str:
    if ms is None:
        return f"n/a ({unknown})"
    return f"p50 {ms.p50:.1f} ms, p90 {ms.p90:.1f} ms, p99 {ms.p99:.1f} ms"
