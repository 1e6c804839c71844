"""A live session: reads a source, decides, tells the sinks, and sums up at the end, however it ends."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass
from typing import Protocol

import msgspec
import numpy as np

from edgepain.errors import ConfigError, DataError, PortError
from edgepain.runtime.decider import Decider
from edgepain.runtime.decision import Decision
from edgepain.signal import ClockSkew, DeviceInfo, LinkChange, LinkState, LinkStats, Marker, Samples, Source

POLL_S = 0.1
# Latencies kept for the percentiles of the summary: a day at one decision a second.
KEPT_LATENCIES = 86_400


class Percentiles(msgspec.Struct, frozen=True):
    """Milliseconds."""

    p50: float
    p90: float
    p99: float


class OutputTotals(msgspec.Struct, frozen=True):
    """What became of what was to be sent elsewhere. trouble: why something was not sent, where that is known."""

    sent: int
    waiting: int
    dropped: int
    trouble: str = ""


class Summary(msgspec.Struct, frozen=True, tag_field="type", tag="summary"):
    """What happened in a session. Counts of frames and bytes are those of the wire, see `LinkStats`.

    latency_ms, sensor_latency_ms: of decisions, see `Decision`. clock_skew_ppm: how fast the device's clock runs
    against this machine's; clock_uncertainty_ms: of its times, see `ClockSkew`. unknown: why there is none of these, by
    name. outputs: of each `Output`, by its name.
    """

    seconds: float
    decisions: int
    labels: dict[str, int]
    abstentions: dict[str, int]
    latency_ms: Percentiles | None
    sensor_latency_ms: Percentiles | None
    inference_ms: Percentiles | None
    clock_skew_ppm: float | None
    clock_uncertainty_ms: float | None
    unknown: dict[str, str]
    samples_out_of_order: int
    bytes_read: int
    frames: int
    frames_lost: int
    crc_errors: int
    malformed: int
    repeated: int
    reconnects: int
    restarts: int
    out_of_order: int
    clipped: int
    range_switches: int
    lost_is_minimum: bool
    ended: str
    outputs: dict[str, OutputTotals] = {}


class Sink(Protocol):
    """Is told everything that happens in a session, in order."""

    def device(self, device: DeviceInfo) -> None:
        """A device introduced itself."""

    def link(self, change: LinkChange) -> None:
        """The wire changed its state."""

    def decision(self, decision: Decision) -> None:
        """A window was judged, or could not be."""

    def marker(self, marker: Marker) -> None:
        """A person or another program marked a moment."""

    def summary(self, summary: Summary) -> None:
        """The session ended."""


class Output(Sink, Protocol):
    """A sink that sends on to other programs or machines. Trouble with them is counted; no method raises for it, or
    waits."""

    @property
    def name(self) -> str:
        """What the summary calls it."""

    def samples(self, samples: Samples) -> None:
        """Samples came."""

    def pulse(self) -> None:
        """Several times a second."""

    def finish(self) -> OutputTotals:
        """Nothing more comes: send what waits, for seconds at most."""

    def close(self) -> None:
        """Release what it holds. May be called twice."""


@dataclass(frozen=True)
class Limits:
    """When a session ends by itself. None: never.

    duration_s: after so much time. introduction_s: when no device has introduced itself and sent a sample by
    then. silence_s: when no further sample has come for so long. patience_s: how long a window is waited for
    once no sample comes any more; then it is given up as 'no data', and from then on one each hop.

    Raises ConfigError for what is no time above 0.
    """

    duration_s: float | None = None
    introduction_s: float | None = 10.0
    silence_s: float | None = None
    patience_s: float = 3.0

    def __post_init__(self) -> None:
        for limit_s in astuple(self):
            if limit_s is not None and not limit_s > 0:
                raise ConfigError(f"a limit of a session must be a time above 0 s, got {limit_s}")


class Session:
    """Runs until its source closes, a limit is reached, or `stop` says so. Not reusable.

    pulses: called at every turn, several times a second, for as long as neither the source nor the engine hangs.
    outputs: told everything after the sinks.
    """

    def __init__(
        self,
        source: Source,
        decider: Decider,
        sinks: Sequence[Sink],
        limits: Limits | None = None,
        pulses: Sequence[Callable[[], None]] = (),
        outputs: Sequence[Output] = (),
    ) -> None:
        self._pulses = [*pulses, *(output.pulse for output in outputs)]
        self._outputs = outputs
        self._source = source
        self._decider = decider
        decider.follow(source.host_s)
        self._sinks = [*sinks, *outputs]
        self._limits = limits or Limits()
        self._begin_s = self._last_sample_s = time.monotonic()
        self._introduced = self._sampled = False
        self._out_of_order = 0
        self._labels: Counter[str] = Counter()
        self._abstentions: Counter[str] = Counter()
        self._latencies_ms: deque[float] = deque(maxlen=KEPT_LATENCIES)
        self._sensor_latencies_ms: deque[float] = deque(maxlen=KEPT_LATENCIES)
        self._inferences_ms: deque[float] = deque(maxlen=KEPT_LATENCIES)
        self._next_give_up_s = 0.0
        self._link_detail = "no link"
        self._ended: str | None = None

    def run(self, stop: Callable[[], bool] = lambda: False) -> Summary:
        """Returns the summary, which every sink was told too, also where this raises.

        Raises PortError where no device introduced itself and sent samples, where it stopped, or its port stayed away;
        BundleMismatchError where it does not fit the bundle; DataError where a recording ends without a sample.
        """
        with closing(self._source):
            try:
                ended = self._loop(stop)
            except KeyboardInterrupt:
                ended = "interrupted"
            except Exception as error:
                self._tell_summary(str(error))
                raise
            self._take_last_markers()
            return self._tell_summary(ended)

    def _take_last_markers(self) -> None:
        """What was said at the last moment counts too."""
        for pulse in self._pulses:
            pulse()
        for event in self._source.recv(0.0):
            if isinstance(event, Marker):
                self._marker(event)

    def _loop(self, stop: Callable[[], bool]) -> str:
        while not stop():
            if self._ended is not None:
                return self._ended
            now_s = time.monotonic()
            if self._limits.duration_s is not None and now_s - self._begin_s >= self._limits.duration_s:
                return "the time was up"
            for event in self._source.recv(POLL_S):
                if isinstance(event, Samples):
                    self._samples(event)
                    continue
                self._decide()
                if isinstance(event, LinkChange):
                    self._link(event)
                elif isinstance(event, Marker):
                    self._marker(event)
                else:
                    self._device(event)
            # Only now: signals that come one after the other in a batch are not late.
            self._decide()
            self._watch(time.monotonic())
            for pulse in self._pulses:
                pulse()
        return "stopped"

    def _samples(self, samples: Samples) -> None:
        if samples.modality in self._decider.modalities:
            self._sampled = True
            self._last_sample_s = time.monotonic()
            self._next_give_up_s = self._last_sample_s + self._limits.patience_s
        self._out_of_order += self._decider.push(samples)
        for output in self._outputs:
            output.samples(samples)

    def _decide(self) -> None:
        self._decider.note_frames_lost(self._source.stats().frames_lost)
        for decision in self._decider.decisions():
            self._tell(decision)

    def _device(self, device: DeviceInfo) -> None:
        self._decider.accept(device)
        self._introduced = True
        for sink in self._sinks:
            sink.device(device)

    def _marker(self, marker: Marker) -> None:
        for sink in self._sinks:
            sink.marker(marker)

    def _link(self, change: LinkChange) -> None:
        self._link_detail = f"{change.state}: {change.detail}"
        for sink in self._sinks:
            sink.link(change)
        if change.state is LinkState.CLOSED:
            raise PortError(f"the port is gone for good ({change.detail}); check cable and power, then start again")
        if change.state is LinkState.ENDED:
            if not self._sampled:
                raise DataError(f"{change.detail}: no sample that the bundle needs in it; check what was recorded")
            self._ended = change.detail

    def _watch(self, now_s: float) -> None:
        """What silence means: a window given up each hop, and after a while the end."""
        silent_s = now_s - self._last_sample_s
        limits = self._limits
        if not self._sampled:
            if limits.introduction_s is not None and silent_s >= limits.introduction_s:
                raise PortError(self._why_no_sample())
            return
        if limits.silence_s is not None and silent_s >= limits.silence_s:
            raise PortError(
                f"no sample for {silent_s:.0f} s ({self._link_detail}); check the sensor's battery and cable, then "
                "start again"
            )
        while now_s >= self._next_give_up_s:
            self._next_give_up_s += self._decider.hop_s
            self._tell(self._decider.give_up_window(f"no sample for {silent_s:.0f} s ({self._link_detail})"))

    def _why_no_sample(self) -> str:
        stats = self._source.stats()
        if self._introduced:
            return "the device introduced itself but sends no sample; start the measurement on it, or restart it"
        if not stats.bytes_read:
            return f"nothing arrives ({self._link_detail}); check that the device is on and is connected to this port"
        return (
            f"{stats.bytes_read} bytes arrived, {stats.frames} sound frames among them, but no device introduced "
            "itself; check the baud rate and that the device speaks edgeframe"
        )

    def _tell(self, decision: Decision) -> None:
        if decision.abstain is not None:
            self._abstentions[str(decision.abstain)] += 1
        elif decision.label is not None:
            self._labels[decision.label] += 1
            if decision.latency_ms is not None:
                self._latencies_ms.append(decision.latency_ms)
            if decision.sensor_latency_ms is not None:
                self._sensor_latencies_ms.append(decision.sensor_latency_ms)
        if decision.inference_ms is not None:
            self._inferences_ms.append(decision.inference_ms)
        for sink in self._sinks:
            sink.decision(decision)

    def _tell_summary(self, ended: str) -> Summary:
        summary = self._summary(ended)
        for sink in self._sinks:
            sink.summary(summary)
        return summary

    def _summary(self, ended: str) -> Summary:
        stats: LinkStats = self._source.stats()
        skew = self._source.clock_skew()
        return Summary(
            seconds=time.monotonic() - self._begin_s,
            decisions=sum(self._labels.values()),
            labels=dict(self._labels),
            abstentions=dict(self._abstentions),
            latency_ms=_percentiles(self._latencies_ms),
            sensor_latency_ms=_percentiles(self._sensor_latencies_ms),
            inference_ms=_percentiles(self._inferences_ms),
            clock_skew_ppm=skew.ppm,
            clock_uncertainty_ms=skew.uncertainty_ms,
            unknown=self._unknown(skew),
            samples_out_of_order=self._out_of_order,
            bytes_read=stats.bytes_read,
            frames=stats.frames,
            frames_lost=stats.frames_lost,
            crc_errors=stats.crc_errors,
            malformed=stats.malformed,
            repeated=stats.repeated,
            reconnects=stats.reconnects,
            restarts=stats.restarts,
            out_of_order=stats.out_of_order,
            clipped=stats.clipped,
            range_switches=stats.range_switches,
            lost_is_minimum=stats.lost_is_minimum,
            ended=ended,
            outputs={output.name: output.finish() for output in self._outputs},
        )

    def _unknown(self, skew: ClockSkew) -> dict[str, str]:
        """Why a value of the summary is None, by its name."""
        decided = sum(self._labels.values()) > 0
        reasons: dict[str, str] = {}
        if not self._inferences_ms:
            reasons["inference_ms"] = "no decision"
        late = "no decision" if not decided else "the samples came at another time" if not self._decider.live else ""
        if not self._latencies_ms:
            reasons["latency_ms"] = late or "no decision had its samples in time"
        if not self._sensor_latencies_ms:
            reasons["sensor_latency_ms"] = late or skew.reason or "no decision since the clock is known"
        if skew.ppm is None:
            reasons["clock_skew_ppm"] = skew.reason
        if skew.uncertainty_ms is None:
            reasons["clock_uncertainty_ms"] = skew.reason
        return reasons


def _percentiles(values_ms: deque[float]) -> Percentiles | None:
    if not values_ms:
        return None
    p50, p90, p99 = np.percentile(np.array(values_ms), (50, 90, 99))
    return Percentiles(float(p50), float(p90), float(p99))
