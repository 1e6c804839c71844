"""Window tables: placement, causal statistics, scaling, and what cannot be used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgepain.errors import ConfigError, DataError
from edgepain.signal import Event, Modality, Recording, ScalingSpec, Signal, WindowSpec
from edgepain.train.datasets.base import Dataset, Placement
from edgepain.train.windows import JOIN_GAP_S, WindowTable, cut_table

EDA_HZ, ECG_HZ = 8.0, 32.0
SPEC = WindowSpec(seconds=2.0, steps=21)
CAUSAL = ScalingSpec(min_history_s=5.0, horizon_s=20.0)
BOTH = (Modality.EDA, Modality.ECG)


class InMemory(Dataset):
    """A dataset of recordings that are already there."""

    name = "memory"
    ordered = True

    def __init__(self, recordings: dict[str, list[Recording]]) -> None:
        super().__init__()
        self._recordings = recordings
        self.labels = ("no", "yes")
        self.modalities = BOTH
        self.holdouts = {}
        self.placement = Placement(hop_s=2.0)

    @staticmethod
    def recognises(root: Path) -> bool:
        return False

    def subjects(self) -> tuple[str, ...]:
        return tuple(sorted(self._recordings))

    def recordings(self, subject: str) -> Iterator[Recording]:
        yield from self._recordings[subject]


def recording(
    subject: str, name: str, seed: int, seconds: float = 16.0, eda: npt.NDArray[np.float32] | None = None
) -> Recording:
    rng = np.random.default_rng(seed)
    if eda is None:
        eda = rng.uniform(1.0, 5.0, round(seconds * EDA_HZ)).astype(np.float32)
    ecg = rng.normal(0.0, 1.0, round(seconds * ECG_HZ)).astype(np.float32)
    signals = {Modality.EDA: Signal(Modality.EDA, eda, EDA_HZ), Modality.ECG: Signal(Modality.ECG, ecg, ECG_HZ)}
    middle = seconds / 2
    return Recording(subject, name, signals, (Event("no", 0, 0.0, middle), Event("yes", 1, middle, seconds)))


def people(**changes: npt.NDArray[np.float32]) -> InMemory:
    return InMemory({s: [recording(s, "r0", k, eda=changes.get(s))] for k, s in enumerate(("A", "B", "C"))})


def cut(dataset: Dataset, **options: object) -> WindowTable:
    return cut_table(dataset, BOTH, spec=SPEC, scaling_spec=CAUSAL, **options)  # type: ignore[arg-type]


def test_columns_and_placement() -> None:
    seen: list[tuple[int, int]] = []
    table = cut(people(), progress=lambda done, total: seen.append((done, total)))
    assert table.values.shape == (24, 2, 21)
    assert table.values.dtype == np.float32
    assert table.labels.dtype == np.int64
    np.testing.assert_allclose(table.start_s[:8], np.arange(8) * 2.0)
    np.testing.assert_array_equal(table.labels[:8], [0, 0, 0, 0, 1, 1, 1, 1])
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert table.quality_ok.all()
    assert (table.modalities, table.label_names, table.spec, table.scaling_spec) == (BOTH, ("no", "yes"), SPEC, CAUSAL)


@pytest.mark.parametrize(
    ("placement", "starts"),
    [
        (Placement(offset_s=3.0, hop_s=2.0), [3, 5, 11, 13]),
        (Placement(offset_s=3.0, hop_s=2.0, max_per_event=1), [3, 11]),
        # No room 7 s after the start of an event of 8 s: one window at its start.
        (Placement(offset_s=7.0, hop_s=1.0), [0, 8]),
    ],
)
def test_other_placements(placement: Placement, starts: list[float]) -> None:
    table = cut(people(), placement=placement, subjects=["A"])
    np.testing.assert_allclose(table.start_s, starts)


def test_causal_statistics_by_hand() -> None:
    parts = [recording("A", f"r{k}", k) for k in range(3)]
    table = cut(InMemory({"A": parts}), placement=Placement(hop_s=1.5))
    offset_s = np.arange(3) * (16.0 + JOIN_GAP_S)
    grid_s = np.arange(0, 60, 0.1)
    for m, modality in enumerate(BOTH):
        on_grid = np.full(grid_s.size, np.nan)
        samples_s = np.empty(0)
        for part, begin_s in zip(parts, offset_s, strict=True):
            signal = part.signals[modality]
            times_s = begin_s + signal.times_s
            inside = (grid_s >= times_s[0] - 1e-9) & (grid_s <= times_s[-1])
            on_grid[inside] = np.interp(grid_s[inside], times_s, signal.values)
            samples_s = np.concatenate((samples_s, times_s))
        for row in range(len(table)):
            start_s = offset_s[int(table.recordings[row][1])] + table.start_s[row]
            if start_s == 0.0:
                assert table.history_seconds[row, m] == 0.0
                continue
            last_s = samples_s[samples_s < start_s - 1e-9][-1]
            past = on_grid[(grid_s < last_s - 1e-9) & (grid_s >= start_s - CAUSAL.horizon_s - 1e-9)]
            low, median, high = np.percentile(past[np.isfinite(past)], (25, 50, 75))
            assert table.history_seconds[row, m] == pytest.approx(0.1 * np.isfinite(past).sum())
            assert table.history_median[row, m] == pytest.approx(median, rel=1e-5)
            assert table.history_iqr[row, m] == pytest.approx(high - low, rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    data=st.data(),
    begin=st.integers(0, 16 * int(EDA_HZ) - 1),
)
def test_nothing_from_the_window_on_enters_its_history(data: st.DataObject, begin: int) -> None:
    eda = np.random.default_rng(7).uniform(1.0, 5.0, 16 * int(EDA_HZ)).astype(np.float32)
    changed = eda.copy()
    changed[begin:] = data.draw(
        arrays(np.float32, eda.size - begin, elements=st.floats(0.0, 200.0, width=32) | st.just(float("nan")))
    )
    before, after = (cut(people(A=values), subjects=["A"]) for values in (eda, changed))
    early = before.start_s <= begin / EDA_HZ
    for column in ("history_median", "history_iqr", "history_seconds"):
        np.testing.assert_array_equal(getattr(before, column)[early], getattr(after, column)[early])


def test_scaling_by_subject() -> None:
    table = cut(people())
    x, usable = table.scaled("subject")
    assert usable.all()
    for subject in "ABC":
        for m in range(2):
            values = x[table.subjects == subject, m]
            low, median, high = np.percentile(values, (25, 50, 75))
            assert median == pytest.approx(0.0, abs=1e-5)
            assert high - low == pytest.approx(1.0, abs=1e-5)


def test_causal_scaling_uses_the_history_columns() -> None:
    table = cut(people())
    x, usable = table.scaled("causal")
    np.testing.assert_array_equal(usable, (table.history_seconds >= 5.0).all(axis=1))
    assert usable.any()
    assert not usable.all()
    expected = (table.values - table.history_median[..., None]) / table.history_iqr[..., None]
    np.testing.assert_allclose(x[usable], expected[usable], rtol=1e-5, atol=1e-6)
    assert not x[~usable].any()


def test_statistics_of_a_subject_ignore_other_subjects() -> None:
    table = cut(people())
    mask = table.subjects == "B"
    alone, _ = table.select(mask).scaled("subject")
    np.testing.assert_array_equal(alone, table.scaled("subject")[0][mask])


def test_a_flat_subject_is_left_out_with_the_reason() -> None:
    steps = np.repeat(np.float32([2.0, 2.0, 2.0, 3.0]), 32)
    steps[::16] += 0.5
    table = cut(people(A=steps))
    assert table.quality_ok.all()
    x, usable = table.scaled("subject")
    assert usable.all()
    spiky = np.full(128, 2.0, np.float32)
    spiky[::16] = 2.5
    table = cut(people(A=spiky))
    x, usable = table.scaled("subject")
    np.testing.assert_array_equal(usable, table.subjects != "A")
    assert np.isfinite(x).all()
    (problem,) = table.unscalable("subject")
    assert problem.where == "subject A"
    assert problem.reason == "eda has an inter-quartile range of 0 over 8 windows"
    table.require_trainable("subject")
    with pytest.raises(DataError, match=r"none of 8 windows.*subject A is left out: eda has an inter-quartile range"):
        table.select(table.subjects == "A").require_trainable("subject")


def test_a_window_off_the_skin_is_kept_but_not_usable() -> None:
    off = np.random.default_rng(1).uniform(1, 5, 128).astype(np.float32)
    off[:32] = 0.0
    table = cut(people(B=off))
    bad = (table.subjects == "B") & (table.start_s < 4.0)
    np.testing.assert_array_equal(table.quality_ok, ~bad)
    x, usable = table.scaled("subject")
    np.testing.assert_array_equal(usable, ~bad)
    assert np.median(x[(table.subjects == "B") & usable, 0]) == pytest.approx(0.0, abs=1e-6)


def test_one_class_or_one_subject_cannot_be_trained_on() -> None:
    table = cut(people())
    table.require_trainable("subject")
    with pytest.raises(DataError, match="no usable window has the class 'no'"):
        table.select(table.labels == 1).require_trainable("subject")
    with pytest.raises(DataError, match=r"the class 'no'; causal scaling needs 5 s .*: use --scaling subject$"):
        table.select((table.labels == 1) | (table.start_s < 5.0)).require_trainable("causal")
    with pytest.raises(DataError, match="only subject A has usable windows"):
        table.select(table.subjects == "A").require_trainable("subject")


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="memory has no bvp; it has eda, ecg"):
        cut_table(people(), [Modality.BVP])
    with pytest.raises(ConfigError, match="memory has no subject 'X'"):
        cut(people(), subjects=["X"])
    with pytest.raises(DataError, match=r"no labelled stretch holds a window of 30 s"):
        cut_table(people(), BOTH, spec=WindowSpec(seconds=30.0))
    with pytest.raises(ConfigError, match="no scaling is called 'global'"):
        cut(people()).scaled("global")  # type: ignore[arg-type]
