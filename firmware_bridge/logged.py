"""A wire log, decoded whole: signals of each start of the device on one time base, markers, losses and damage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepain.errors import DataError
from edgepain.firmware_bridge.logged_clock import LoggedClock, TimeBasis, fit
from edgepain.firmware_bridge.recorder import Damage, WireRecording
from edgepain.firmware_bridge.replay import ReplaySource
from edgepain.firmware_bridge.sleep_watch import is_sleep
from edgepain.signal import DeviceInfo, LinkState, LinkStats, Marker, Modality, Samples

# Two samples further apart than this many periods have a gap between them.
GAP_PERIODS = 1.5
# A rate is not the stated one where its longest run says so by more than this, and by more than a sample. Times that
# make it another altogether are damaged.
MAX_RATE_OFF_PPM, _JITTER_PERIODS, _MAX_RATE_TIMES = 500.0, 1.0, 2.0
# What is longer was not recorded, but damaged.
LONGEST_S = 50 * 86_400.0
_STRAY_S = 3600.0
# 1985 to 2084: what EDF+ can date.
_EARLIEST_UNIX_S, _LATEST_UNIX_S = 473_385_600.0, 3_597_523_200.0


@dataclass(frozen=True)
class LoggedSignal:
    """One signal between two starts of the device. rate_hz: as the device says. device_s: session time [n] float64.
    values: [n] float32 in the modality's unit, NaN where the device says that one is missing."""

    modality: Modality
    rate_hz: float
    device_s: npt.NDArray[np.float64]
    values: npt.NDArray[np.float32]

    @property
    def gaps(self) -> npt.NDArray[np.int64]:
        """Samples [k] after which others are missing."""
        return np.flatnonzero(np.diff(self.device_s) * self.rate_hz > GAP_PERIODS)


@dataclass(frozen=True)
class Segment:
    """What came of one start of the device, or between two sleeps of the computer."""

    info: DeviceInfo
    signals: Mapping[Modality, LoggedSignal]
    clock: LoggedClock


@dataclass(frozen=True)
class LoggedSession:
    """Everything in a log, on the computer's time: its monotonic clock, and the time that it slept.

    openings: how often the line was opened. sleeps: moments of the monotonic clock, and seconds slept there.
    stray_markers: such as were made more than an hour before or after everything else, and were left out.
    """

    path: Path
    recording: WireRecording
    segments: tuple[Segment, ...]
    markers: tuple[Marker, ...]
    stats: LinkStats
    openings: int
    sleeps: tuple[tuple[float, float], ...]
    stray_markers: int

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Signals that are there in any segment."""
        return tuple(m for m in Modality if any(m in segment.signals for segment in self.segments))

    def count(self, modality: Modality) -> int:
        """Samples of a signal."""
        return sum(segment.signals[modality].values.size for segment in self.segments if modality in segment.signals)

    @property
    def damage(self) -> tuple[Damage, ...]:
        """Stretches of the file that cannot be used."""
        return self.recording.damage

    @cached_property
    def begin_s(self) -> float:
        """Host time of the first sample. Raises DataError where there is none."""
        firsts = [
            float(segment.clock.host_s(signal.device_s[:1])[0])
            for segment in self.segments
            for signal in segment.signals.values()
        ]
        if not firsts:
            raise DataError(f"{self.path}: no sample in it; `edgepain replay --check` says what is")
        return min(firsts)

    def times_s(self, segment: Segment, modality: Modality) -> npt.NDArray[np.float64]:
        """Times [n] of a signal's samples, seconds after the first sample of the log."""
        return segment.clock.host_s(segment.signals[modality].device_s) - self.begin_s

    @property
    def stated_rates_hz(self) -> dict[Modality, float]:
        """The rate of each signal as the device said last."""
        return {modality: s.rate_hz for segment in self.segments for modality, s in segment.signals.items()}

    def rate_hz(self, modality: Modality) -> float:
        """The rate of a signal: as stated, unless its longest run without a gap had another."""
        runs = [
            (part, segment.signals[modality].rate_hz)
            for segment in self.segments
            if modality in segment.signals
            for part in np.split(self.times_s(segment, modality), segment.signals[modality].gaps + 1)
        ]
        longest_s, stated_hz = max(runs, key=lambda run: run[0].size)
        steps, nominal_steps = longest_s.size - 1, float(longest_s[-1] - longest_s[0]) * stated_hz
        kept = abs(steps - nominal_steps) <= max(_JITTER_PERIODS, MAX_RATE_OFF_PPM * 1e-6 * nominal_steps)
        if kept or not 1 / _MAX_RATE_TIMES < steps / max(nominal_steps, _JITTER_PERIODS) < _MAX_RATE_TIMES:
            return self.stated_rates_hz[modality]
        return stated_hz * steps / nominal_steps

    def moment_s(self, monotonic_s: float) -> float:
        """Time of a moment of the monotonic clock, seconds after the first sample of the log."""
        return monotonic_s + sum(seconds for at_s, seconds in self.sleeps if at_s <= monotonic_s) - self.begin_s

    def marker_s(self, marker: Marker) -> float:
        """Time of a marker, seconds after the first sample of the log."""
        # That of the segment it was made in: the last one that had begun.
        begun = [segment for segment in self.segments if segment.clock.arrivals_s[0] <= marker.at_s]
        clock = (begun[-1] if begun else self.segments[0]).clock
        return clock.place_s(marker.at_s) - self.begin_s

    @cached_property
    def begin_unix_s(self) -> float:
        """Wall clock of the first sample; by the date of the file where the log's own description is damaged."""
        metadata = self.recording.metadata
        unix_s, monotonic_s = metadata.get("started_unix_s"), metadata.get("started_monotonic_s")
        told = [(unix_s, monotonic_s)] if isinstance(unix_s, float) and isinstance(monotonic_s, float) else []
        told += [(marker.unix_s, marker.at_s) for marker in self.markers]
        for at_unix_s, at_s in told:
            begun_s = at_unix_s - at_s + self.begin_s
            if _EARLIEST_UNIX_S <= begun_s <= _LATEST_UNIX_S:
                return begun_s
        ended_s = max(float(segment.clock.arrivals_s.max()) for segment in self.segments)
        return self.path.stat().st_mtime - ended_s + self.begin_s

    def facts(self) -> dict[str, Any]:
        """What whoever reads a file made of this should know, as JSON."""
        metadata = self.recording.metadata
        return {
            "log": self.path.name,
            "device": self.segments[0].info.name if self.segments else None,
            "firmware": self.segments[0].info.firmware if self.segments else None,
            "kind": metadata.get("device"),
            "options": metadata.get("options"),
            "begin": datetime.fromtimestamp(self.begin_unix_s, timezone.utc).isoformat(),
            "wall_clock": "of the computer" if metadata else "guessed: the log's description is damaged",
            "units": {str(modality): modality.unit for modality in self.modalities},
            "rates_hz": {str(modality): rate_hz for modality, rate_hz in self.stated_rates_hz.items()},
            "measured_rates_hz": {str(modality): self.rate_hz(modality) for modality in self.modalities},
            "segments": [self._segment_facts(segment) for segment in self.segments],
            "frames_lost": self.stats.frames_lost,
            "frames_lost_is_minimum": self.stats.lost_is_minimum,
            "crc_errors": self.stats.crc_errors,
            "damaged_bytes": self.recording.lost_bytes,
            "damaged_places": self.recording.damaged_chunks,
        }

    def _segment_facts(self, segment: Segment) -> dict[str, Any]:
        times_s = [self.times_s(segment, modality) for modality in segment.signals]
        return {
            "begin_s": min(float(times[0]) for times in times_s),
            "end_s": max(float(times[-1]) for times in times_s),
            "time": str(segment.clock.basis),
            "clock_skew_ppm": segment.clock.skew_ppm,
            "time_uncertainty_ms": segment.clock.uncertainty_ms,
        }


class _Start:
    """What came since the device introduced itself, while it is read."""

    def __init__(self, info: DeviceInfo) -> None:
        self.info = info
        self._parts: dict[Modality, list[Samples]] = {}
        self._device_s: list[float] = []
        self._arrival_s: list[float] = []

    def push(self, samples: Samples, slept_s: float) -> None:
        if samples.values.size:
            self._parts.setdefault(samples.modality, []).append(samples)
            self._device_s.append(float(samples.times_s[-1]))
            self._arrival_s.append(samples.arrival_s + slept_s)

    def segment(self) -> Segment | None:
        """None where nothing came."""
        if not self._parts:
            return None
        signals = {
            modality: LoggedSignal(
                modality,
                parts[-1].rate_hz,
                np.concatenate([part.times_s for part in parts]),
                np.concatenate([part.values for part in parts]),
            )
            for modality, parts in self._parts.items()
        }
        return Segment(self.info, signals, fit(self._device_s, self._arrival_s))


def read_log(path: Path | str) -> LoggedSession:
    """Decode a whole log as a live session would have.

    Raises DataError as `ReplaySource` does, and where times are damaged beyond sense.
    """
    source = ReplaySource(path)
    sleeps = [(m.at_s, m.value or 0.0) for m in source.recording if isinstance(m, Marker) and is_sleep(m)]
    naps = iter(sleeps)
    slept_s = 0.0
    starts: list[_Start] = []
    markers: list[Marker] = []
    while events := source.recv(0.0):
        for event in events:
            if isinstance(event, DeviceInfo):
                starts.append(_Start(event))
            elif isinstance(event, Samples):
                starts[-1].push(event, slept_s)
            elif isinstance(event, Marker):
                markers.append(replace(event, at_s=event.at_s + slept_s))
            elif event.state is LinkState.SUSPENDED:
                slept_s += next(naps)[1]
                starts += [_Start(start.info) for start in starts[-1:]]
    segments = [segment for start in starts if (segment := start.segment()) is not None]
    near = [marker for marker in markers if _near(marker, segments)]
    openings = sum(not chunk.data for chunk in source.recording.chunks)
    session = LoggedSession(
        Path(path),
        source.recording,
        _on_one_axis(segments),
        tuple(near),
        source.stats(),
        openings,
        tuple(sleeps),
        len(markers) - len(near),
    )
    _require_true_times(session)
    return session


def _near(marker: Marker, segments: list[Segment]) -> bool:
    if not segments:
        return True
    begin_s = min(float(segment.clock.arrivals_s.min()) for segment in segments)
    end_s = max(float(segment.clock.arrivals_s.max()) for segment in segments)
    return begin_s - _STRAY_S <= marker.at_s <= end_s + _STRAY_S


def _require_true_times(session: LoggedSession) -> None:
    for segment in session.segments:
        for modality in segment.signals:
            times_s = session.times_s(segment, modality)
            # A computer that ran for 3000 years has no true times either.
            sane = abs(session.begin_s) < 1e11 and np.isfinite(times_s).all() and times_s.max() <= LONGEST_S
            if not sane:
                raise DataError(
                    f"{session.path}: times in it are damaged (of {modality}, up to {times_s.max():.3g} s); "
                    "what can be saved of it, `edgepain run --replay` reads"
                )


def _on_one_axis(segments: list[Segment]) -> tuple[Segment, ...]:
    """The device's own seconds are all or none of the axis: a recording played fast is so in every segment."""
    if all(segment.clock.basis is not TimeBasis.DEVICE for segment in segments):
        return tuple(segments)
    offset_s = float(segments[0].clock.arrivals_s[0] - segments[0].clock.arrivals_device_s[0])
    return tuple(replace(segment, clock=segment.clock.with_device_seconds(offset_s)) for segment in segments)
