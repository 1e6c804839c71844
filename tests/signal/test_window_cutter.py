"""The same samples give the same windows, whether they come at once from a file or piecemeal from a wire."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepain.signal import Modality, QualityCode, ScalingSpec, WindowCutter, WindowSpec, interpolate

EDA_HZ, BVP_HZ, SECONDS = 4.0, 64.0, 120


def _signals(seed: int) -> dict[Modality, tuple[np.ndarray, np.ndarray, float]]:
    rng = np.random.default_rng(seed)
    signals = {}
    for modality, rate_hz in ((Modality.EDA, EDA_HZ), (Modality.BVP, BVP_HZ)):
        count = int(SECONDS * rate_hz)
        values = (1.0 + rng.random(count)).astype(np.float32)
        keep = np.ones(count, bool)
        # Two gaps, as a wire leaves them.
        for begin_s in rng.uniform(0, SECONDS, 2):
            keep[int(begin_s * rate_hz) : int((begin_s + 3) * rate_hz)] = False
        signals[modality] = ((np.arange(count) / rate_hz)[keep], values[keep], rate_hz)
    return signals


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), hop_s=st.sampled_from([0.25, 1.0, 1.3]), chunk_s=st.floats(0.05, 7))
def test_live_windows_equal_offline_windows(seed: int, hop_s: float, chunk_s: float) -> None:
    scaling_spec = ScalingSpec(min_history_s=10, horizon_s=40)
    signals = _signals(seed)
    whole = WindowCutter(list(signals), scaling_spec=scaling_spec)
    for modality, (times_s, values, rate_hz) in signals.items():
        whole.push(modality, times_s, values, rate_hz)

    live, windows, start_s = WindowCutter(list(signals), scaling_spec=scaling_spec), [], 0.0
    edges_s = np.arange(0, SECONDS + chunk_s, chunk_s)
    for begin_s, end_s in pairwise(edges_s):
        for modality, (times_s, values, rate_hz) in signals.items():
            rows = (times_s >= begin_s) & (times_s < end_s)
            live.push(modality, times_s[rows], values[rows], rate_hz)
        while live.covered_s() >= start_s + live.spec.seconds:
            windows.append(live.cut(start_s))
            start_s += hop_s
            live.forget(start_s)

    assert len(windows) > (SECONDS - 10) / hop_s * 0.8
    for window in windows:
        expected = whole.cut(window.start_s)
        np.testing.assert_array_equal(window.values, expected.values)
        np.testing.assert_array_equal(window.valid, expected.valid)
        assert window.quality == expected.quality
        assert repr(window.history) == repr(expected.history)
    assert windows[-1].history[0].count > 0


def test_memory_stays_bounded() -> None:
    cutter = WindowCutter([Modality.BVP], scaling_spec=ScalingSpec(5, 30))
    for k in range(2000):
        times_s = k + np.arange(64) / 64
        cutter.push(Modality.BVP, times_s, np.ones(64, np.float32), 64.0)
        cutter.forget(float(k))
    track = cutter._tracks[Modality.BVP]
    assert len(track.times_s) < 200
    assert track._times._data.size < 2000
    assert len(track._history) < 40 / cutter.spec.period_s


def test_window_holds_both_end_points() -> None:
    grid_s = WindowSpec().grid_s(3.0)
    assert len(grid_s) == 138
    assert grid_s[0] == 3.0
    assert grid_s[-1] == pytest.approx(8.5, abs=1e-12)


def test_interpolation_is_linear_and_marks_gaps() -> None:
    times_s = np.array([0.0, 1.0, 2.0, 5.0, 6.0])
    values = np.array([0.0, 10.0, 20.0, 50.0, np.nan], np.float32)
    got, valid = interpolate(times_s, values, np.array([-0.5, 0.0, 0.5, 2.0, 3.0, 5.0, 5.5, 8.0]), 1.0)
    np.testing.assert_allclose(got[1:6], [0.0, 5.0, 20.0, 30.0, 50.0])
    np.testing.assert_array_equal(valid, [False, True, True, True, False, True, False, False])


def test_samples_out_of_order_are_left_out_and_counted() -> None:
    cutter = WindowCutter([Modality.EDA])
    assert cutter.push(Modality.EDA, np.array([0.0, 1.0, 0.5, 2.0]), np.ones(4, np.float32), 1.0) == 1
    assert cutter.push(Modality.EDA, np.array([1.5, 2.0, 3.0]), np.ones(3, np.float32), 1.0) == 2
    assert cutter.covered_s() == 3.0


@pytest.mark.parametrize(
    ("values", "code"),
    [
        (np.linspace(1, 2, 24), QualityCode.OK),
        (np.full(24, 1.0), QualityCode.FLAT),
        (np.zeros(24), QualityCode.NO_CONTACT),
        (np.full(24, 250.0), QualityCode.NO_CONTACT),
        (np.full(24, np.nan), QualityCode.GAPS),
    ],
)
def test_quality_names_what_is_wrong(values: np.ndarray, code: QualityCode) -> None:
    cutter = WindowCutter([Modality.EDA])
    cutter.push(Modality.EDA, np.arange(24) / 4, values.astype(np.float32), 4.0)
    assert cutter.cut(0.0).quality[0].code is code
