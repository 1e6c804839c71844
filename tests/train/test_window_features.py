"""The features of a window table: worked out, kept on disk, scaled, and blind to what came later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepain.errors import CheckpointError
from edgepain.signal import Modality, ScalingSpec, WindowSpec
from edgepain.train.datasets.base import Placement, open_dataset
from edgepain.train.physiology import feature_names, features_of
from edgepain.train.table_file import load_table, save_table
from edgepain.train.windows import WindowTable, cut_table

BOTH = (Modality.EDA, Modality.BVP)


@pytest.fixture(scope="module")
def table(e4_root: Path) -> WindowTable:
    """Simulated people; 10 s of history are enough."""
    dataset = open_dataset("e4", e4_root)
    return cut_table(dataset, BOTH, spec=WindowSpec(5.5, 24), scaling_spec=ScalingSpec(10.0, 600.0))


def changed(table: WindowTable, **columns: object) -> WindowTable:
    from dataclasses import replace

    return replace(table, **columns)  # type: ignore[arg-type]


def test_the_features_are_of_the_signal_and_not_of_the_grid(table: WindowTable, e4_root: Path) -> None:
    assert table.feature_names == feature_names(BOTH)
    assert table.features.shape == (len(table), len(table.feature_names))
    assert table.features.dtype == np.float32
    column = dict(zip(table.feature_names, table.features.T, strict=True))
    np.testing.assert_allclose(column["eda.scl"], table.values[:, 0].mean(axis=1), rtol=0.02)
    assert np.nanmin(column["bvp.rate"]) > 45
    assert np.nanmax(column["bvp.rate"]) < 130
    coarse = cut_table(open_dataset("e4", e4_root), BOTH, spec=WindowSpec(5.5, 5))
    np.testing.assert_array_equal(coarse.features, table.features)


def test_a_window_that_cannot_be_trusted_has_none(e4_root: Path) -> None:
    late = Placement(offset_s=5.4, hop_s=5.5)
    table = cut_table(open_dataset("e4", e4_root), BOTH, spec=WindowSpec(5.5, 24), placement=late)
    bad = changed(table, quality_ok=np.zeros(len(table), np.bool_))
    assert not bad.scaled_features("subject").any()


def test_any_length_of_window_has_features(e4_root: Path) -> None:
    dataset = open_dataset("e4", e4_root)
    for seconds in (0.001, 0.1, 1.0):
        spec, placement = WindowSpec(seconds, 3), Placement(hop_s=5.5)
        table = cut_table(dataset, BOTH, spec=spec, placement=placement, subjects=["S01"])
        assert np.isfinite(table.scaled_features("subject")).all()


def test_a_table_comes_back_from_disk(table: WindowTable, tmp_path: Path) -> None:
    path = tmp_path / "windows.npz"
    with path.open("wb") as file:
        save_table(file, table, synthetic=True)
    again, _ = load_table(path)
    np.testing.assert_array_equal(again.features, table.features)
    assert again.feature_names == table.feature_names
    with path.open("wb") as file:
        save_table(file, changed(table, feature_names=table.feature_names[::-1]), synthetic=True)
    with pytest.raises(CheckpointError, match="features of another version"):
        load_table(path)


def test_scaled_by_subject(table: WindowTable) -> None:
    features = table.features.copy()
    features[3, 0] = np.nan
    features[:, 3] = 0.0
    features[5, 3] = 4.0
    x = changed(table, features=features).scaled_features("subject")
    assert x.dtype == np.float32
    assert np.isfinite(x).all()
    assert x[3, 0] == 0.0
    # More than half the values are equal: only minus the median.
    assert x[5, 3] == 4.0
    rows = table.subjects == table.subjects[0]
    low, median, high = np.percentile(x[rows, 1], (25, 50, 75))
    assert median == pytest.approx(0.0, abs=1e-5)
    assert high - low == pytest.approx(1.0, abs=1e-5)


def test_causal_by_hand(table: WindowTable) -> None:
    x = table.scaled_features("causal")
    row = int(np.flatnonzero(table.scaled("causal")[1])[0])
    for column, (modality, feature) in enumerate(features_of(BOTH)):
        m = BOTH.index(modality)
        expected = float(table.features[row, column])
        if feature.kind == "level":
            expected -= table.history_median[row, m]
        if feature.kind != "absolute":
            expected /= table.history_iqr[row, m]
        assert x[row, column] == pytest.approx(expected, rel=1e-5)


def test_causal_features_know_nothing_later_and_nobody_else(table: WindowTable) -> None:
    """Whatever is not of the window or before it may change: its features, scaled, stay what they were."""
    rng = np.random.default_rng(3)
    before = table.scaled_features("causal")
    for row in np.flatnonzero(table.scaled("causal")[1])[::4]:
        others = np.arange(len(table)) != row
        features, values = table.features.copy(), table.values.copy()
        features[others] = rng.normal(size=features[others].shape)
        values[others] = rng.normal(size=values[others].shape)
        after = changed(table, features=features, values=values).scaled_features("causal")
        np.testing.assert_array_equal(before[row], after[row])
        alone = table.select(~others).scaled_features("causal")
        np.testing.assert_array_equal(before[row], alone[0])


def test_a_missing_feature_is_neutral_before_any_data(table: WindowTable) -> None:
    x = changed(table, features=np.full_like(table.features, np.nan)).scaled_features("causal")
    usable = table.scaled("causal")[1]
    neutral = [feature.neutral for _, feature in features_of(BOTH)]
    np.testing.assert_array_equal(x[usable], np.tile(np.float32(neutral), (int(usable.sum()), 1)))
    assert not x[~usable].any()


@pytest.mark.parametrize("mode", ["subject", "causal"])
def test_scaled_features_end_at_the_limit(table: WindowTable, mode: str) -> None:
    limited = changed(table, scaling_spec=ScalingSpec(10.0, 600.0, limit_iqr=0.25))
    x = limited.scaled_features(mode)  # type: ignore[arg-type]
    scaled = [k for k, (_, f) in enumerate(features_of(BOTH)) if mode == "subject" or f.kind != "absolute"]
    assert np.abs(x[:, scaled]).max() == np.float32(0.25)


def test_one_window_of_a_person(table: WindowTable) -> None:
    one = table.select(np.arange(len(table)) == 2)
    assert np.isfinite(one.scaled_features("subject")).all()
    assert np.isfinite(one.scaled_features("causal")).all()
