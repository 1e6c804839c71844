"""Device time to host time over a whole recording, when all of it is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import numpy.typing as npt

from edgepain.firmware_bridge.clock import MIN_SPAN_S, QUARTZ_PPM, WINDOW_S, DeviceClock, envelope

_Times = npt.NDArray[np.float64]

# The live fit looks back over ten minutes; a recording is fitted in blocks of that, joined at their middles.
BLOCK_S = 600.0
# Arrivals may be late by so much, or by that share of the time, before a clock is no clock.
_LATE_S, _LATE_SHARE = 3.0, 0.25
# Numbers too large to tell this apart are damaged times.
_RESOLUTION_S = 1e-3


class TimeBasis(str, Enum):
    """Where the times of a recording come from."""

    FITTED = "fitted"
    OFFSET = "offset"
    DEVICE = "device"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class LoggedClock:
    """One start of a device. knots_device_s, knots_host_s: the line from device to host time (monotonic clock then).

    basis: fitted (offset and skew, by the lower envelope of the arrivals), offset (too short for a skew: none is
    assumed) or device (its seconds are no true seconds, such as those of a recording played fast: they are kept, and
    moments of the host's clock are moved between them by what arrived when). skew_ppm: how fast it ran against the
    host's, as a whole. uncertainty_ms: 95 of 100 stretches of 5 s have an arrival this near to the line, or nearer.
    Without a skew, that of a quartz comes on top. Both are None where unknown.
    """

    basis: TimeBasis
    skew_ppm: float | None
    uncertainty_ms: float | None
    knots_device_s: _Times
    knots_host_s: _Times
    arrivals_device_s: _Times
    arrivals_s: _Times

    def host_s(self, device_s: _Times) -> _Times:
        """Host time [n] of device times [n]; the line runs on beyond its ends."""
        found: _Times = np.interp(device_s, self.knots_device_s, self.knots_host_s)
        for end, inner in ((0, 1), (-1, -2)):
            d, h = self.knots_device_s, self.knots_host_s
            beyond = (device_s < d[0]) if end == 0 else (device_s > d[-1])
            found[beyond] = h[end] + (h[inner] - h[end]) / (d[inner] - d[end]) * (device_s[beyond] - d[end])
        return found

    def place_s(self, at_s: float) -> float:
        """Where a moment of the host's clock lies on the axis of `host_s`: there, unless the basis is the device."""
        if self.basis is not TimeBasis.DEVICE:
            return at_s
        device_s = np.interp([at_s], self.arrivals_s, self.arrivals_device_s)
        outside_s = max(at_s - self.arrivals_s[-1], 0.0) + min(at_s - self.arrivals_s[0], 0.0)
        return float(self.host_s(device_s)[0]) + float(outside_s)

    def with_device_seconds(self, offset_s: float) -> LoggedClock:
        """The same arrivals, with the device's own seconds and this offset as the time axis."""
        d = self.knots_device_s[0] + np.array([0.0, 1.0])
        return replace(
            self,
            basis=TimeBasis.DEVICE,
            skew_ppm=None,
            uncertainty_ms=None,
            knots_device_s=d,
            knots_host_s=d + offset_s,
        )


def fit(device_s: Sequence[float], arrival_s: Sequence[float]) -> LoggedClock:
    """The clock of one start of a device: what was sampled at device_s[i] was read at arrival_s[i], in that order.

    Raises ValueError where there is no pair.
    """
    device, arrivals = np.array(device_s), np.array(arrival_s)
    if device.size == 0:
        raise ValueError("no arrivals")
    span_s = float(np.ptp(device))
    believable = _believable(device, arrivals)
    knots = _fitted(device, arrivals) if believable and span_s >= MIN_SPAN_S else None
    if knots is not None:
        d, h = knots
        skew_ppm = float((d[-1] - d[0]) / (h[-1] - h[0]) - 1.0) * 1e6
        fitted = LoggedClock(TimeBasis.FITTED, skew_ppm, None, d, h, device, arrivals)
        return replace(fitted, uncertainty_ms=_uncertainty_ms(device, arrivals - fitted.host_s(device)))
    d = device.min() + np.array([0.0, 1.0])
    if believable and span_s < MIN_SPAN_S:
        late = arrivals - device
        uncertainty_ms = _uncertainty_ms(device, late - late.min()) + QUARTZ_PPM * 1e-3 * span_s
        return LoggedClock(TimeBasis.OFFSET, None, uncertainty_ms, d, d + late.min(), device, arrivals)
    clock = LoggedClock(TimeBasis.DEVICE, None, None, d, d, device, arrivals)
    return clock.with_device_seconds(float(arrivals[0] - device[0]))


def _believable(device_s: _Times, arrival_s: _Times) -> bool:
    """Whether the device's seconds are about those of the host: from the first to the last arrival, or, as a line that
    stalls there stretches that, by the lower envelope of them all."""
    span_s = float(np.ptp(device_s))
    allowed_s = max(_LATE_S, _LATE_SHARE * span_s)
    if abs(float(np.ptp(arrival_s)) - span_s) < allowed_s:
        return True
    if not all(np.spacing(np.abs(times_s).max()) <= _RESOLUTION_S for times_s in (device_s, arrival_s)):
        return False
    late_s = arrival_s - device_s
    order = np.lexsort((late_s, device_s))
    at_s, first = np.unique(device_s[order], return_index=True)
    if at_s.size < 2:
        return False
    _, _, slope = envelope(list(zip(at_s.tolist(), late_s[order][first].tolist(), strict=True)))
    return abs(slope) * span_s < allowed_s


def _fitted(device_s: _Times, arrival_s: _Times) -> tuple[_Times, _Times] | None:
    """Corners of the line: the ends, and the middles of blocks; None where the clock is not to be believed."""
    begin_s, span_s = float(device_s.min()), float(np.ptp(device_s))
    count = int(np.ceil(span_s / BLOCK_S))
    block = np.minimum((device_s - begin_s) // (span_s / count), count - 1)
    corners: list[tuple[float, float | None]] = []
    for number in range(count):
        clock = DeviceClock()
        inside = block == number
        for at_s, came_s in zip(device_s[inside].tolist(), arrival_s[inside].tolist(), strict=True):
            clock.update(at_s, came_s)
        if clock.skew().ppm is None:
            # Mostly silent: its neighbours bridge it. Where none is known, the clock is not.
            continue
        first_s, last_s = float(device_s[inside].min()), float(device_s[inside].max())
        at = [(first_s + last_s) / 2] + ([first_s] if not corners else [])
        corners += [(at_s, clock.host_s(at_s)) for at_s in sorted(at)]
        end = (last_s, clock.host_s(last_s))
    if not corners:
        return None
    d, h = zip(*[*corners, end], strict=True)
    return np.array(d), np.array(h, np.float64)


def _uncertainty_ms(device_s: _Times, late_s: _Times) -> float:
    """How far the earliest arrival of each window is from the line, of 95 of 100 windows."""
    window = ((device_s - device_s.min()) // WINDOW_S).astype(np.int64)
    least_s = np.full(int(window.max()) + 1, np.inf)
    np.minimum.at(least_s, window, late_s)
    return float(np.quantile(np.abs(least_s[np.isfinite(least_s)]), 0.95)) * 1e3
