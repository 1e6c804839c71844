"""What a wire log holds, in numbers: signals, gaps, losses, markers, and where the file is damaged."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import msgspec
import numpy as np

from edgepain.firmware_bridge.logged import LoggedSession, read_log
from edgepain.signal import LinkStats, Modality


class MissingStretch(msgspec.Struct, frozen=True):
    """Where samples are missing, seconds after the first sample of the log."""

    begin_s: float
    end_s: float


class SignalCheck(msgspec.Struct, frozen=True):
    """One signal. seconds: of samples that are there. missing_samples: present, but without a value.
    missing: the longest gaps, `gaps` of them in all."""

    unit: str
    rate_hz: float
    samples: int
    seconds: float
    missing_samples: int
    gaps: int
    gaps_s: float
    missing: tuple[MissingStretch, ...]


class MarkerCheck(msgspec.Struct, frozen=True):
    """One marker, seconds after the first sample of the log."""

    at_s: float
    label: str
    value: float | None
    source: str


class DamageCheck(msgspec.Struct, frozen=True):
    """A stretch of the file that cannot be used. Seconds after the first sample of the log; None at an end of it."""

    lost_bytes: int
    after_s: float | None
    before_s: float | None


class LogCheck(msgspec.Struct, frozen=True):
    """What a log holds. time_basis, clock_skew_ppm, time_uncertainty_ms: of each start, see `LoggedClock`.

    slept_s: how long the computer slept in it. stray_markers: left out, see `LoggedSession`. described: whether the
    log's own description of the device is sound.
    """

    log: str
    device: str | None
    begin: str | None
    seconds: float
    starts: int
    openings: int
    time_basis: tuple[str, ...]
    clock_skew_ppm: tuple[float | None, ...]
    time_uncertainty_ms: tuple[float | None, ...]
    slept_s: float
    stray_markers: int
    signals: dict[str, SignalCheck]
    markers: tuple[MarkerCheck, ...]
    wire: LinkStats
    damage: tuple[DamageCheck, ...]
    described: bool


# The longest ones: a bad line has thousands.
KEPT_GAPS = 20


def check_log(path: Path | str) -> LogCheck:
    """Decode a log and say what is in it. Raises DataError as `read_log` does."""
    session = read_log(path)
    clocks = [segment.clock for segment in session.segments]
    signals = {str(modality): _signal(session, modality) for modality in session.modalities}
    return LogCheck(
        log=str(path),
        device=session.segments[0].info.name if clocks else None,
        begin=datetime.fromtimestamp(session.begin_unix_s, timezone.utc).isoformat() if clocks else None,
        seconds=max((segment_end_s(session, i) for i in range(len(clocks))), default=0.0),
        starts=len(clocks),
        openings=session.openings,
        time_basis=tuple(str(clock.basis) for clock in clocks),
        clock_skew_ppm=tuple(clock.skew_ppm for clock in clocks),
        time_uncertainty_ms=tuple(clock.uncertainty_ms for clock in clocks),
        slept_s=sum(seconds for _, seconds in session.sleeps),
        stray_markers=session.stray_markers,
        signals=signals,
        markers=tuple(
            MarkerCheck(session.marker_s(m) if clocks else 0.0, m.label, m.value, m.source) for m in session.markers
        ),
        wire=session.stats,
        damage=tuple(
            DamageCheck(stretch.lost_bytes, _moment(session, stretch.after_s), _moment(session, stretch.before_s))
            for stretch in session.damage
        ),
        described=bool(session.recording.metadata),
    )


def segment_end_s(session: LoggedSession, number: int) -> float:
    """End of a segment, seconds after the first sample of the log."""
    segment = session.segments[number]
    return max(float(session.times_s(segment, m)[-1] + 1 / s.rate_hz) for m, s in segment.signals.items())


def _signal(session: LoggedSession, modality: Modality) -> SignalCheck:
    there = [segment for segment in session.segments if modality in segment.signals]
    samples = missing = 0
    seconds = 0.0
    holes: list[tuple[float, float]] = []
    end_s = None
    for segment in there:
        signal, times_s = segment.signals[modality], session.times_s(segment, modality)
        samples += signal.values.size
        missing += int(np.count_nonzero(~np.isfinite(signal.values)))
        seconds += signal.values.size / signal.rate_hz
        if end_s is not None:
            holes.append((end_s, float(times_s[0])))
        holes += [(float(times_s[k] + 1 / signal.rate_hz), float(times_s[k + 1])) for k in signal.gaps]
        end_s = float(times_s[-1] + 1 / signal.rate_hz)
    longest = sorted(sorted(holes, key=lambda hole: hole[0] - hole[1])[:KEPT_GAPS])
    return SignalCheck(
        modality.unit,
        there[-1].signals[modality].rate_hz,
        samples,
        seconds,
        missing,
        len(holes),
        sum(end - begin for begin, end in holes),
        tuple(MissingStretch(begin, end) for begin, end in longest),
    )


def _moment(session: LoggedSession, at_s: float | None) -> float | None:
    return None if at_s is None or not session.segments else session.moment_s(at_s)
