"""Physiological features of one window: what a reader of skin conductance and heart beats would measure.

Definitions: Boucsein, "Electrodermal Activity" (2012) for skin conductance responses; Task Force of the European
Society of Cardiology, "Heart rate variability" (1996) for RMSSD and SDNN. Windows of a few seconds hold
few beats: RMSSD and SDNN are short-term values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from edgepain.signal import Modality
from edgepain.train.beats import MAX_BEAT_S, MIN_BEAT_S, Array, pulses, r_waves

# Of the grid that features are worked out on: fine enough for the time between two beats.
FEATURE_HZ = 128.0

SCR_SMOOTHING_S = 0.25
MIN_SCR_US = 0.01
# Of the median: an interval further away is a missed or a false beat.
MAX_DEVIATION = 0.3
MIN_INTERVALS = 3


@dataclass(frozen=True)
class Feature:
    """One number of a window.

    kind: what causal scaling does with it. "level": minus the median, divided by the IQR of the signal before the
    window; "amplitude": divided by that IQR; "absolute": nothing. neutral: stands in, on that scale, for a value
    that could not be computed: a round number for people at rest.
    """

    name: str
    unit: str
    kind: Literal["level", "amplitude", "absolute"]
    neutral: float = 0.0


_CARDIAC = (
    Feature("rate", "1/min", "absolute", 75.0),
    Feature("rate_slope", "1/min/s", "absolute"),
    Feature("rmssd", "ms", "absolute", 40.0),
    Feature("sdnn", "ms", "absolute", 40.0),
)
# Signals without features of their own.
_PLAIN = (Feature("mean", "", "level"), Feature("sd", "", "amplitude", 0.75), Feature("slope", "1/s", "amplitude"))
FEATURES: dict[Modality, tuple[Feature, ...]] = dict.fromkeys(Modality, _PLAIN) | {
    Modality.EDA: (
        Feature("scl", "uS", "level"),
        Feature("slope", "uS/s", "amplitude"),
        Feature("sd", "uS", "amplitude"),
        Feature("scr_count", "1", "absolute"),
        Feature("scr_amplitude", "uS", "amplitude"),
        Feature("rise", "uS", "amplitude"),
    ),
    Modality.BVP: (
        *_CARDIAC,
        Feature("pulse_amplitude", "a.u.", "amplitude", 2.5),
        Feature("pulse_amplitude_sd", "a.u.", "amplitude", 0.4),
    ),
    Modality.ECG: (
        *_CARDIAC,
        Feature("r_amplitude", "mV", "amplitude", 6.0),
        Feature("r_amplitude_sd", "mV", "amplitude", 0.4),
    ),
}


def features_of(modalities: Sequence[Modality]) -> tuple[tuple[Modality, Feature], ...]:
    """The F features of these signals, in the order of `physiology`."""
    return tuple((m, feature) for m in modalities for feature in FEATURES[m])


def feature_names(modalities: Sequence[Modality]) -> tuple[str, ...]:
    """`eda.scl` and so on, in the order of `physiology`."""
    return tuple(f"{m}.{feature.name}" for m, feature in features_of(modalities))


def physiology(
    values: npt.NDArray[np.float32], rate_hz: float, modalities: Sequence[Modality]
) -> npt.NDArray[np.float32]:
    """Features [F] of one window, values [M, S] in the modalities' units on a grid of `rate_hz` (50 Hz or more).

    NaN where a feature cannot be computed, such as a heart rate from too few beats.
    """
    parts = []
    for modality, row in zip(modalities, values.astype(np.float64), strict=True):
        if modality is Modality.EDA:
            parts.append(_skin(row, rate_hz))
        elif modality in (Modality.ECG, Modality.BVP):
            parts.append(_heart(row, rate_hz, modality))
        else:
            parts.append((float(row.mean()), float(row.std()), _slope(np.arange(row.size) / rate_hz, row)))
    return np.concatenate(parts).astype(np.float32)


def _slope(times_s: Array, values: Array) -> float:
    """Of the least-squares line."""
    centred = times_s - times_s.mean()
    return float(centred @ values / (centred @ centred))


def _skin(eda_us: Array, rate_hz: float) -> tuple[float, ...]:
    smooth = gaussian_filter1d(eda_us, SCR_SMOOTHING_S * rate_hz, mode="nearest")
    _, found = find_peaks(smooth, prominence=MIN_SCR_US)
    rises_us = found["prominences"]
    return (
        float(eda_us.mean()),
        _slope(np.arange(eda_us.size) / rate_hz, eda_us),
        float(eda_us.std()),
        float(rises_us.size),
        float(rises_us.mean()) if rises_us.size else 0.0,
        # Also of a response whose peak comes after the window.
        float((smooth - np.minimum.accumulate(smooth)).max()),
    )


def _heart(signal: Array, rate_hz: float, modality: Modality) -> tuple[float, ...]:
    missing = (float("nan"),) * len(FEATURES[modality])
    if signal.size < 2 * MAX_BEAT_S * rate_hz or np.ptp(signal) == 0.0:
        return missing
    times_s, amplitudes = (r_waves if modality is Modality.ECG else pulses)(signal, rate_hz)
    intervals_s = np.diff(times_s)
    good = (intervals_s >= MIN_BEAT_S) & (intervals_s <= MAX_BEAT_S)
    if good.any():
        middle_s = np.median(intervals_s[good])
        good &= np.abs(intervals_s - middle_s) <= MAX_DEVIATION * middle_s
    if np.count_nonzero(good) < MIN_INTERVALS:
        return missing
    rates = 60.0 / intervals_s[good]
    steps_s = np.diff(intervals_s)[good[:-1] & good[1:]]
    return (
        60.0 / float(np.median(intervals_s[good])),
        _slope(times_s[1:][good], rates),
        1000.0 * float(np.sqrt(np.mean(steps_s**2))) if steps_s.size >= 2 else float("nan"),
        1000.0 * float(intervals_s[good].std(ddof=1)),
        float(np.median(amplitudes)),
        float(amplitudes.std()),
    )
