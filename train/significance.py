"""Is one model better than another on the same folds or subjects?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

# Five pairs or fewer cannot give a two-sided p below 0.05, whatever the differences are.
MIN_PAIRS = 6


@dataclass(frozen=True)
class Comparison:
    """Wilcoxon signed-rank test, two-sided, of first against second on the same units.

    unit: what the pairs are. pairs: how many. difference: mean of first − second, None without pairs. p_holm: p
    after Holm's correction over the family. Where p is None, `reason` says why.
    """

    first: str
    second: str
    unit: str
    pairs: int
    difference: float | None
    p: float | None
    p_holm: float | None
    reason: str


def signed_rank(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> tuple[float | None, str]:
    """Two-sided p of the Wilcoxon signed-rank test on pairs [n], or None and why there is none.

    Pairs without a difference are dropped (Wilcoxon's own rule). p is exact up to 50 pairs without ties.
    """
    # What differs by rounding alone is no difference.
    differences = np.round(first - second, 12)
    differences = differences[differences != 0]
    if differences.size == 0:
        return None, "no pair differs"
    if differences.size < MIN_PAIRS:
        return None, f"{differences.size} of {first.size} pairs differ; {MIN_PAIRS} are needed"
    return float(stats.wilcoxon(differences, alternative="two-sided").pvalue), ""


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction over a family of p values, in their order (Holm 1979)."""
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in corrected]


def compare(unit: str, pairs: Sequence[tuple[str, str]], values: Callable[[str], pd.Series]) -> list[Comparison]:
    """Test each pair of models as one family. values: one value a unit of a model, indexed by unit, without NaN."""
    found: list[Comparison] = []
    for first, second in pairs:
        both = pd.concat([values(first), values(second)], axis=1, join="inner").to_numpy(dtype=np.float64)
        p, reason = signed_rank(both[:, 0], both[:, 1]) if len(both) else (None, "no pair")
        difference = float(np.mean(both[:, 0] - both[:, 1])) if len(both) else None
        found.append(Comparison(first, second, unit, len(both), difference, p, None, reason))
    # A pair that could not be tested stays in the family: it must not make the others look better.
    corrected = holm([1.0 if c.p is None else c.p for c in found])
    return [c if c.p is None else replace(c, p_holm=p) for c, p in zip(found, corrected, strict=True)]
