"""The view of a recording for a person: a panel that stays in place on a terminal, lines elsewhere."""

from __future__ import annotations

from collections import deque

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from edgepain.runtime.live_panel import LivePanel, marker_text
from edgepain.runtime.recording import Recorded, RecordingSummary
from edgepain.signal import LinkStats, Marker

SHOWN_MARKERS = 5


class RecordingView(LivePanel):
    """Shows device, link, signals, losses and markers. A context manager. hint: which keys do what."""

    def __init__(self, console: Console, title: str, hint: str) -> None:
        super().__init__(console, title, "recording")
        self._hint = hint
        self._recorded: Recorded | None = None
        self._markers: deque[str] = deque(maxlen=SHOWN_MARKERS)

    def marker(self, marker: Marker) -> None:
        """Show the newest markers."""
        self._markers.append(marker_text(marker))
        self._line(f"marked: {self._markers[-1]}")

    def recorded(self, recorded: Recorded) -> None:
        """Show how it stands; elsewhere than on a terminal nothing."""
        self._recorded = recorded
        self._refresh()

    def summary(self, summary: RecordingSummary) -> None:
        """Print the totals, below whatever was shown."""
        self._print_below(_summary_table(summary))

    def rows(self) -> list[RenderableType]:
        """Signals, losses, the newest markers, keys."""
        rows: list[RenderableType] = []
        if self._recorded:
            rows += [Text(), _signals_table(self._recorded), Text()]
            rows += [Text(f"{_clock(self._recorded.seconds)}   {_wire(self._recorded.wire)}")]
        if self._markers:
            rows += [Text(), Text("marked: " + "  ·  ".join(self._markers), style="cyan")]
        if self._hint:
            rows += [Text(), Text(f"keys: {self._hint}", style="dim")]
        return rows


def _signals_table(recorded: Recorded) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, signal in recorded.signals.items():
        last = "missing" if signal.last is None else f"{signal.last:.4g} {signal.unit}"
        table.add_row(
            name,
            last,
            f"{signal.rate_hz:.1f} of {signal.nominal_hz:g} Hz",
            Text(signal.quality or "–", style="green" if signal.quality == "ok" else "red"),
            f"{signal.samples} samples",
        )
    return table


def _clock(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds // 60) % 60:02}:{int(seconds) % 60:02}"


def _wire(wire: LinkStats) -> str:
    least = "at least " if wire.lost_is_minimum else ""
    return (
        f"{wire.bytes_read} bytes, {wire.frames} frames, {least}{wire.frames_lost} lost, {wire.crc_errors} CRC errors, "
        f"{wire.repeated} repeated, {wire.out_of_order} out of order, {wire.malformed} malformed, "
        f"{wire.clipped} clipped"
    )


def _summary_table(summary: RecordingSummary) -> Table:
    table = Table(title="recording", show_header=False, title_justify="left")
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_row("ended by", Text(summary.ended))
    table.add_row("length", _clock(summary.seconds))
    for name, count in summary.samples.items():
        table.add_row(name, f"{count} samples")
    markers = ", ".join(f"{count} {label}" for label, count in summary.markers.items())
    table.add_row("markers", Text(markers or "none"))
    table.add_row("wire", _wire(summary.wire))
    table.add_row("link", f"{summary.wire.reconnects} reconnects, {summary.wire.restarts} restarts of the device")
    ppm, within_ms = summary.clock_skew_ppm, summary.clock_uncertainty_ms
    unknown = f"n/a ({summary.clock_unknown})"
    table.add_row("the device's clock", unknown if ppm is None else f"{ppm:+.0f} ppm against this machine's")
    table.add_row("its times on this machine's", unknown if within_ms is None else f"within {within_ms:.1f} ms")
    return table
