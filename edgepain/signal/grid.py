"""One signal on a regular grid, point by point as its samples come."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from edgepain.signal.buffer import GrowingArray
from edgepain.signal.modality import Modality
from edgepain.signal.quality import in_contact
from edgepain.signal.window import interpolate

# A longer gap is skipped, not filled.
MAX_FILL_S = 60.0


class GridSignal:
    """A modality at the times 0, `period_s`, 2·`period_s`, …: what windows see of it, and NaN where they see nothing.

    Points are those of `interpolate`; NaN in gaps and where values say that the electrode does not touch skin.
    """

    def __init__(self, modality: Modality, period_s: float) -> None:
        self._modality = modality
        self._period_s = period_s
        self._times = GrowingArray(np.float64)
        self._values = GrowingArray(np.float32)
        self._next: int | None = None
        self._covered_s = float("-inf")

    def push(
        self, times_s: npt.NDArray[np.float64], values: npt.NDArray[np.float32], rate_hz: float
    ) -> tuple[int, npt.NDArray[np.float32]]:
        """Add samples [n]; the number of the first point that they complete, and the points [k].

        Samples that are not later than those before are left out.
        """
        ceiling = np.maximum.accumulate(np.concatenate(([self._covered_s], times_s)))[:-1]
        later = np.isfinite(times_s) & (times_s > ceiling)
        self._times.append(times_s[later])
        self._values.append(values[later])
        if not len(self._times):
            return 0, np.empty(0, np.float32)
        self._covered_s = float(self._times.view[-1])
        if self._next is None:
            self._next = self._index(float(self._times.view[0]))
        begin, end = self._next, max(self._index(self._covered_s), self._next)
        if (end - begin) * self._period_s > MAX_FILL_S:
            begin = end - 1
        self._next = end
        at_s = np.arange(begin, end, dtype=np.float64) * self._period_s
        points, valid = interpolate(self._times.view, self._values.view, at_s, rate_hz)
        points[~(valid & in_contact(self._modality, points))] = np.nan
        # The last sample before the next point is needed for it.
        old = int(np.searchsorted(self._times.view, end * self._period_s, side="right")) - 1
        self._times.drop(old)
        self._values.drop(old)
        return begin, points

    def _index(self, time_s: float) -> int:
        return math.ceil(time_s / self._period_s - 1e-9)
