"""Heart beats in one window of BVP or ECG.

Pass band of pulse waves: Elgendi et al., PLoS ONE 8:e76585 (2013). The beat of a pulse is at its steepest rise, as is
usual for the variability of pulse rate: a wrist's peaks are round, and wander with its motion.
"""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, find_peaks, sosfiltfilt

Array: TypeAlias = npt.NDArray[np.float64]

ECG_BAND_HZ = (5.0, 20.0)
# The wave of a pulse, and the part of it in which a beat has one peak (the dicrotic wave is gone).
PULSE_BAND_HZ, BEAT_BAND_HZ = (0.5, 8.0), (0.8, 3.5)
UPSTROKE_S = 0.35
# 150 to 40 beats a minute.
MIN_BEAT_S, MAX_BEAT_S = 0.4, 1.5


def pulses(bvp: Array, rate_hz: float) -> tuple[Array, Array]:
    """Time [b] in s of each pulse in a signal [n], and its height [b] from foot to peak."""
    beats, wave = _passed(bvp, BEAT_BAND_HZ, rate_hz), _passed(bvp, PULSE_BAND_HZ, rate_hz)
    low, high = np.percentile(beats, (5.0, 95.0))
    peaks, _ = find_peaks(beats, distance=MIN_BEAT_S * rate_hz, prominence=0.3 * (high - low))
    before = round(UPSTROKE_S * rate_hz)
    peaks = peaks[peaks >= before]
    if peaks.size == 0:
        return np.empty(0), np.empty(0)
    rising = peaks[:, None] + np.arange(-before, 1)
    rise = np.gradient(wave)
    steepest = rising[np.arange(peaks.size), rise[rising].argmax(axis=1)]
    return _between_points(rise, steepest) / rate_hz, np.ptp(wave[rising], axis=1)


def r_waves(ecg: Array, rate_hz: float) -> tuple[Array, Array]:
    """Time [b] in s of each R wave in a signal [n], upright or inverted, and its height [b] in the pass band."""
    strength = np.abs(_passed(ecg, ECG_BAND_HZ, rate_hz))
    peaks, _ = find_peaks(strength, distance=MIN_BEAT_S * rate_hz, height=0.5 * np.percentile(strength, 98.5))
    return _between_points(strength, peaks) / rate_hz, strength[peaks]


def _passed(signal: Array, band_hz: tuple[float, float], rate_hz: float) -> Array:
    passed: Array = sosfiltfilt(_band_pass(*band_hz, rate_hz), signal)
    return passed


@cache
def _band_pass(low_hz: float, high_hz: float, rate_hz: float) -> Array:
    sos: Array = butter(2, (low_hz, high_hz), "bandpass", fs=rate_hz, output="sos")
    return sos


def _between_points(signal: Array, peaks: npt.NDArray[np.intp]) -> Array:
    """Peaks to a fraction of a point, by the parabola through three points."""
    inside = np.clip(peaks, 1, signal.size - 2)
    before, at, after = (signal[inside + k] for k in (-1, 0, 1))
    lean, bend = before - after, before - 2.0 * at + after
    shift: Array = np.divide(0.5 * lean, bend, out=np.zeros(inside.size), where=(bend < 0.0) & (np.abs(lean) <= -bend))
    return inside + shift
