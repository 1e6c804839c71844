"""Samples in, windows out: the one path that cuts training windows and live windows alike.

A `WindowCutter` is fed samples in time order, a whole file at once or a few at a time, and cuts the same
window from the same samples either way: every grid point depends only on the two samples around it, and
the causal statistics only on grid points before the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edgepain.signal.buffer import GrowingArray
from edgepain.signal.modality import Modality
from edgepain.signal.quality import Quality, assess, in_contact
from edgepain.signal.scaling import RobustStats, ScalingSpec, robust_stats, scale

# Two samples further apart than this many sample periods have a gap between them.
GAP_PERIODS = 1.5


@dataclass(frozen=True)
class WindowSpec:
    """Length of a window and the number of points it is interpolated to, both end points included.

    Default: 5.5 s and 138 points, about 25 Hz (paper, data pre-processing).
    """

    seconds: float = 5.5
    steps: int = 138

    @property
    def period_s(self) -> float:
        """Time between two points of the grid."""
        return self.seconds / (self.steps - 1)

    def grid_s(self, start_s: float) -> npt.NDArray[np.float64]:
        """Times [S] of the points of a window that starts at `start_s`."""
        return start_s + np.arange(self.steps, dtype=np.float64) * self.period_s


@dataclass(frozen=True)
class Window:
    """M modalities on one time base, not yet scaled.

    values: [M, S] float32 in the modalities' units, interpolated across gaps. valid: [M, S] bool, False
    inside gaps. quality: one verdict a modality. history: causal statistics of what came before
    `start_s`, one a modality. limit_iqr: see `ScalingSpec`.
    """

    start_s: float
    seconds: float
    modalities: tuple[Modality, ...]
    values: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    quality: tuple[Quality, ...]
    history: tuple[RobustStats, ...]
    limit_iqr: float | None = None

    @property
    def end_s(self) -> float:
        """Time of the last point."""
        return self.start_s + self.seconds

    def scaled(
        self, stats: Sequence[RobustStats] | None = None, without: Sequence[Modality] = ()
    ) -> npt.NDArray[np.float32]:
        """[M, S] float32, scaled by `stats` (one a modality) or by the causal history; zeros for those in `without`.

        Raises ValueError where a statistic that is needed has no spread.
        """
        rows = zip(self.modalities, self.values, stats or self.history, strict=True)
        return np.stack([np.zeros_like(v) if m in without else scale(v, s, self.limit_iqr) for m, v, s in rows])


def interpolate(
    times_s: npt.NDArray[np.float64],
    values: npt.NDArray[np.float32],
    at_s: npt.NDArray[np.float64],
    rate_hz: float,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Linear interpolation of samples [n] at times [k]: values [k], and whether each is backed by samples.

    A point is backed where the two samples around it are finite and at most `GAP_PERIODS` sample periods
    apart; before the first sample it never is, after the last one for one sample period (a sample holds
    until the next one is due). Values that are not backed are interpolated across the gap.
    """
    if times_s.size == 0:
        return np.full(at_s.shape, np.nan, np.float32), np.zeros(at_s.shape, np.bool_)
    finite = np.isfinite(values)
    period_s = 1.0 / rate_hz
    after = np.searchsorted(times_s, at_s, side="left")
    right = np.minimum(after, times_s.size - 1)
    exact = times_s[right] == at_s
    left = np.where(exact, right, np.maximum(after - 1, 0))
    gap_s = times_s[right] - times_s[left]
    valid = (at_s >= times_s[0]) & (gap_s <= GAP_PERIODS * period_s) & finite[left] & finite[right]
    valid &= at_s <= times_s[-1] + period_s
    if not finite.any():
        return np.full(at_s.shape, np.nan, np.float32), np.zeros(at_s.shape, np.bool_)
    result = np.interp(at_s, times_s[finite], values[finite].astype(np.float64))
    return result.astype(np.float32), valid


class _Track:
    """Samples of one modality, and their causal history on a grid of window periods from time 0."""

    def __init__(self, modality: Modality, spec: WindowSpec, scaling_spec: ScalingSpec) -> None:
        self.modality = modality
        self.rate_hz = 0.0
        self._spec = spec
        self._scaling_spec = scaling_spec
        self._times = GrowingArray(np.float64)
        self._values = GrowingArray(np.float32)
        self._history = GrowingArray(np.float32)
        self._history_begin: int | None = None

    @property
    def times_s(self) -> npt.NDArray[np.float64]:
        return self._times.view

    @property
    def values(self) -> npt.NDArray[np.float32]:
        return self._values.view

    @property
    def covered_s(self) -> float:
        return float(self.times_s[-1]) if len(self._times) else float("-inf")

    def push(self, times_s: npt.NDArray[np.float64], values: npt.NDArray[np.float32], rate_hz: float) -> None:
        self.rate_hz = rate_hz
        self._times.append(times_s)
        self._values.append(values)

    def sample(self, at_s: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        times_s = self.times_s
        begin = max(int(np.searchsorted(times_s, at_s[0], side="right")) - 1, 0)
        end = int(np.searchsorted(times_s, at_s[-1], side="left")) + 1
        return interpolate(times_s[begin:end], self.values[begin:end], at_s, self.rate_hz or 1.0)

    def history_before(self, start_s: float) -> RobustStats:
        self._extend_history(start_s)
        if self._history_begin is None:
            return RobustStats(float("nan"), float("nan"), 0)
        # A point after the last earlier sample is interpolated towards a sample of the window itself.
        earlier = int(np.searchsorted(self.times_s, start_s, side="left"))
        end = self._grid_index(min(start_s, float(self.times_s[earlier - 1]))) if earlier else 0
        begin = self._grid_index(start_s - self._scaling_spec.horizon_s)
        points = self._history.view
        return robust_stats(points[max(begin - self._history_begin, 0) : max(end - self._history_begin, 0)])

    def forget(self, before_s: float) -> None:
        self._extend_history(before_s)
        # The last sample before `before_s` is kept: grid points lie between it and the next; there the history ends.
        self._drop(int(np.searchsorted(self.times_s, before_s, side="left")) - 1)
        if self._history_begin is not None:
            old = self._grid_index(before_s - self._scaling_spec.horizon_s) - self._history_begin
            if old > 0:
                old = min(old, len(self._history))
                self._history.drop(old)
                self._history_begin += old

    def _drop(self, count: int) -> None:
        self._times.drop(count)
        self._values.drop(count)

    def _grid_index(self, time_s: float) -> int:
        """Index of the first grid point at or after `time_s`."""
        return int(np.ceil(time_s / self._spec.period_s - 1e-9))

    def _extend_history(self, until_s: float) -> None:
        if len(self._times) == 0:
            return
        if self._history_begin is None:
            self._history_begin = self._grid_index(float(self.times_s[0]))
        begin = self._history_begin + len(self._history)
        end = min(self._grid_index(until_s), self._grid_index(self.covered_s))
        if end <= begin:
            return
        points, valid = self.sample(np.arange(begin, end, dtype=np.float64) * self._spec.period_s)
        points[~(valid & in_contact(self.modality, points))] = np.nan
        self._history.append(points)


class WindowCutter:
    """Cuts windows of several modalities out of samples that arrive in time order.

    Times are seconds on one clock, 0 where the session starts. Not thread-safe.
    """

    def __init__(
        self, modalities: Sequence[Modality], spec: WindowSpec | None = None, scaling_spec: ScalingSpec | None = None
    ) -> None:
        self.spec = spec or WindowSpec()
        self.scaling_spec = scaling_spec or ScalingSpec()
        self._tracks = {m: _Track(m, self.spec, self.scaling_spec) for m in modalities}

    @cached_property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities of every window, in this order."""
        return tuple(self._tracks)

    def push(
        self,
        modality: Modality,
        times_s: npt.NDArray[np.float64],
        values: npt.NDArray[np.float32],
        rate_hz: float,
    ) -> int:
        """Add samples: times [n] strictly increasing, values [n] in the modality's unit, nominal rate.

        Samples that are not later than what is already there are left out; returns how many.
        Modalities this cutter does not use are ignored.
        """
        track = self._tracks.get(modality)
        if track is None or times_s.size == 0:
            return 0
        ceiling = np.maximum.accumulate(np.concatenate(([track.covered_s], times_s)))[:-1]
        later = np.isfinite(times_s) & (times_s > ceiling)
        if later.all():
            track.push(times_s, values, rate_hz)
            return 0
        track.push(times_s[later], values[later], rate_hz)
        return int(times_s.size - np.count_nonzero(later))

    def covered_s(self) -> float:
        """Time up to which every modality has samples; −inf where one has none."""
        return min(track.covered_s for track in self._tracks.values())

    def cut(self, start_s: float) -> Window:
        """The window that starts at `start_s`, with the statistics of what came before it."""
        grid_s = self.spec.grid_s(start_s)
        parts = [track.sample(grid_s) for track in self._tracks.values()]
        return Window(
            start_s=start_s,
            seconds=self.spec.seconds,
            modalities=self.modalities,
            values=np.stack([values for values, _ in parts]),
            valid=np.stack([valid for _, valid in parts]),
            quality=tuple(assess(m, v, ok) for m, (v, ok) in zip(self.modalities, parts, strict=True)),
            history=tuple(track.history_before(start_s) for track in self._tracks.values()),
            limit_iqr=self.scaling_spec.limit_iqr,
        )

    def values(self, start_s: float, spec: WindowSpec) -> npt.NDArray[np.float32]:
        """The samples on another grid that starts at `start_s`, [M, spec.steps], interpolated across gaps."""
        return np.stack([track.sample(spec.grid_s(start_s))[0] for track in self._tracks.values()])

    def history_seconds(self, stats: RobustStats) -> float:
        """Seconds of valid signal behind a causal statistic."""
        return stats.count * self.spec.period_s

    def forget(self, before_s: float) -> None:
        """Release samples that no window starting at or after `before_s` needs; history keeps its horizon."""
        for track in self._tracks.values():
            track.forget(before_s)
