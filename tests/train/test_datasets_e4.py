"""E4 sessions with a label file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepain.errors import ConfigError, DataError
from edgepain.signal import Modality
from edgepain.train.datasets.base import Dataset, open_dataset
from edgepain.train.windows import cut_table

HEADER = "subject,segment,label,start_s,end_s\n"
SECONDS = 60


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rows = ""
    for subject in ("A", "B", "C"):
        folder = tmp_path / "raw" / subject
        folder.mkdir(parents=True)
        rng = np.random.default_rng(ord(subject))
        for name, rate in (("EDA", 4), ("BVP", 64)):
            values = "\n".join(f"{v:.4f}" for v in rng.uniform(0.5, 2.0, rate * SECONDS))
            (folder / f"{name}.csv").write_text(f"1700000000.0\n{rate}\n{values}\n")
        rows += f"{subject},rest,0,0,20\n{subject},talk,1,20,40\n{subject},other,0,40,60\n"
    (tmp_path / "labels.csv").write_text(HEADER + rows)
    return tmp_path


def read_all(dataset: Dataset) -> dict[str, list[str]]:
    return {s: [e.name for r in dataset.recordings(s) for e in r.events] for s in dataset.subjects()}


def test_segments_become_labels(root: Path) -> None:
    dataset = open_dataset("e4", root, positive=["talk"], negative=["rest"])
    assert dataset.labels == ("rest", "talk")
    assert dataset.modalities == (Modality.EDA, Modality.BVP)
    assert dataset.subjects() == ("A", "B", "C")
    (recording,) = dataset.recordings("A")
    assert [(e.name, e.label, e.start_s, e.end_s) for e in recording.events] == [
        ("rest", 0, 0, 20),
        ("talk", 1, 20, 40),
    ]
    assert dataset.problems() == []
    assert dataset.ordered


def test_windows_fill_each_segment(root: Path) -> None:
    dataset = open_dataset("e4", root, positive="talk", negative="rest")
    table = cut_table(dataset, (Modality.EDA, Modality.BVP))
    rows = table.subjects == "A"
    np.testing.assert_allclose(table.start_s[rows], [0, 5.5, 11, 20, 25.5, 31])
    np.testing.assert_array_equal(table.labels[rows], [0, 0, 0, 1, 1, 1])


def test_the_label_column_decides_without_names(root: Path) -> None:
    assert read_all(open_dataset("e4", root))["A"] == ["rest", "talk", "other"]


def test_sessions_directly_under_the_root(root: Path) -> None:
    for folder in (root / "raw").iterdir():
        folder.rename(root / folder.name)
    (root / "raw").rmdir()
    assert open_dataset("e4", root).subjects() == ("A", "B", "C")


def test_unusable_files_are_reported_and_the_rest_is_read(root: Path) -> None:
    (root / "raw" / "A" / "EDA.csv").write_text("1700000000\n4\nbroken\n")
    (root / "raw" / "B" / "BVP.csv").unlink()
    with (root / "labels.csv").open("a") as file:
        file.write("Z,rest,0,0,20\nC,rest,0,ten,20\nC,talk,1,5000,6000\nC,rest,0,9,4\n")
    dataset = open_dataset("e4", root, positive=["talk"], negative=["rest"])
    read_all(dataset)
    usable = read_all(dataset)
    assert usable == {"A": [], "B": [], "C": ["rest", "talk"]}
    reasons = [f"{Path(p.where).name}: {p.reason}" for p in dataset.problems()]
    assert len(reasons) == 6
    for expected in (
        "labels.csv, line 11: no session folder of subject Z",
        "labels.csv, line 12: start_s and end_s",
        "labels.csv, line 13: lies outside",
        "labels.csv, line 14: start_s and end_s",
        "B: no bvp file",
    ):
        assert any(reason.startswith(expected) for reason in reasons), reasons
    assert any("line 3 is not one number" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positive": ["talk"]}, "for both positive and negative"),
        ({"positive": ["walk"], "negative": ["rest"]}, "no segment is called 'walk'; .* has other, rest, talk"),
        ({"positive": ["talk"], "negative": ["talk"]}, "cannot be both"),
        ({"colour": "red"}, "no option 'colour'; it has label_file, positive, negative"),
    ],
)
def test_wrong_options(root: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_dataset("e4", root, **options)


def test_a_missing_column_or_label_file(root: Path) -> None:
    (root / "labels.csv").write_text("subject,segment,start\nA,rest,0\n")
    with pytest.raises(DataError, match="no column 'start_s'"):
        open_dataset("e4", root)
    (root / "labels.csv").unlink()
    with pytest.raises(DataError, match="no such file; it tells which segment"):
        open_dataset("e4", root)
    with pytest.raises(DataError, match="no Empatica E4 session here"):
        open_dataset("e4", root / "raw" / "A")
    with pytest.raises(DataError, match="no such folder"):
        open_dataset("e4", root / "nowhere")


def test_stress_predict(shared_data: Path) -> None:
    dataset = open_dataset("e4", shared_data / "stress_predict", positive=["interview"], negative=["relax1", "relax2"])
    assert len(dataset.subjects()) == 35
    table = cut_table(dataset, (Modality.EDA, Modality.BVP), subjects=("S01", "S35"))
    assert set(table.subjects) == {"S01", "S35"}
    assert table.quality_ok.mean() > 0.95
    # Interview of S01 lasts from 1031 s to 1596 s: 102 windows of 5.5 s.
    assert np.count_nonzero((table.subjects == "S01") & (table.labels == 1)) == 102
    assert dataset.problems() == []
