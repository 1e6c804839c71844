"""Device time to host time under delays that are never negative."""

import numpy as np
import pytest

from edgepain.firmware_bridge.clock import DeviceClock


def fed(seconds: float, drift_ppm: float, seed: int = 1, stalls: bool = True) -> tuple[DeviceClock, np.ndarray]:
    """A clock fed 12 frames a second with exponential delays and a stall of up to 0.5 s now and then."""
    random = np.random.default_rng(seed)
    true_s = np.arange(0.0, seconds, 1 / 12)
    delay_s = 0.002 + random.exponential(0.004, true_s.size)
    if stalls:
        for begin in random.uniform(0, seconds, int(seconds // 20)):
            stalled = (true_s >= begin) & (true_s < begin + 0.5)
            delay_s[stalled] = np.maximum(delay_s[stalled], begin + 0.5 - true_s[stalled])
    clock = DeviceClock()
    for device_s, arrival_s in zip(true_s * (1 + drift_ppm * 1e-6), 1000.0 + true_s + delay_s, strict=True):
        clock.update(device_s, arrival_s)
    return clock, true_s


@pytest.mark.parametrize("drift_ppm", [-80.0, 0.0, 40.0])
def test_host_time_is_known_to_milliseconds_in_spite_of_stalls(drift_ppm):
    clock, true_s = fed(900.0, drift_ppm)
    assert clock.skew().ppm == pytest.approx(drift_ppm, abs=5.0)
    recent_s = true_s[-600 * 12 :]
    host_s = np.array([clock.host_s(s * (1 + drift_ppm * 1e-6)) for s in recent_s])
    assert np.abs(host_s - (1000.002 + recent_s)).max() < 0.003


def test_nothing_is_known_below_a_minute():
    clock, _ = fed(50.0, 40.0)
    assert clock.host_s(10.0) is None
    assert clock.skew().ppm is None
    assert clock.skew().reason.endswith("s of data since the device's clock began, 60 needed")
    assert DeviceClock().skew().reason == "0 s of data since the device's clock began, 60 needed"
    assert DeviceClock().host_s(0.0) is None


def test_a_restarted_clock_is_learnt_anew():
    clock, _ = fed(100.0, 0.0)
    assert clock.host_s(50.0) == pytest.approx(1050.002, abs=0.003)
    clock.reset()
    assert clock.host_s(50.0) is None


@pytest.mark.parametrize(
    ("times", "known"), [(1.0009, True), (0.9991, True), (1.0012, False), (0.9988, False), (10.0, False), (0.5, False)]
)
def test_a_clock_that_is_no_quartz_is_not_believed(times, known):
    clock = DeviceClock()
    for k in range(2000):
        clock.update(k * 0.1, 500.0 + k * 0.1 / times)
    skew = clock.skew()
    if known:
        assert skew.ppm == pytest.approx(1e6 * (times - 1), abs=1.0)
        assert clock.host_s(200.0) == pytest.approx(500.0 + 200.0 / times, abs=1e-6)
    else:
        assert (skew.ppm, clock.host_s(200.0)) == (None, None)
        assert skew.reason == f"the device's clock runs {times:.4g} times as fast: no true time, or no quartz"


def test_a_clock_that_seems_to_stand_still_is_not_believed():
    clock = DeviceClock()
    for k in range(1000):
        clock.update(float(k), 7.0)
    assert clock.skew().ppm is None
    assert clock.host_s(10.0) is None
