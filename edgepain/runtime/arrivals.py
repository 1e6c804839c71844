"""What arrives of each signal, for a person who has to see at a glance whether all is well."""

from __future__ import annotations

import math
from collections import deque

import msgspec
import numpy as np

from edgepain.signal import Modality, Samples, assess, interpolate

# Quality and rate are those of the last so many seconds.
SPAN_S = 5.0
# Quality of a fast signal does not need every sample.
_MAX_POINTS = 500


class ArrivingSignal(msgspec.Struct, frozen=True):
    """One signal now. nominal_hz: as the device says. rate_hz: samples that came a second, of late.

    last: newest value, in `unit`; None where it is missing. quality: as in `edgepain.signal.Quality`. Both are None
    where nothing came of late, quality also while less than a second is there.
    """

    unit: str
    nominal_hz: float
    rate_hz: float
    samples: int
    last: float | None
    quality: str | None
    valid_fraction: float


class Arrivals:
    """Keeps the last seconds of one signal."""

    def __init__(self, modality: Modality, unit: str) -> None:
        self._modality = modality
        self._unit = unit
        self._parts: deque[Samples] = deque()
        self._nominal_hz = 0.0
        self._count = 0
        self._first_arrival_s: float | None = None

    def push(self, samples: Samples) -> None:
        """Take what came."""
        if not samples.values.size:
            return
        self._nominal_hz = samples.rate_hz
        self._count += samples.values.size
        if self._first_arrival_s is None:
            self._first_arrival_s = samples.arrival_s
        # A device that restarted or replayed must not leave times that run backwards.
        if self._parts and samples.times_s[0] < self._parts[-1].times_s[-1]:
            self._parts.clear()
        self._parts.append(samples)
        while self._parts and self._parts[0].times_s[-1] < samples.times_s[-1] - 2 * SPAN_S:
            self._parts.popleft()

    def now(self, now_s: float) -> ArrivingSignal:
        """The signal at `now_s`, host monotonic clock."""
        fresh = bool(self._parts) and now_s - self._parts[-1].arrival_s < SPAN_S
        last = float(self._parts[-1].values[-1]) if fresh else math.nan
        quality, valid_fraction = self._quality() if fresh else (None, 0.0)
        return ArrivingSignal(
            self._unit,
            self._nominal_hz,
            self._rate_hz(now_s),
            self._count,
            last if math.isfinite(last) else None,
            quality,
            valid_fraction,
        )

    def _rate_hz(self, now_s: float) -> float:
        if self._first_arrival_s is None:
            return 0.0
        recent = sum(part.values.size for part in self._parts if part.arrival_s > now_s - SPAN_S)
        return recent / min(max(now_s - self._first_arrival_s, 1.0), SPAN_S)

    def _quality(self) -> tuple[str | None, float]:
        times_s = np.concatenate([part.times_s for part in self._parts])
        span_s = min(SPAN_S, float(times_s[-1] - times_s[0]))
        if span_s < 1.0:
            return None, 0.0
        values = np.concatenate([part.values for part in self._parts])
        points = int(min(span_s * self._nominal_hz, _MAX_POINTS)) + 1
        grid_s = np.linspace(times_s[-1] - span_s, times_s[-1], points)
        verdict = assess(self._modality, *interpolate(times_s, values, grid_s, self._nominal_hz))
        return str(verdict.code), verdict.valid_fraction
