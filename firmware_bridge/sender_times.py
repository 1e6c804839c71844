"""Times of samples as their sender stamped them: as they are, or spread evenly where they are times of sending."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgepain.firmware_bridge.line_times import HostTimes

# No sender stamps better than this.
RESOLUTION_HZ = 1e6
# Two samples less than this share of a period apart were stamped when they were sent, not when they were taken…
_CLOSE = 0.5
# … and so many of them are no hiccup.
_CLOSE_ALLOWED = 3
# Longer steps have a gap in them.
_GAP = 1.5


class SenderTimes:
    """Strictly increasing times of one regular stream.

    Stamps are believed, gaps included, until some lie closer than samples can: several were sent at once, or stamped on
    their way. From then on samples are a period apart and held to the earliest stamps of each second (`HostTimes`).
    lost: samples that are missing by the stamps. dropped: samples not a microsecond later than those before.
    """

    def __init__(self, rate_hz: float) -> None:
        self.lost = self.dropped = 0
        self._rate_hz = rate_hz
        self._last_s = float("-inf")
        self._close = 0
        self._origin_s = 0.0
        self._even: HostTimes | None = None

    @property
    def even(self) -> bool:
        """Whether stamps are no longer believed."""
        return self._even is not None

    def cut(self) -> None:
        """The line was cut: there is a gap."""
        if self._even is not None:
            self._even.cut()

    def place(self, stamps_s: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Times of the samples that are kept [k], and which of the stamps [n] they are of."""
        if self._even is None:
            steps = np.diff(stamps_s, prepend=self._last_s) * self._rate_hz
            self._close += int(np.count_nonzero(steps < _CLOSE))
            if self._close <= _CLOSE_ALLOWED:
                return self._believe(stamps_s)
            self._even = HostTimes(self._rate_hz)
            self._origin_s = max(float(stamps_s[0]), self._last_s + 1.0 / self._rate_hz)
        times_s = np.array([self._even.place(1, stamp_s)[0] for stamp_s in stamps_s.tolist()]) + self._origin_s
        self._last_s = float(times_s[-1])
        return times_s, np.ones(stamps_s.size, np.bool_)

    def _believe(self, stamps_s: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        before = np.maximum.accumulate(np.concatenate(([self._last_s], stamps_s)))[:-1]
        later = stamps_s > before + 1.0 / RESOLUTION_HZ
        kept = stamps_s[later]
        self.dropped += int(stamps_s.size - kept.size)
        if kept.size:
            steps = np.diff(kept, prepend=self._last_s if np.isfinite(self._last_s) else kept[0]) * self._rate_hz
            self.lost += int(np.rint(steps[steps > _GAP] - 1).sum())
            self._last_s = float(kept[-1])
        return kept, later
