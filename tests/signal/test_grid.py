"""A signal on a grid, and an offset between clocks, as they come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepain.signal import Modality, WindowCutter, WindowSpec
from edgepain.signal.grid import MAX_FILL_S, GridSignal
from edgepain.signal.offset import SteadyOffset

SPEC = WindowSpec(5.5, 45)


def pushed(grid: GridSignal, times_s: np.ndarray, values: np.ndarray, sizes: list[int]) -> tuple[list[int], np.ndarray]:
    numbers, found, at = [], [], 0
    for size in [*sizes, times_s.size]:
        first, points = grid.push(times_s[at : at + size], values[at : at + size], 64.0)
        numbers += range(first, first + points.size)
        found.append(points)
        at += size
    return numbers, np.concatenate(found)


@given(st.lists(st.integers(1, 200), max_size=12))
def test_points_are_those_that_windows_are_cut_from(sizes: list[int]):
    rng = np.random.default_rng(1)
    times_s = 0.03 + np.arange(1280) / 64
    times_s, values = np.delete(times_s, slice(500, 560)), np.delete(rng.normal(5, 1, 1280), slice(500, 560))
    values = values.astype(np.float32)
    numbers, points = pushed(GridSignal(Modality.BVP, SPEC.period_s), times_s, values, sizes)
    assert numbers == list(range(1, numbers[-1] + 1))
    cutter = WindowCutter([Modality.BVP], SPEC)
    cutter.push(Modality.BVP, times_s, values, 64.0)
    for start in (8, 24, 56):
        window = cutter.cut(start * SPEC.period_s)
        expected = np.where(window.valid[0], window.values[0], np.nan)
        np.testing.assert_array_equal(points[start - 1 : start - 1 + SPEC.steps], expected)
    assert np.isnan(points).any()


def test_values_off_the_skin_are_missing():
    times_s = np.arange(40) / 4
    values = np.where((times_s > 3) & (times_s < 6), 0.0, 2.0).astype(np.float32)
    _, points = GridSignal(Modality.EDA, 0.125).push(times_s, values, 4.0)
    at_s = np.arange(points.size) * 0.125
    assert np.isnan(points[(at_s >= 3.25) & (at_s <= 5.75)]).all()
    assert (points[at_s < 3] == 2).all()


def test_a_long_gap_is_skipped_and_nothing_piles_up():
    grid = GridSignal(Modality.BVP, 0.125)
    grid.push(np.arange(64) / 64, np.ones(64, np.float32), 64.0)
    first, points = grid.push(1e6 + np.arange(640) / 64, np.ones(640, np.float32), 64.0)
    assert points.size * 0.125 < MAX_FILL_S
    assert first == pytest.approx(1e6 / 0.125, abs=100)
    assert grid.push(np.array([5.0, np.nan]), np.ones(2, np.float32), 64.0)[1].size == 0


def test_an_offset_is_followed_without_steps():
    offset = SteadyOffset()
    assert offset.follow(10.0, 0.0) == 10.0
    assert offset.follow(10.0009, 1.0) == 10.0
    # 20 ms off: half a millisecond a second.
    assert offset.follow(10.02, 2.0) == pytest.approx(10.0005)
    assert offset.follow(10.02, 100.0) == pytest.approx(10.02)
    assert offset.follow(3.0, 101.0) == 3.0
