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
    assert clock.drift_ppm == pytest.approx(drift_ppm, abs=5.0)
    recent_s = true_s[-600 * 12 :]
    host_s = np.array([clock.host_s(s * (1 + drift_ppm * 1e-6)) for s in recent_s])
    assert np.abs(host_s - (1000.002 + recent_s)).max() < 0.003


def test_no_drift_is_assumed_below_a_minute():
    clock, _ = fed(50.0, 500.0)
    assert clock.drift_ppm == 0.0


def test_delay_is_what_an_arrival_is_late_by():
    clock, _ = fed(30.0, 0.0, stalls=False)
    assert clock.delay_s(20.0, 1020.002 + 0.25) == pytest.approx(0.25, abs=0.001)
    clock.reset()
    clock.update(5.0, 2005.0)
    assert clock.host_s(7.0) == 2007.0


def test_nothing_is_known_before_the_first_arrival():
    with pytest.raises(ValueError, match="no arrival yet"):
        DeviceClock().host_s(0.0)
