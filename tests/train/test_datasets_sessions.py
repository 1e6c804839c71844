"""Recorded sessions with markers as a dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from edgepain.errors import ConfigError, DataError
from edgepain.signal import Modality
from edgepain.train.datasets.base import Dataset, guess_dataset, open_dataset
from edgepain.train.windows import cut_table

RULES = """
classes = ["no pain", "pain"]

[[stretch]]
class = "pain"
begin = "heat on"
end = "heat off"

[[stretch]]
class = "no pain"
begin = "rest"
seconds = 20
"""
RATED = """
classes = ["none", "some", "much"]

[rating]
before_s = 10
after_s = 2
classes = { none = [0, 0], much = [7, 10], some = [1, 6.5] }
"""
MARKS = [(1.0, "rest", None), (30.0, "heat on", None), (42.5, "NRS", 7.0), (50.0, "heat off", None)]


def table(marks: list[tuple[float, str, float | None]], seconds: int = 60, seed: int = 0) -> pd.DataFrame:
    """What `edgepain convert` writes: EDA at 4 Hz, BVP at 64 Hz from 0.25 s on, with a gap of 2 s."""
    random = np.random.default_rng(seed)
    eda = pd.DataFrame({"time_s": np.arange(4 * seconds) / 4, "eda_us": random.uniform(1, 2, 4 * seconds)})
    bvp = pd.DataFrame({"time_s": 0.25 + np.arange(64 * seconds) / 64, "bvp_au": random.normal(size=64 * seconds)})
    bvp = bvp[(bvp["time_s"] < 10) | (bvp["time_s"] >= 12)]
    marked = pd.DataFrame(marks, columns=["time_s", "marker", "marker_value"])
    whole = eda.merge(bvp, how="outer", on="time_s").merge(marked, how="outer", on="time_s").sort_values("time_s")
    return whole.assign(segment=1).astype({"eda_us": "float32", "bvp_au": "float32", "marker_value": "float64"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "sessions.toml").write_text(RULES)
    table(MARKS).to_csv(tmp_path / "S01_monday.csv", index=False)
    table(MARKS, seed=1).to_parquet(tmp_path / "S01_tuesday.parquet")
    table(MARKS, seed=2).to_csv(tmp_path / "S02.csv.gz", index=False)
    return tmp_path


def events(dataset: Dataset, subject: str) -> list[tuple[str, int, float, float]]:
    return [(e.name, e.label, e.start_s, e.end_s) for r in dataset.recordings(subject) for e in r.events]


def reasons(dataset: Dataset) -> list[str]:
    for subject in dataset.subjects():
        list(dataset.recordings(subject))
    return [f"{Path(problem.where).name}: {problem.reason}" for problem in dataset.problems()]


def test_stretches_between_markers_become_labels(root: Path) -> None:
    assert guess_dataset(root) == "sessions"
    dataset = open_dataset("sessions", root)
    assert dataset.labels == ("no pain", "pain")
    assert dataset.modalities == (Modality.EDA, Modality.BVP)
    assert dataset.subjects() == ("S01", "S02")
    assert [recording.name for recording in dataset.recordings("S01")] == ["S01_monday", "S01_tuesday"]
    assert events(dataset, "S02") == [("rest", 0, 1.0, 21.0), ("heat on", 1, 30.0, 50.0)]
    assert reasons(dataset) == []
    assert dataset.ordered


def test_signals_come_back_even_with_their_gaps(root: Path) -> None:
    (session,) = open_dataset("sessions", root).recordings("S02")
    written = table(MARKS, seed=2)
    eda, bvp = session.signals[Modality.EDA], session.signals[Modality.BVP]
    assert (eda.rate_hz, bvp.rate_hz, bvp.start_s) == (4.0, 64.0, 0.25)
    np.testing.assert_allclose(eda.values, written["eda_us"].dropna(), rtol=1e-6)
    there = np.isfinite(bvp.values)
    np.testing.assert_allclose(bvp.values[there], written["bvp_au"].dropna(), rtol=1e-5, atol=1e-6)
    assert (bvp.times_s[~there].min(), bvp.times_s[~there].max()) == pytest.approx((10.0, 12.0), abs=1 / 64 + 1e-9)


def test_a_clock_that_is_a_little_off_costs_nothing(root: Path) -> None:
    written = table(MARKS, seconds=600)
    written["time_s"] *= 1 + 200e-6
    written.to_csv(root / "S03.csv", index=False)
    (session,) = open_dataset("sessions", root).recordings("S03")
    assert session.signals[Modality.BVP].rate_hz == 64.0
    assert np.isfinite(session.signals[Modality.BVP].values).mean() > 1 - 2.5 / 600


def test_windows_lie_in_the_stretches(root: Path) -> None:
    cut = cut_table(open_dataset("sessions", root), (Modality.EDA, Modality.BVP))
    rows = cut.recordings == "S02"
    np.testing.assert_allclose(cut.start_s[rows], [1, 6.5, 12, 30, 35.5, 41])
    np.testing.assert_array_equal(cut.labels[rows], [0, 0, 0, 1, 1, 1])


def test_ratings_label_the_seconds_before_them(root: Path) -> None:
    (root / "sessions.toml").write_text(RATED)
    marks = [(3.0, "NRS", 0.0), (20.0, "NRS", 6.8), (30.0, "NRS", 6.5), (59.0, "NRS", 10.0), (40.0, "VAS", 3.0)]
    table(marks).to_csv(root / "S02.csv", index=False)
    dataset = open_dataset("sessions", root)
    assert events(dataset, "S02") == [("NRS 0", 0, 0.0, 5.0), ("NRS 6.5", 1, 20.0, 32.0), ("NRS 10", 2, 49.0, 60.25)]
    assert any("S02.csv.gz: the same session as S02.csv" in reason for reason in reasons(dataset))


def test_the_rules_may_name_the_subjects(root: Path) -> None:
    (root / "sessions.toml").write_text(RULES + '[subjects]\nAda = ["S01_monday", "S02"]\n')
    dataset = open_dataset("sessions", root)
    assert dataset.subjects() == ("Ada",)
    assert len(list(dataset.recordings("Ada"))) == 2
    assert reasons(dataset) == ["S01_tuesday.parquet: [subjects] of sessions.toml does not name it"]


def test_markers_that_do_not_fit_are_told(root: Path) -> None:
    marks = [(5.0, "heat on", None), (9.0, "heat on", None), (12.0, "rest", None), (40.0, "heat off", None)]
    table([*marks, (50.0, "heat on", None)]).to_csv(root / "S04.csv", index=False)
    dataset = open_dataset("sessions", root)
    assert events(dataset, "S04") == [("heat on", 1, 9.0, 40.0)]
    told = reasons(dataset)
    assert "stretch 1 left out: 'heat on' at 5.0 s begins again before 'heat off'" in told[0]
    assert "'heat on' at 50.0 s has no 'heat off' after it" in told[1]
    assert "'rest' at 12.0 s is of another class than 'heat on', which has not ended" in told[2]


def spoil_time(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(time_s=frame["time_s"].where(frame.index != 7))


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda frame: frame.drop(columns="time_s"), "no column 'time_s'"),
        (lambda frame: frame.drop(columns="marker_value"), "no column 'marker_value'"),
        (lambda frame: frame.drop(columns="bvp_au"), "no column 'bvp_au', which other sessions have"),
        (lambda frame: frame.drop(columns=["bvp_au", "eda_us"]), "no column of a signal"),
        (lambda frame: frame.assign(marker=None), "no marker in it means a class"),
        (lambda frame: frame.iloc[::-1], "runs backwards"),
        (lambda frame: frame.assign(time_s=1.0), "its times tell no rate"),
        (spoil_time, "time_s has no number in row 9"),
        (
            lambda frame: frame.assign(time_s=frame["time_s"].mask(frame["time_s"] > 59, 1e6)),
            "nearly all of it is a gap",
        ),
    ],
)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_files_that_cannot_be_used_are_told(
    root: Path, ending: str, spoil: Callable[[pd.DataFrame], pd.DataFrame], complaint: str
) -> None:
    frame = spoil(table(MARKS).reset_index(drop=True))
    path = root / f"S09.{ending}"
    frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
    told = reasons(open_dataset("sessions", root))
    assert len(told) == 1
    assert complaint in told[0]


@pytest.mark.parametrize(
    "content", [b"", b"time_s,marker", b"PAR1", bytes(1000), b"time_s,marker,marker_value,eda_us\na,b,c,d\n"]
)
@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_what_is_no_session_is_told(root: Path, ending: str, content: bytes) -> None:
    (root / f"S09.{ending}").write_bytes(content)
    (told,) = reasons(open_dataset("sessions", root))
    assert told.startswith(f"S09.{ending}: ")


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [
        ("classes = [", "sessions.toml: "),
        ('classes = ["pain"]\n', "of length >= 2"),
        ('classes = ["a", "b"]\n', "neither \\[\\[stretch\\]\\] nor \\[rating\\]"),
        ('classes = ["a", "b"]\n[[stretch]]\nclass = "c"\nbegin = "x"\nend = "y"\n', "class 'c' is not in `classes`"),
        ('classes = ["a", "b"]\n[[stretch]]\nclass = "a"\nbegin = "x"\n', "either `end` or `seconds`"),
        ('classes = ["a", "b"]\n[[stretch]]\nclass = "a"\nbegin = "x"\nfoo = 1\n', "unknown field `foo`"),
    ],
)
def test_rules_that_are_wrong_are_one_line(root: Path, rules: str, complaint: str) -> None:
    (root / "sessions.toml").write_text(rules)
    with pytest.raises(ConfigError, match=complaint):
        open_dataset("sessions", root)


def test_a_folder_without_rules_or_sessions_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sessions.toml cannot be read"):
        open_dataset("sessions", tmp_path)
    (tmp_path / "sessions.toml").write_text(RULES)
    with pytest.raises(DataError, match="edgepain convert --to parquet"):
        open_dataset("sessions", tmp_path)


def test_one_session_with_a_signal_more_changes_nothing_for_the_others(root: Path) -> None:
    table(MARKS).assign(ecg_mv=lambda frame: frame["bvp_au"]).to_csv(root / "S03.csv", index=False)
    dataset = open_dataset("sessions", root)
    assert dataset.modalities == (Modality.EDA, Modality.BVP)
    assert reasons(dataset) == []
    assert len(list(dataset.recordings("S03"))) == 1
