"""The view of a recording for a person: a panel that stays in place on a terminal, lines elsewhere."""

from __future__ import annotations

from collections import deque
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edgepain.runtime.recording import Recorded, RecordingSummary
from edgepain.runtime.terminal import LINK_STYLE
from edgepain.signal import DeviceInfo, LinkChange, LinkStats, Marker

SHOWN_MARKERS = 5


class RecordingView:
    """Shows device, link, signals, losses and markers. A context manager. hint: which keys do what."""

    def __init__(self, console: Console, title: str, hint: str) -> None:
        self._console = console
        self._title = title
        self._hint = hint
        self._device = "waiting for the device to introduce itself"
        self._link = Text("no link yet")
        self._recorded: Recorded | None = None
        self._markers: deque[str] = deque(maxlen=SHOWN_MARKERS)
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> RecordingView:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def device(self, device: DeviceInfo) -> None:
        """Show who is connected."""
        streams = ", ".join(f"{s.modality} {s.rate_hz:g} Hz in {s.unit}" for s in device.streams)
        self._device = f"{device.name}, firmware {device.firmware}: {streams}"
        self._line(f"device: {self._device}")

    def link(self, change: LinkChange) -> None:
        """Show the state of the wire."""
        self._link = Text(f"{change.state}: {change.detail}", style=LINK_STYLE[change.state])
        self._line(f"link {change.state}: {change.detail}")

    def marker(self, marker: Marker) -> None:
        """Show the newest markers."""
        text = marker.label if marker.value is None else f"{marker.label} {marker.value:g}"
        self._markers.append(text)
        self._line(f"marked: {text}")

    def recorded(self, recorded: Recorded) -> None:
        """Show how it stands; elsewhere than on a terminal nothing."""
        self._recorded = recorded
        if self._live:
            self._live.update(self._panel())

    def summary(self, summary: RecordingSummary) -> None:
        """Print the totals, below whatever was shown."""
        if self._live:
            self._live.stop()
        self._console.print(_summary_table(summary))

    def _line(self, text: str) -> None:
        if self._live:
            self._live.update(self._panel())
        else:
            self._console.print(Text(text), soft_wrap=True)

    def _panel(self) -> RenderableType:
        rows: list[RenderableType] = [Text(self._device), self._link]
        if self._recorded:
            rows += [Text(), _signals_table(self._recorded), Text()]
            rows += [Text(f"{_clock(self._recorded.seconds)}   {_wire(self._recorded.wire)}")]
        if self._markers:
            rows += [Text(), Text("marked: " + "  ·  ".join(self._markers), style="cyan")]
        if self._hint:
            rows += [Text(), Text(f"keys: {self._hint}", style="dim")]
        # Narrower than the terminal: the echo of Ctrl-C must not wrap, or a line of the panel stays behind.
        width = self._console.width - len("^C")
        return Panel(Group(*rows), title=Text(self._title), subtitle="Ctrl-C ends the recording", width=width)


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
