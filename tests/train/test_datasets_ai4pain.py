"""AI4PAIN trees as the project's own writer makes them, and ways they can be broken."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edgepain.errors import ConfigError, DataError
from edgepain.signal import Modality
from edgepain.train.datasets.base import Dataset, guess_dataset, open_dataset
from edgepain.train.datasets.synth import write_ai4pain
from edgepain.train.windows import cut_table

SUBJECTS, TRIALS = 5, 2


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ai4pain") / "tree"
    write_ai4pain(root, SUBJECTS, seed=5, trials=TRIALS)
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "tree"))


def label_counts(dataset: Dataset) -> Counter[str]:
    return Counter(dataset.labels[e.label] for s in dataset.subjects() for r in dataset.recordings(s) for e in r.events)


def edit_header(path: Path, changes: dict[str, str]) -> None:
    header, rest = path.read_text().split("\n", 1)
    for old, new in changes.items():
        header = header.replace(old, new)
    path.write_text(f"{header}\n{rest}")


def test_trials_in_column_order_without_nan_tails(written: Path) -> None:
    dataset = open_dataset("ai4pain", written)
    assert guess_dataset(written) == "ai4pain"
    assert dataset.labels == ("no pain", "low", "high")
    assert dataset.ordered
    assert dataset.synthetic
    recordings = list(dataset.recordings("1"))
    header = (written / "train" / "Eda" / "1.csv").read_text().split("\n", 1)[0].split(",")
    assert [r.name for r in recordings] == header
    rows = {r.name.split("_")[1]: r.signals[Modality.EDA].values.size for r in recordings}
    assert rows == {"Baseline": 5950, "LOW": 1022, "HIGH": 1022, "REST": 3934}
    for recording in recordings:
        for signal in recording.signals.values():
            assert signal.rate_hz == 100.0
            assert np.isfinite(signal.values).all()


def test_official_split_and_unlabelled_test_subjects(written: Path) -> None:
    dataset = open_dataset("ai4pain", written)
    assert dataset.subjects() == ("1", "2", "4", "7")
    assert dataset.holdouts == {"validation": ("7",)}
    (problem,) = dataset.problems()
    assert Path(problem.where).parts[-3:] == ("test", "Eda", "3.csv")
    assert "columns without a label" in problem.reason


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ({}, {"no pain": 5, "low": TRIALS, "high": TRIALS}),
        ({"task": "binary"}, {"no pain": 5, "high": TRIALS}),
        ({"rest": "no pain"}, {"no pain": 5 + 2 * TRIALS - 1, "low": TRIALS, "high": TRIALS}),
    ],
)
def test_tasks(written: Path, options: dict[str, str], counts: dict[str, int]) -> None:
    dataset = open_dataset("ai4pain", written, **options)
    assert label_counts(dataset) == {label: 4 * count for label, count in counts.items()}


def test_windows_start_3_s_after_onset(written: Path) -> None:
    table = cut_table(open_dataset("ai4pain", written), (Modality.EDA, Modality.BVP))
    painful = table.labels > 0
    np.testing.assert_array_equal(table.start_s[painful], 3.0)
    np.testing.assert_allclose(np.unique(table.start_s[~painful]), 3.0 + 10.22 * np.arange(5))
    assert table.quality_ok.all()
    # Rests lie between the stimuli as history: 59.5 s of baseline, then a rest after each stimulus.
    assert table.history_seconds.max() > 59.5 + 39.34


def test_the_naming_of_2026_in_any_case(root: Path) -> None:
    (root / "train").rename(root / "Train")
    for folder in (root / "Train", root / "validation"):
        for kind in folder.iterdir():
            for path in kind.iterdir():
                edit_header(path, {"_LOW_": "_PainArm_", "_HIGH_": "_HAND_", "_REST_": "_NoPain_"})
            kind.rename(folder / kind.name.upper())
    dataset = open_dataset("ai4pain", root)
    assert dataset.labels == ("no pain", "arm", "hand")
    assert label_counts(dataset)["hand"] == 4 * TRIALS
    with pytest.raises(ConfigError, match="no pain levels"):
        open_dataset("ai4pain", root, task="binary")


def test_unusable_files_are_reported_and_the_rest_is_read(root: Path) -> None:
    (root / "train" / "Bvp" / "1.csv").unlink()
    path = root / "train" / "Eda" / "2.csv"
    path.write_text(path.read_text().replace("\n", "\nvolts", 2))
    edit_header(root / "train" / "Bvp" / "4.csv", {"_LOW_1": "_LOW_99"})
    dataset = open_dataset("ai4pain", root)
    counts = label_counts(dataset)
    reasons = " | ".join(f"{p.where}: {p.reason}" for p in dataset.problems())
    assert counts == {"no pain": 10, "low": 2 * TRIALS - 1, "high": 2 * TRIALS}
    assert "subject 1 has no bvp file in train" in reasons
    assert "Eda/2.csv: is no table of numbers" in reasons
    assert "Bvp/4.csv, column 4_LOW_1: missing" in reasons


def test_wrong_trees(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected train/Eda/<subject>\.csv"):
        open_dataset("ai4pain", tmp_path)
    with pytest.raises(ConfigError, match="task must be"):
        open_dataset("ai4pain", root, task="four")
    for kind in ("Eda", "Bvp"):
        shutil.copy(root / "train" / kind / "1.csv", root / "validation" / kind / "1.csv")
    with pytest.raises(DataError, match="subject 1 is in train and in validation"):
        open_dataset("ai4pain", root)
    shutil.rmtree(root / "train")
    shutil.rmtree(root / "validation")
    with pytest.raises(DataError, match="no subject with labelled EDA and BVP trials"):
        open_dataset("ai4pain", root)
