"""Robust scaling (median, inter-quartile range): over a set of windows, or causally over what came before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class RobustStats:
    """Median and inter-quartile range of `count` values, in the signal's unit."""

    median: float
    iqr: float
    count: int

    @property
    def usable(self) -> bool:
        """False for a flat or disconnected signal, which has no spread to divide by."""
        return bool(np.isfinite(self.iqr) and self.iqr > 0)


@dataclass(frozen=True)
class ScalingSpec:
    """How windows are scaled: how much of the past causal scaling looks at, and how far scaled values may go.

    min_history_s: seconds of valid signal that must lie before a window (calibration at rest).
    horizon_s: nothing older than this counts, so memory stays bounded and slow drift is followed.
    limit_iqr: scaled values end at ± this many inter-quartile ranges; None: they do not (the paper's form).
    """

    min_history_s: float = 60.0
    horizon_s: float = 1800.0
    limit_iqr: float | None = None


def robust_stats(values: npt.NDArray[np.float32]) -> RobustStats:
    """Statistics of the finite entries of `values` (any shape); NaN median and IQR where there are none.

    The same convention as scikit-learn's RobustScaler: linear interpolation between order statistics.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    if finite.size == 0:
        return RobustStats(float("nan"), float("nan"), 0)
    low, median, high = np.percentile(finite, (25.0, 50.0, 75.0))
    return RobustStats(float(median), float(high - low), int(finite.size))


def scale(
    values: npt.NDArray[np.float32], stats: RobustStats, limit_iqr: float | None = None
) -> npt.NDArray[np.float32]:
    """(values − median) / IQR, as float32, within ± `limit_iqr` where one is given.

    Raises ValueError where the IQR is 0 or not finite: callers ask `stats.usable` first and turn it into
    an error (training) or a 'no contact' state (live).
    """
    if not stats.usable:
        raise ValueError("cannot scale by an inter-quartile range of 0: flat or disconnected signal")
    scaled = (values.astype(np.float64) - stats.median) / stats.iqr
    if limit_iqr is not None:
        scaled = np.clip(scaled, -limit_iqr, limit_iqr)
    result: npt.NDArray[np.float32] = scaled.astype(np.float32)
    return result
