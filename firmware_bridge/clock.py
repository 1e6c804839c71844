"""From device time to host time, by the lower envelope of the arrivals.

A frame can arrive late, never early. So the host time of a device time is the smallest arrival − device time
there is, not the mean: stalls of a radio link push least squares about and leave the envelope alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgepain.signal import ClockSkew

WINDOW_S = 5.0
# Fewer earliest arrivals do not tell how far they scatter.
MIN_WINDOWS = 3
# Skew of two quartz clocks is some 10 ppm; below this span the jitter of arrivals would pass for more.
MIN_SPAN_S = 60.0
MAX_WINDOWS = 120
# A quartz is within 100 ppm, a trimmed RC oscillator within 500. What is further off is played at another speed,
# or wanders so much that one line does not fit ten minutes of it.
QUARTZ_PPM, MAX_SKEW_PPM = 100.0, 1000.0
# Earliest arrivals that scatter more while no skew is known yet are of another speed, or of a line that stalls.
MAX_SCATTER_S = 0.1
_SHARE = 0.95

_Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class _Line:
    """Offset of the host's clock at a device time, its change a second, and how far arrivals scatter above it."""

    at_s: float
    offset_s: float
    slope: float
    scatter_s: float


class DeviceClock:
    """Maps device seconds to the host's monotonic clock.

    Fed with (device time, arrival) pairs, it keeps the earliest arrival of every 5 s of device time for ten
    minutes, and lays the line under them that is nearest to them all: the edge of their lower convex
    hull at their mean time (the least sum of distances). Below 60 s of data that line is level: no skew is assumed.
    """

    def __init__(self) -> None:
        self._minima: deque[tuple[float, float]] = deque(maxlen=MAX_WINDOWS)
        self._window = 0
        self._line: _Line | None = None

    def reset(self) -> None:
        """Forget everything: the device restarted, and its clock with it."""
        self._minima.clear()
        self._line = None

    def update(self, device_s: float, arrival_s: float) -> None:
        """One arrival: what was sampled at `device_s` was read at `arrival_s` (host monotonic clock)."""
        window = int(device_s // WINDOW_S)
        offset_s = arrival_s - device_s
        if not self._minima or window > self._window:
            self._minima.append((device_s, offset_s))
            self._window = window
        elif window == self._window and offset_s < self._minima[-1][1]:
            self._minima[-1] = (device_s, offset_s)
        else:
            # Later than another of its window, or of a window that is over: a signal that is sent after others.
            return
        self._line = None

    def skew(self) -> ClockSkew:
        """How fast the device's clock runs against the host's; unknown below 60 s of data, or past 1000 ppm.

        uncertainty_ms: of `host_s`, what 95 of 100 earliest arrivals keep to; below 60 s of data, 100 ppm of skew more.
        """
        if len(self._minima) < MIN_WINDOWS:
            return ClockSkew(None, self._too_little)
        line = self._fit()
        if self._data_s < MIN_SPAN_S:
            if line.scatter_s > MAX_SCATTER_S:
                return ClockSkew(None, f"arrivals wander by {1e3 * line.scatter_s:.0f} ms, and {self._too_little}")
            skew_s = QUARTZ_PPM * 1e-6 * self._span_s
            return ClockSkew(None, self._too_little, 1e3 * (line.scatter_s + skew_s))
        ppm = -line.slope / (1.0 + line.slope) * 1e6 if line.slope > -1.0 else float("inf")
        if abs(ppm) <= MAX_SKEW_PPM:
            return ClockSkew(ppm, uncertainty_ms=1e3 * line.scatter_s)
        times = 1.0 + ppm * 1e-6
        return ClockSkew(None, f"the device's clock runs {times:.4g} times as fast: no true time, or no quartz")

    def host_s(self, device_s: float) -> float | None:
        """Host time at which a sample taken at `device_s` would have arrived by the fastest way there was.

        A constant delay cannot be told from an offset of the clocks. None where `skew` states no uncertainty.
        """
        if self.skew().uncertainty_ms is None:
            return None
        line = self._fit()
        return device_s + line.offset_s + line.slope * (device_s - line.at_s)

    @property
    def _span_s(self) -> float:
        return self._minima[-1][0] - self._minima[0][0] if self._minima else 0.0

    @property
    def _data_s(self) -> float:
        """The span without its silences."""
        return min(self._span_s, len(self._minima) * WINDOW_S)

    @property
    def _too_little(self) -> str:
        return f"{self._data_s:.0f} s of data since the device's clock began, {MIN_SPAN_S:g} needed"

    def _fit(self) -> _Line:
        if self._line is None:
            points = list(self._minima)
            known = self._data_s >= MIN_SPAN_S
            at_s, offset_s, slope = envelope(points) if known else (*min(points, key=lambda point: point[1]), 0.0)
            above_s = [offset - offset_s - slope * (at - at_s) for at, offset in points]
            self._line = _Line(at_s, offset_s, slope, float(np.quantile(above_s, _SHARE)))
        return self._line


def envelope(points: _Points) -> tuple[float, float, float]:
    """(time, offset there, slope) of the line under two or more points [(time, offset), …], of ascending times."""
    mean = sum(at for at, _ in points) / len(points)
    hull: list[tuple[float, float]] = []
    for point in points:
        while len(hull) >= 2 and _turns_right(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    right = next((i for i, (at, _) in enumerate(hull) if at >= mean and i > 0), len(hull) - 1)
    (at0, offset0), (at1, offset1) = hull[right - 1], hull[right]
    return (at0, offset0, (offset1 - offset0) / (at1 - at0))


def _turns_right(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """True where b lies on or above the line from a to c: no corner of a lower hull."""
    return (b[0] - a[0]) * (c[1] - a[1]) <= (b[1] - a[1]) * (c[0] - a[0])
