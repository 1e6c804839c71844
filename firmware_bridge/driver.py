"""What a device driver is: its language without a port, so that it can be fuzzed, replayed and read over any line.

A driver is fed with what was read and says what to send; ports, retries and recordings are outside it (see
`device_source`). What `feed` gives depends on the bytes and their arrival times alone, never on what `request`
was asked: a replay of the bytes gives the same samples again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from edgepain.errors import ConfigError
from edgepain.firmware_bridge.clock import DeviceClock
from edgepain.firmware_bridge.line import Line
from edgepain.firmware_bridge.ports import open_port
from edgepain.signal import DeviceInfo, LinkStats, Samples


class Driver(Protocol):
    """One device on one line. Values leave it in the units of `Modality.unit`."""

    clock: DeviceClock

    @property
    def introduced(self) -> bool:
        """Whether data can be interpreted: it is known which device speaks, and how."""
        ...

    @property
    def frames(self) -> int:
        """Sound frames so far."""
        ...

    def feed(self, data: bytes, arrival_s: float) -> Sequence[DeviceInfo | Samples]:
        """What `data`, read at `arrival_s` (host monotonic clock), completes. Never raises, whatever the bytes."""
        ...

    def cut(self) -> None:
        """The line was cut or opened: half a frame is lost, and another device may speak next."""
        ...

    def request(self, now_s: float) -> bytes:
        """What to send at `now_s` (host monotonic clock), often nothing. Asked before every read."""
        ...

    def deaf(self) -> None:
        """The device took nothing of the last request within the time given: it does not read its line."""
        ...

    def farewell(self) -> bytes:
        """What to send before the line is closed, so that the device rests."""
        ...

    def complaint(self) -> str:
        """Why bytes arrive and nothing comes of them, for a person; empty where no bytes arrive either."""
        ...

    def stats(self, reconnects: int) -> LinkStats:
        """Totals so far, with the reconnects that the caller counted."""
        ...


class DriverOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a person may set of a device, calibration included. Subclasses add fields, each with a default."""


def _serial(port: str, baud: int, options: Any) -> Line:
    return open_port(port, baud)


@dataclass(frozen=True)
class DeviceKind:
    """A device that can be read: what a person has to know of it, and how a driver for it is made.

    signals, rates, wiring: for a person. baud: unless told otherwise; None for what is no serial port. options: what
    may be set of it. open: options to driver; raises ConfigError. line: port as a person names it, baud (0 where there
    is none) and options to an open line; raises PortError.
    """

    name: str
    summary: str
    signals: str
    rates: str
    wiring: str
    baud: int | None
    options: type[DriverOptions]
    open: Callable[[Any], Driver]
    line: Callable[[str, int, Any], Line] = _serial

    def driver(self, settings: Mapping[str, str]) -> Driver:
        """A driver with `settings`, a text for each option. Raises ConfigError for what is no option or no value."""
        return self.open(self.parse(settings))

    def parse(self, settings: Mapping[str, str]) -> DriverOptions:
        """The options that `settings` mean. Raises ConfigError."""
        try:
            return msgspec.convert(dict(settings), self.options, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f"device {self.name}: {error}; it takes {self.describe_options()}") from error

    def describe_options(self) -> str:
        """Every option with its default."""
        fields = msgspec.structs.fields(self.options)
        return ", ".join(f"{field.encode_name}={field.default}" for field in fields) or "no options"
