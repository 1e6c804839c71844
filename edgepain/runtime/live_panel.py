"""What the views for a person share: a panel that stays in place on a terminal, lines elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from edgepain.signal import DeviceInfo, LinkChange, LinkState, Marker

LINK_STYLE = {
    LinkState.CONNECTED: "green",
    LinkState.STALLED: "yellow",
    LinkState.LOST: "red",
    LinkState.SUSPENDED: "yellow",
    LinkState.CLOSED: "red",
    LinkState.ENDED: "green",
}
_Panel = TypeVar("_Panel", bound="LivePanel")


class LivePanel(ABC):
    """Shows device and link, and below them what `rows` gives. A context manager. end: what Ctrl-C ends."""

    def __init__(self, console: Console, title: str, end: str) -> None:
        self._console = console
        self._title = title
        self._end = end
        self._device = "waiting for the device to introduce itself"
        self._link = Text("no link yet")
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self: _Panel) -> _Panel:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    @abstractmethod
    def rows(self) -> list[RenderableType]:
        """What stands below device and link."""

    def device(self, device: DeviceInfo) -> None:
        """Show who is connected."""
        streams = ", ".join(f"{s.modality} {s.rate_hz:g} Hz in {s.unit}" for s in device.streams)
        self._device = f"{device.name}, firmware {device.firmware}: {streams}"
        self._line(f"device: {self._device}")

    def link(self, change: LinkChange) -> None:
        """Show the state of the wire."""
        self._link = Text(f"{change.state}: {change.detail}", style=LINK_STYLE[change.state])
        self._line(f"link {change.state}: {change.detail}")

    def _line(self, text: str) -> None:
        if self._live:
            self._refresh()
        else:
            self._console.print(Text(text), soft_wrap=True)

    def _refresh(self) -> None:
        """Show the panel anew; elsewhere than on a terminal nothing."""
        if self._live:
            # Narrower than the terminal: the echo of Ctrl-C must not wrap, or a line of the panel stays behind.
            width = self._console.width - len("^C")
            rows = Group(Text(self._device), self._link, *self.rows())
            self._live.update(
                Panel(rows, title=Text(self._title), subtitle=f"Ctrl-C ends the {self._end}", width=width)
            )

    def _print_below(self, totals: RenderableType) -> None:
        """Print the totals, below whatever was shown."""
        if self._live:
            self._live.stop()
        self._console.print(totals)


def marker_text(marker: Marker) -> str:
    """Label and value, if any."""
    return marker.label if marker.value is None else f"{marker.label} {marker.value:g}"
