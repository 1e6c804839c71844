"""Recording without a model: reads a source, takes markers, shows what arrives, and sums up however it ends.

The bytes are kept by the source itself; here is only what a person sees and says meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from typing import Protocol

import msgspec

from edgepain.errors import PortError
from edgepain.runtime.arrivals import Arrivals, ArrivingSignal
from edgepain.runtime.markers import forward
from edgepain.signal import (
    DeviceInfo,
    LinkChange,
    LinkState,
    LinkStats,
    Marker,
    MarkerSource,
    Modality,
    Samples,
    Source,
    StreamEvent,
)

POLL_S = 0.1
TELL_PERIOD_S = 1.0


class Recorder(Source, Protocol):
    """A source that keeps markers with what it reads, as `DeviceSource` does."""

    def mark(self, marker: Marker) -> None:
        """Keep a marker; it comes out of `recv` too."""
        ...


class Recorded(msgspec.Struct, frozen=True, tag_field="type", tag="signals"):
    """How a recording stands, told once a second."""

    seconds: float
    signals: dict[str, ArrivingSignal]
    markers: int
    wire: LinkStats


class RecordingSummary(msgspec.Struct, frozen=True, tag_field="type", tag="summary"):
    """What was recorded. samples: of each signal. clock_skew_ppm, clock_uncertainty_ms: see `ClockSkew`;
    clock_unknown: why the skew is not known, nor the uncertainty where it is None too."""

    seconds: float
    samples: dict[str, int]
    markers: dict[str, int]
    wire: LinkStats
    clock_skew_ppm: float | None
    clock_uncertainty_ms: float | None
    clock_unknown: str
    ended: str


class RecordingSink(Protocol):
    """Is told everything that happens in a recording, in order."""

    def device(self, device: DeviceInfo) -> None:
        """A device introduced itself."""

    def link(self, change: LinkChange) -> None:
        """The wire changed its state."""

    def marker(self, marker: Marker) -> None:
        """A moment was marked."""

    def recorded(self, recorded: Recorded) -> None:
        """How it stands, once a second."""

    def summary(self, summary: RecordingSummary) -> None:
        """The recording ended."""


class RecordingSession:
    """Runs until it is interrupted, `duration_s` is over, or no sample came for `give_up_s`. Not reusable."""

    def __init__(
        self,
        source: Recorder,
        markers: Sequence[MarkerSource],
        sinks: Sequence[RecordingSink],
        duration_s: float | None = None,
        give_up_s: float | None = None,
    ) -> None:
        self._source = source
        self._marker_sources = markers
        self._sinks = sinks
        self._duration_s = duration_s
        self._give_up_s = give_up_s
        self._begin_s = self._last_sample_s = time.monotonic()
        self._told_s = float("-inf")
        self._arrivals: dict[Modality, Arrivals] = {}
        self._markers: dict[str, int] = {}
        self._link = "no link"
        self._ended: str | None = None

    def run(self) -> RecordingSummary:
        """Returns the summary, which every sink was told too, also where this raises.

        Raises PortError where no sample ever came, none came for `give_up_s`, or the port stayed away; DataError where
        the disk is full.
        """
        with closing(self._source):
            try:
                ended = self._loop()
            except KeyboardInterrupt:
                ended = "interrupted"
            except Exception as error:
                self._tell_summary(str(error))
                raise
            self._take_last()
            summary = self._tell_summary(ended)
        if not summary.samples:
            raise PortError(self._why_no_sample())
        return summary

    def _loop(self) -> str:
        while True:
            forward(self._marker_sources, self._source.mark)
            self._take(self._source.recv(POLL_S))
            now_s = time.monotonic()
            if now_s - self._told_s >= TELL_PERIOD_S:
                self._told_s = now_s
                self._tell(now_s)
            if self._ended is not None:
                return self._ended
            if self._duration_s is not None and now_s - self._begin_s >= self._duration_s:
                return "the time was up"
            silent_s = now_s - self._last_sample_s
            if self._give_up_s is not None and silent_s >= self._give_up_s:
                raise PortError(
                    f"no sample for {silent_s:.0f} s ({self._link}); check the sensor's battery and cable, then start "
                    "again"
                )

    def _take(self, events: Sequence[StreamEvent]) -> None:
        for event in events:
            if isinstance(event, Samples):
                self._last_sample_s = time.monotonic()
                self._arrivals_of(event.modality).push(event)
            elif isinstance(event, Marker):
                self._markers[event.label] = self._markers.get(event.label, 0) + 1
                for sink in self._sinks:
                    sink.marker(event)
            elif isinstance(event, DeviceInfo):
                for sink in self._sinks:
                    sink.device(event)
            else:
                self._changed(event)

    def _changed(self, change: LinkChange) -> None:
        self._link = f"{change.state}: {change.detail}"
        for sink in self._sinks:
            sink.link(change)
        if change.state is LinkState.CLOSED:
            raise PortError(f"the port is gone for good ({change.detail}); check cable and power, then start again")
        if change.state is LinkState.ENDED:
            self._ended = change.detail

    def _arrivals_of(self, modality: Modality) -> Arrivals:
        return self._arrivals.setdefault(modality, Arrivals(modality, modality.unit))

    def _tell(self, now_s: float) -> None:
        recorded = Recorded(
            now_s - self._begin_s,
            {str(modality): arrivals.now(now_s) for modality, arrivals in self._arrivals.items()},
            sum(self._markers.values()),
            self._source.stats(),
        )
        for sink in self._sinks:
            sink.recorded(recorded)

    def _take_last(self) -> None:
        """What was pressed and what came at the last moment count too."""
        forward(self._marker_sources, self._source.mark)
        self._take([event for event in self._source.recv(0.0) if not isinstance(event, LinkChange)])

    def _tell_summary(self, ended: str) -> RecordingSummary:
        now_s = time.monotonic()
        signals = {modality: arrivals.now(now_s) for modality, arrivals in self._arrivals.items()}
        skew = self._source.clock_skew()
        summary = RecordingSummary(
            now_s - self._begin_s,
            {str(modality): signal.samples for modality, signal in signals.items()},
            dict(self._markers),
            self._source.stats(),
            skew.ppm,
            skew.uncertainty_ms,
            skew.reason,
            ended,
        )
        for sink in self._sinks:
            sink.summary(summary)
        return summary

    def _why_no_sample(self) -> str:
        wire = self._source.stats()
        if not wire.bytes_read:
            return f"nothing arrived ({self._link}); check that the device is on and is connected to this port"
        return (
            f"{wire.bytes_read} bytes were recorded, {wire.frames} sound frames among them, but no sample; check the "
            "baud rate and --device, and that the device measures"
        )
