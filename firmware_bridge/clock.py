"""From device time to host time, by the lower envelope of the arrivals.

A frame can arrive late, never early. So the host time of a device time is the smallest arrival − device time
there is, not the mean: stalls of a radio link push least squares about and leave the envelope alone.
"""

from __future__ import annotations

from collections import deque

WINDOW_S = 5.0
# Drift of two quartz clocks is some 10 ppm; below this span the jitter of arrivals would pass for more.
MIN_SPAN_S = 60.0
MAX_WINDOWS = 120


class DeviceClock:
    """Maps device seconds to the host's monotonic clock.

    Fed with (device time, arrival) pairs, it keeps the earliest arrival of every 5 s of device time for ten
    minutes, and lays the line under them that is nearest to them all: the edge of their lower convex
    hull at their mean time (the least sum of distances). With under 60 s of data the line has no slope.
    """

    def __init__(self) -> None:
        self._minima: deque[tuple[float, float]] = deque(maxlen=MAX_WINDOWS)
        self._window = 0
        self._line: tuple[float, float, float] | None = None

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
        elif offset_s < self._minima[-1][1]:
            self._minima[-1] = (device_s, offset_s)
        else:
            return
        self._line = None

    @property
    def drift_ppm(self) -> float:
        """How fast the device's clock runs against the host's, in parts per million; 0 below 60 s of data.

        Raises ValueError before the first `update`.
        """
        _, _, slope = self._fit()
        return -slope / (1.0 + slope) * 1e6

    def host_s(self, device_s: float) -> float:
        """Host time at which a sample taken at `device_s` would have arrived without any delay of its own.

        Raises ValueError before the first `update`.
        """
        at_s, offset_s, slope = self._fit()
        return device_s + offset_s + slope * (device_s - at_s)

    def delay_s(self, device_s: float, arrival_s: float) -> float:
        """How much later than the fastest way an arrival was. Raises ValueError before the first `update`."""
        return arrival_s - self.host_s(device_s)

    def _fit(self) -> tuple[float, float, float]:
        """(device time, offset there, slope of the offset) of the envelope."""
        if self._line is None:
            if not self._minima:
                raise ValueError("no arrival yet: the clock is not known")
            self._line = _envelope(list(self._minima))
        return self._line


def _envelope(points: list[tuple[float, float]]) -> tuple[float, float, float]:
    if points[-1][0] - points[0][0] < MIN_SPAN_S:
        return (points[0][0], min(offset for _, offset in points), 0.0)
    mean = sum(at for at, _ in points) / len(points)
    hull: list[tuple[float, float]] = []
    for point in points:
        while len(hull) >= 2 and _turns_right(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    right = next(i for i, (at, _) in enumerate(hull) if at >= mean and i > 0)
    (at0, offset0), (at1, offset1) = hull[right - 1], hull[right]
    return (at0, offset0, (offset1 - offset0) / (at1 - at0))


def _turns_right(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """True where b lies on or above the line from a to c: no corner of a lower hull."""
    return (b[0] - a[0]) * (c[1] - a[1]) <= (b[1] - a[1]) * (c[0] - a[0])
