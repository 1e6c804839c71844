"""The options of `edgepain run` that are for a device on a port, and what they open."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgepain.cli.device_options import device_options
from edgepain.cli.marker_options import lsl_markers_option, marker_option, open_lsl_markers

if TYPE_CHECKING:
    from edgepain.firmware_bridge import DeviceSource
    from edgepain.runtime import Limits

_Command = TypeVar("_Command", bound=Callable[..., Any])
_OPTIONS = (
    click.option(
        "--port", help="Serial port, e.g. /dev/ttyUSB0 or a name in /dev/serial/by-id, or what --device says."
    ),
    device_options,
    marker_option,
    lsl_markers_option,
    click.option(
        "--record", type=click.Path(path_type=Path), help="Write all that comes over the wire to this new file."
    ),
    click.option("--duration", type=click.FloatRange(0, min_open=True), help="End after this many seconds."),
    click.option(
        "--give-up",
        type=click.FloatRange(0, min_open=True),
        help="End with exit code 6 when no sample came for so many seconds. Default: never; 10 s for the first one.",
    ),
)


@dataclass(frozen=True)
class Live:
    """What was said of the device."""

    port: str | None
    device: str | None
    device_options: dict[str, str]
    baud: int | None
    markers: dict[str, str]
    lsl_markers: tuple[str, ...]
    record: Path | None
    duration: float | None
    give_up: float | None

    @property
    def given(self) -> list[str]:
        """Names of the options besides --port that were given."""
        names = {"device_options": "device-option", "markers": "marker"}
        given = [name for name, value in vars(self).items() if name != "port" and value not in (None, {}, ())]
        return [names.get(name, name.replace("_", "-")) for name in given]

    def open(self, stack: ExitStack) -> tuple[DeviceSource, Limits, list[Callable[[], None]]]:
        """The device, when its session ends by itself, and what hands on markers; to be closed with `stack`.

        Raises PortError, ConfigError, MissingExtraError.
        """
        from edgepain.firmware_bridge import DEFAULT_DEVICE, DeviceSource
        from edgepain.runtime import Limits, TypedMarkers, forward
        from edgepain.signal import MarkerSource

        # First: to find out what speaks on the port takes a while, and what is marked meanwhile has its own time.
        marked: list[MarkerSource] = [*open_lsl_markers(self.lsl_markers, stack)]
        if self.markers:
            typed = TypedMarkers(self.markers)
            stack.callback(typed.close)
            marked.append(typed)
        source = DeviceSource(
            self.port or "",
            device=self.device or DEFAULT_DEVICE,
            options=self.device_options,
            baud=self.baud,
            record_to=self.record,
            reconnect_s=self.give_up,
        )
        stack.callback(source.close)
        limits = Limits(self.duration)
        if self.give_up is not None:
            limits = Limits(self.duration, self.give_up, self.give_up)
        return source, limits, [lambda: forward(marked, source.mark)] if marked else []


def live_options(command: _Command) -> _Command:
    """Add the options; given as one argument, `live`."""

    @functools.wraps(command)
    def with_live(**given: Any) -> Any:
        said = {name: given.pop(name) for name in Live.__dataclass_fields__}
        return command(**given, live=Live(**said))

    wrapped: Any = with_live
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]
