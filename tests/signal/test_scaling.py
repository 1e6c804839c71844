"""Robust scaling, and how far scaled values may go."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepain.signal import Modality, RobustStats, ScalingSpec, WindowCutter, WindowSpec, scale

VALUES = np.array([-100.0, 1.0, 2.0, 3.0, 1e30], np.float32)
STATS = RobustStats(median=2.0, iqr=0.5, count=5)


def test_values_end_at_the_limit() -> None:
    np.testing.assert_array_equal(scale(VALUES, STATS, 10.0), np.float32([-10, -2, 0, 2, 10]))
    np.testing.assert_array_equal(scale(VALUES, STATS)[:4], np.float32([-204, -2, 0, 2]))


@given(st.floats(0.1, 100), st.lists(st.floats(-1e6, 1e6, width=32), min_size=1))
def test_a_limit_changes_nothing_within_it(limit_iqr: float, values: list[float]) -> None:
    array = np.array(values, np.float32)
    free, limited = scale(array, STATS), scale(array, STATS, limit_iqr)
    assert (np.abs(limited) <= np.float32(limit_iqr)).all()
    within = np.abs(free) < limit_iqr
    np.testing.assert_array_equal(limited[within], free[within])


@pytest.mark.parametrize("limit_iqr", [None, 3.0])
def test_live_windows_keep_to_the_limit(limit_iqr: float | None) -> None:
    cutter = WindowCutter([Modality.EDA, Modality.BVP], WindowSpec(2.0, 9), ScalingSpec(5.0, 100.0, limit_iqr))
    times_s = np.arange(200) / 16
    for modality, high in ((Modality.EDA, 50.0), (Modality.BVP, 1.0)):
        values = (np.sin(times_s) + np.where(times_s > 10, high, 0) + 2).astype(np.float32)
        cutter.push(modality, times_s, values, 16.0)
    window = cutter.cut(10.25)
    eda, bvp = window.scaled()
    assert eda.max() == (3.0 if limit_iqr else pytest.approx(37, abs=10))
    assert 0 < bvp.max() < 3
    np.testing.assert_array_equal(window.scaled(without=[Modality.EDA]), [np.zeros(9), bvp])
