"""Device time to host time over a whole recording, of simulated links whose truth is known."""

import numpy as np
import pytest

from edgepain.firmware_bridge.logged_clock import LoggedClock, TimeBasis, fit

LINK_S = 0.004


def recorded(seconds: float, skew_ppm: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, LoggedClock]:
    """Device times, true host times, and the fit: a frame each 100 ms, late by ms and by stalls."""
    random = np.random.default_rng(seed)
    true_s = 1e4 + np.arange(0.0, seconds, 0.1)
    ppm = np.interp(true_s, np.linspace(true_s[0], true_s[-1], skew_ppm.size), skew_ppm)
    device_s = np.cumsum(np.diff(true_s, prepend=true_s[0]) * (1 + ppm * 1e-6))
    late_s = LINK_S + random.exponential(0.008, true_s.size)
    for begin_s in random.uniform(1e4, true_s[-1], int(seconds / 20)):
        end_s = begin_s + random.uniform(0.1, 0.6)
        stalled = (true_s >= begin_s) & (true_s < end_s)
        late_s[stalled] += end_s - true_s[stalled]
    arrival_s = np.maximum.accumulate(true_s + late_s)
    return device_s, true_s, fit(device_s.tolist(), arrival_s.tolist())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("minutes", [2, 25, 60])
def test_a_drifting_clock_is_followed_within_what_is_stated(minutes, seed):
    device_s, true_s, clock = recorded(60.0 * minutes, np.array([20.0, 35.0, 60.0, 55.0]), seed)
    error_ms = (clock.host_s(device_s) - true_s - LINK_S) * 1e3
    assert clock.basis is TimeBasis.FITTED
    assert clock.skew_ppm == pytest.approx(44, abs=5)
    assert np.abs(error_ms).max() < 5.0
    assert (np.abs(error_ms) <= clock.uncertainty_ms + 0.5).mean() > 0.95
    assert clock.place_s(12345.6) == 12345.6


@pytest.mark.parametrize("seed", range(5))
def test_below_a_minute_no_skew_is_assumed_and_the_uncertainty_says_so(seed):
    device_s, true_s, clock = recorded(40.0, np.array([80.0]), seed)
    assert (clock.basis, clock.skew_ppm) == (TimeBasis.OFFSET, None)
    error_ms = (clock.host_s(device_s) - true_s - LINK_S) * 1e3
    assert np.abs(error_ms).max() < clock.uncertainty_ms < 15.0


@pytest.mark.parametrize("speed", [0.5, 10.0])
def test_a_recording_that_was_played_fast_keeps_its_seconds_and_moves_moments_into_them(speed):
    device_s = np.arange(0.0, 120.0, 0.1)
    arrival_s = 500.0 + device_s / speed
    clock = fit(device_s.tolist(), arrival_s.tolist())
    assert clock.basis is TimeBasis.DEVICE
    np.testing.assert_allclose(clock.host_s(device_s), 500.0 + device_s)
    assert clock.place_s(500.0 + 60.0 / speed) == pytest.approx(560.0)
    assert clock.place_s(500.0 - 3.0) == pytest.approx(497.0)


@pytest.mark.parametrize(
    ("stall", "read_s"), [((29.75, 30.0), 40.0), ((0.0, 1.0), 12.0), ((12.0, 20.0), 20.0), ((20.0, 30.0), 45.0)]
)
@pytest.mark.parametrize("seconds", [30, 90])
def test_a_stall_does_not_pass_for_another_speed(seconds, stall, read_s):
    device_s = np.arange(0.0, 30.0, 0.05)
    arrival_s = np.where((device_s >= stall[0]) & (device_s < stall[1]), read_s, device_s)
    arrival_s = 500.0 + np.maximum.accumulate(arrival_s + 0.003) * seconds / 30
    clock = fit((device_s * seconds / 30).tolist(), arrival_s.tolist())
    assert clock.basis is (TimeBasis.OFFSET if seconds < 60 else TimeBasis.FITTED)
    np.testing.assert_allclose(clock.host_s(device_s), 500.0 + device_s, atol=0.02)
    assert clock.place_s(535.0) == 535.0


@pytest.mark.parametrize("speed", [0.5, 4.0])
def test_another_speed_is_one_though_the_line_stalled(speed):
    device_s = np.arange(0.0, 30.0, 0.05)
    arrival_s = 500.0 + device_s / speed
    arrival_s[-5:] += 5.0
    assert fit(device_s.tolist(), arrival_s.tolist()).basis is TimeBasis.DEVICE


def test_a_silence_of_an_hour_is_bridged():
    device_s = np.concatenate((np.arange(0.0, 700.0, 0.1), np.arange(4300.0, 5000.0, 0.1)))
    arrival_s = 50.0 + device_s * (1 - 30e-6)
    clock = fit(device_s.tolist(), arrival_s.tolist())
    np.testing.assert_allclose(clock.host_s(device_s), arrival_s, atol=1e-6)
    assert clock.skew_ppm == pytest.approx(30.0, abs=0.01)


def test_nothing_is_no_clock():
    with pytest.raises(ValueError, match="no arrivals"):
        fit([], [])
