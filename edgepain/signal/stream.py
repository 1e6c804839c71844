"""What flows from a sensor into the runtime: descriptions of streams, samples, changes of the link."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from edgepain.signal.modality import Modality


@dataclass(frozen=True)
class StreamInfo:
    """One channel of a device, as the device describes it."""

    modality: Modality
    unit: str
    rate_hz: float


@dataclass(frozen=True)
class DeviceInfo:
    """A device introduced itself, or did so again after a restart (`boot_id` changed)."""

    name: str
    firmware: str
    boot_id: int
    streams: tuple[StreamInfo, ...]


@dataclass(frozen=True)
class Samples:
    """Consecutive samples of one stream.

    times_s: [n] float64, device time since the session's first sample. values: [n] float32 in `unit` of
    the stream. arrival_s: host monotonic clock when the last byte of them was read. overrun, lead_off,
    clipped, range_changed: what the device says of these samples.
    """

    modality: Modality
    times_s: npt.NDArray[np.float64]
    values: npt.NDArray[np.float32]
    rate_hz: float
    arrival_s: float
    overrun: bool = False
    lead_off: bool = False
    clipped: bool = False
    range_changed: bool = False


class LinkState(str, Enum):
    """State of the wire between the device and this machine. SUSPENDED: this machine slept, and is awake again."""

    CONNECTED = "connected"
    LOST = "lost"
    STALLED = "stalled"
    SUSPENDED = "suspended"
    CLOSED = "closed"
    ENDED = "ended"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class LinkChange:
    """The link changed its state at `at_s` (host monotonic clock). `detail` is for a person."""

    state: LinkState
    at_s: float
    detail: str = ""


@dataclass(frozen=True)
class Marker:
    """What a person or another program said of a moment, such as a stimulus or a pain rating.

    at_s: host monotonic clock. unix_s: wall clock at the same moment. value: a number that belongs to it, such as pain
    on the numeric rating scale, 0 to 10. source: who said it, such as "key" or the name of a stream of markers.
    """

    at_s: float
    unix_s: float
    label: str
    value: float | None = None
    source: str = ""


@dataclass(frozen=True)
class LinkStats:
    """Totals since the source was opened. A frame is what the device sends at once: a frame, a packet or a line.

    frames: sound ones. frames_lost: known to be missing; where lost_is_minimum, as a counter of few bits or none at all
    cannot tell, there may be more. malformed: of absurd content. repeated: came twice. out_of_order: not later than
    what came before. clipped: with a sample at an end of its range. range_switches: of an amplifier. restarts: of the
    device.
    """

    bytes_read: int = 0
    frames: int = 0
    frames_lost: int = 0
    crc_errors: int = 0
    malformed: int = 0
    repeated: int = 0
    reconnects: int = 0
    restarts: int = 0
    out_of_order: int = 0
    clipped: int = 0
    range_switches: int = 0
    lost_is_minimum: bool = False


@dataclass(frozen=True)
class ClockSkew:
    """How fast the device's clock runs against this machine's. ppm: None where that is not known, as `reason` says.

    uncertainty_ms: times of `Source.host_s` are within so much, 19 of 20 times; None where there are none.
    """

    ppm: float | None
    reason: str = ""
    uncertainty_ms: float | None = None


class MarkerSource(Protocol):
    """Anything that gives markers: keys, lines of text, a stream of another program."""

    def poll(self) -> Sequence[Marker]:
        """Markers since the last call, stamped when they were made; never waits, never raises.

        Where no more can come because something broke, a last marker says so.
        """
        ...

    def close(self) -> None:
        """Give back what it took, such as the terminal's mode. May be called twice."""
        ...


StreamEvent: TypeAlias = DeviceInfo | Samples | LinkChange | Marker


class Source(Protocol):
    """Anything that gives samples: a serial device, a replay, another transport."""

    def recv(self, timeout_s: float) -> Sequence[StreamEvent]:
        """Events since the last call, in order; waits up to `timeout_s` for the first. Empty when none came.

        After LinkChange(CLOSED) nothing more will come, nor after ENDED, which a recording has and a device has not.
        """
        ...

    def host_s(self, device_s: float) -> float | None:
        """When a sample of session time `device_s` was taken, on this machine's monotonic clock.

        A constant delay of the transport is not seen: it passes for part of the clocks' offset, so that the time
        given is too late by it. None where the clocks are not known well enough (`clock_skew` says why).
        """
        ...

    def clock_skew(self) -> ClockSkew:
        """The device's clock against this machine's."""
        ...

    def stats(self) -> LinkStats:
        """Totals so far."""
        ...

    def close(self) -> None:
        """Release the transport. May be called twice."""
        ...
