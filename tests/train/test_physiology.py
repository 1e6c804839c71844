"""Features of one window: what they find in signals whose beats and responses are known."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgepain.signal import Modality, WindowCutter, WindowSpec
from edgepain.train.physiology import FEATURE_HZ, feature_names, features_of, physiology

TIMES_S = np.arange(0.0, 10.0, 1.0 / FEATURE_HZ)


def features(modality: Modality, values: npt.NDArray[np.floating], rate_hz: float = FEATURE_HZ) -> dict[str, float]:
    found = physiology(values[None].astype(np.float32), rate_hz, (modality,))
    assert found.dtype == np.float32
    names = feature_names((modality,))
    return {name.partition(".")[2]: float(value) for name, value in zip(names, found, strict=True)}


def beats_at(bpm: float, swing: float = 0.0) -> npt.NDArray[np.float64]:
    """Beat times over the window; intervals are in turn longer and shorter by `swing` seconds."""
    intervals_s = 60.0 / bpm + swing * np.where(np.arange(40) % 2, 1.0, -1.0)
    return 0.3 + np.cumsum(intervals_s)


def bvp(beats_s: npt.NDArray[np.float64], height: float = 1.0) -> npt.NDArray[np.float64]:
    """Systolic waves with a dicrotic wave 0.3 s later, on a slow wander."""
    away = TIMES_S - beats_s[:, None]
    waves = np.exp(-((away / 0.09) ** 2)) + 0.35 * np.exp(-(((away - 0.3) / 0.09) ** 2))
    return height * waves.sum(axis=0) + 0.2 * np.sin(2 * np.pi * 0.1 * TIMES_S)


def ecg(beats_s: npt.NDArray[np.float64], height: float = 1.0) -> npt.NDArray[np.float64]:
    """R waves with a broad T wave 0.25 s later, on a slow wander."""
    away = TIMES_S - beats_s[:, None]
    waves = np.exp(-((away / 0.012) ** 2)) + 0.2 * np.exp(-(((away - 0.25) / 0.06) ** 2))
    return height * waves.sum(axis=0) + 0.3 * np.sin(2 * np.pi * 0.2 * TIMES_S)


@pytest.mark.parametrize("bpm", [48, 60, 75, 97, 130])
@pytest.mark.parametrize(("modality", "signal"), [(Modality.BVP, bvp), (Modality.ECG, ecg)])
def test_heart_rate(modality: Modality, signal, bpm: float) -> None:  # type: ignore[no-untyped-def]
    found = features(modality, signal(beats_at(bpm)))
    assert found["rate"] == pytest.approx(bpm, abs=0.5)
    assert found["rmssd"] < 8.0
    assert abs(found["rate_slope"]) < 0.5


@pytest.mark.parametrize(("modality", "signal"), [(Modality.BVP, bvp), (Modality.ECG, ecg)])
def test_variability(modality: Modality, signal) -> None:  # type: ignore[no-untyped-def]
    found = features(modality, signal(beats_at(70.0, swing=0.025)))
    assert found["rmssd"] == pytest.approx(50.0, abs=8.0)
    assert found["sdnn"] == pytest.approx(26.0, abs=5.0)


def test_inverted_ecg_has_the_same_beats() -> None:
    upright, inverted = (features(Modality.ECG, sign * ecg(beats_at(80))) for sign in (1, -1))
    assert inverted == pytest.approx(upright, abs=1e-3)


def test_amplitudes_grow_with_the_signal() -> None:
    for modality, signal, name in ((Modality.BVP, bvp, "pulse_amplitude"), (Modality.ECG, ecg, "r_amplitude")):
        small, large = (features(modality, signal(beats_at(75), height))[name] for height in (1.0, 3.0))
        assert large == pytest.approx(3.0 * small, rel=0.15)


def test_a_faster_heart_has_a_slope() -> None:
    beats_s = 0.3 + np.cumsum(60.0 / np.linspace(60, 90, 13))
    assert features(Modality.BVP, bvp(beats_s))["rate_slope"] == pytest.approx(3.0, abs=0.8)


@pytest.mark.parametrize("modality", [Modality.BVP, Modality.ECG])
def test_without_beats_there_is_no_rate(modality: Modality) -> None:
    assert np.isnan(list(features(modality, np.full(1280, 0.5)).values())).all()
    assert np.isnan(list(features(modality, np.sin(TIMES_S[:256])).values())).all()


def test_skin_conductance() -> None:
    def response(onset_s: float, size_us: float) -> npt.NDArray[np.float64]:
        since = np.maximum(TIMES_S - onset_s, 0.0)
        return size_us * (since / 0.8) * np.exp(1.0 - since / 0.8)

    level = 3.0 + 0.01 * TIMES_S
    quiet = features(Modality.EDA, level)
    assert quiet["scl"] == pytest.approx(3.05, abs=0.01)
    assert quiet["slope"] == pytest.approx(0.01, abs=1e-4)
    assert (quiet["scr_count"], quiet["scr_amplitude"]) == (0.0, 0.0)
    answered = features(Modality.EDA, level - 0.02 * TIMES_S + response(1.0, 0.3) + response(5.0, 0.2))
    assert answered["scr_count"] == 2.0
    assert answered["scr_amplitude"] == pytest.approx(0.25, abs=0.05)
    begun = features(Modality.EDA, level + response(9.4, 0.3))
    assert begun["scr_count"] == 0.0
    assert begun["rise"] > 0.2 > quiet["rise"]
    assert answered["rise"] == pytest.approx(0.3, abs=0.05)
    assert features(Modality.EDA, level - 0.02 * TIMES_S + response(2.0, 0.005))["scr_count"] == 0.0


@settings(max_examples=60, deadline=None)
@given(
    values=st.integers(2, 700).flatmap(
        lambda steps: arrays(np.float32, (4, steps), elements=st.floats(-1e4, 1e4, width=32))
    )
)
def test_any_window_has_finite_or_missing_features(values: npt.NDArray[np.float32]) -> None:
    modalities = (Modality.EDA, Modality.ECG, Modality.BVP, Modality.RESP)
    found = physiology(values, FEATURE_HZ, modalities)
    assert found.shape == (len(feature_names(modalities)),) == (len(features_of(modalities)),)
    assert not np.isinf(found).any()
    cardiac = [name.split(".")[0] in ("ecg", "bvp") for name in feature_names(modalities)]
    assert np.isfinite(found[~np.array(cardiac)]).all()


def test_ecg_and_pulse_of_one_person_agree(shared_data: Path) -> None:
    """NeuroKit2's recording of both at once; its own peaks give a median of 86.9 beats a minute."""
    with (shared_data / "neurokit" / "bio_resting_5min_100hz.csv").open() as file:
        rows = list(csv.DictReader(file))
    cutter = WindowCutter((Modality.ECG, Modality.BVP))
    for modality, column in ((Modality.ECG, "ECG"), (Modality.BVP, "PPG")):
        values = np.array([float(row[column]) for row in rows], np.float32)
        cutter.push(modality, np.arange(values.size) / 100.0, values, 100.0)
    spec = WindowSpec(10.0, 1281)
    found = np.array([physiology(cutter.values(t, spec), FEATURE_HZ, cutter.modalities) for t in range(0, 285, 5)])
    column = dict(zip(feature_names(cutter.modalities), found.T, strict=True))
    assert np.median(column["ecg.rate"]) == pytest.approx(86.9, abs=1.0)
    assert np.median(np.abs(column["ecg.rate"] - column["bvp.rate"])) < 1.0
    assert np.median(column["bvp.rmssd"]) == pytest.approx(np.median(column["ecg.rmssd"]), rel=0.15)
