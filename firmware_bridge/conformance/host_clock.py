"""A device's clock beside this machine's, over the seconds of a check, with how far that can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

_BIN_S = 0.25
MIN_SPAN_S = 3.0
# What a busy machine or a USB hub may delay even the earliest arrivals by.
_FLOOR_S = 0.002


@dataclass(frozen=True)
class Comparison:
    """How much faster the device's clock runs, ± in ppm, over `span_s` of device time."""

    ppm: float
    uncertainty_ppm: float
    span_s: float


class HostClock:
    """Keeps the earliest arrival of every quarter second of device time: frames come late, never early."""

    def __init__(self) -> None:
        self._earliest: dict[int, tuple[float, float]] = {}

    def update(self, device_s: float, arrival_s: float) -> None:
        """One arrival: what was complete at `device_s` was read at `arrival_s`."""
        key, offset_s = int(device_s // _BIN_S), arrival_s - device_s
        if key not in self._earliest or offset_s < self._earliest[key][1]:
            self._earliest[key] = (device_s, offset_s)

    def compare(self) -> Comparison | None:
        """From the lower envelope of the first third to that of the last; None below 3 s of data.

        The uncertainty is the spread of the envelope within both thirds, and 2 ms: what delays could have done to it.
        """
        points = [self._earliest[key] for key in sorted(self._earliest)]
        third = len(points) // 3
        if third < MIN_SPAN_S / 3 / _BIN_S:
            return None
        first, last = points[:third], points[-third:]
        (at0, offset0), (at1, offset1) = (min(part, key=lambda point: point[1]) for part in (first, last))
        span_s = at1 - at0
        if span_s <= 0:
            return None
        doubt_s = _FLOOR_S + sum(_spread(part) for part in (first, last))
        return Comparison((offset0 - offset1) / span_s * 1e6, doubt_s / span_s * 1e6, span_s)


def _spread(part: list[tuple[float, float]]) -> float:
    """How far the envelope of a half of `part` lies above that of the other."""
    half = len(part) // 2
    return abs(min(offset for _, offset in part[:half]) - min(offset for _, offset in part[half:]))
