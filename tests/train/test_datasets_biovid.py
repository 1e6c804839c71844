"""BioVid trees as the project's own writer makes them, and ways they can be broken."""

from __future__ import annotations

import gzip
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepain.errors import ConfigError, DataError
from edgepain.signal import Modality, QualityCode, assess
from edgepain.train.datasets.base import Dataset, guess_dataset, open_dataset
from edgepain.train.datasets.synth import write_biovid
from edgepain.train.datasets.tables import read_numbers
from edgepain.train.windows import cut_table

SUBJECTS, TRIALS = 3, 2


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("biovid") / "tree"
    write_biovid(root, SUBJECTS, seed=5, trials=TRIALS)
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "tree"))


def clips(root: Path, level: str = "PA4") -> list[Path]:
    return sorted(root.glob(f"PartA/biosignals_filtered/*/*-{level}-*_bio.csv"))


def names(dataset: Dataset) -> list[str]:
    return [r.name for s in dataset.subjects() for r in dataset.recordings(s)]


def only_problem(dataset: Dataset) -> str:
    names(dataset)
    (problem,) = dataset.problems()
    return f"{Path(problem.where).name}: {problem.reason}"


def test_clips_of_the_two_default_levels(written: Path) -> None:
    dataset = open_dataset("biovid", written)
    assert guess_dataset(written) == "biovid"
    assert dataset.labels == ("BL1", "PA4")
    assert not dataset.ordered
    assert dataset.synthetic
    assert len(dataset.subjects()) == SUBJECTS
    (first, *_) = (r for r in dataset.recordings(dataset.subjects()[0]) if "-PA4-" in r.name)
    (event,) = first.events
    assert (event.name, event.label, event.start_s, event.end_s) == ("PA4", 1, 0.0, 5.5)
    assert {m: (s.rate_hz, s.values.size, s.unit) for m, s in first.signals.items()} == {
        Modality.EDA: (512.0, 2816, "uS"),
        Modality.ECG: (512.0, 2816, "mV"),
    }
    assert len(names(dataset)) == SUBJECTS * 2 * TRIALS
    assert dataset.problems() == []


def test_one_window_a_clip(written: Path) -> None:
    table = cut_table(open_dataset("biovid", written), (Modality.EDA, Modality.ECG))
    assert table.values.shape == (SUBJECTS * 2 * TRIALS, 2, 138)
    assert table.quality_ok.all()
    assert not table.start_s.any()
    np.testing.assert_array_equal(np.bincount(table.labels), [SUBJECTS * TRIALS] * 2)


def test_the_order_of_clips_is_fixed_and_not_that_of_the_names(written: Path) -> None:
    dataset = open_dataset("biovid", written, levels=["BL1", "PA1", "PA2", "PA3", "PA4"])
    first, second = names(dataset), names(dataset)
    assert first == second
    assert first != sorted(first)
    half = len(first) // SUBJECTS // 2
    assert {name.split("-")[1] for name in first[:half]} != {"BL1", "PA1"}


def test_other_levels_and_raw_signals(written: Path, root: Path) -> None:
    dataset = open_dataset("biovid", written, levels=("PA1", "PA2", "PA3"))
    assert dataset.labels == ("PA1", "PA2", "PA3")
    with pytest.raises(ConfigError, match="two or more different ones"):
        open_dataset("biovid", written, levels=["BL1", "PA9"])
    with pytest.raises(DataError, match="expected PartA/biosignals_raw"):
        open_dataset("biovid", written, signals="raw")
    part = root / "PartA"
    (part / "biosignals_filtered").rename(part / "biosignals_raw")
    (part / "starting_point" / "samples.csv").rename(part / "samples.csv")
    assert names(open_dataset("biovid", part, signals="raw")) == names(open_dataset("biovid", written))


def test_official_subject_lists(written: Path) -> None:
    dataset = open_dataset("biovid", written)
    assert dataset.holdouts == {"validation": ("100914_m_39",)}
    without = open_dataset("biovid", written, exclude_nonreactive=True)
    assert set(dataset.subjects()) - set(without.subjects()) == {"100914_m_39"}
    assert without.holdouts == {}


def test_gzip_and_commas_are_read_as_well(root: Path) -> None:
    zipped, commas = clips(root)[:2]
    Path(f"{zipped}.gz").write_bytes(gzip.compress(zipped.read_bytes()))
    zipped.unlink()
    commas.write_text(commas.read_text().replace("\t", ","))
    dataset = open_dataset("biovid", root)
    assert len(names(dataset)) == SUBJECTS * 2 * TRIALS
    assert dataset.problems() == []


def test_a_half_copied_tree_says_how_much_is_missing(root: Path) -> None:
    gone, part = sorted((root / "PartA" / "biosignals_filtered").iterdir())[:2]
    shutil.rmtree(gone)
    clips(root)[0].unlink()
    dataset = open_dataset("biovid", root)
    assert gone.name not in dataset.subjects()
    reasons = {Path(p.where).name: p.reason for p in dataset.problems()}
    assert reasons == {
        gone.name: "4 of 4 listed clips are missing; copy them",
        part.name: "1 of 4 listed clips are missing; copy them",
    }


def rewrite(path: Path, old: str, new: str, line: int) -> None:
    lines = path.read_text().splitlines()
    assert old in lines[line]
    lines[line] = lines[line].replace(old, new)
    path.write_text("\n".join(lines) + "\n")


def test_a_missing_column(root: Path) -> None:
    rewrite(clips(root)[0], "gsr", "skin", 0)
    assert "no column 'gsr'; it has time, skin, ecg" in only_problem(open_dataset("biovid", root))


def test_a_cell_that_is_no_number(root: Path) -> None:
    rewrite(clips(root)[0], "\t", "\tn.a.x", 100)
    assert "is no table of numbers (could not convert" in only_problem(open_dataset("biovid", root))


def test_a_truncated_file(root: Path) -> None:
    path = clips(root)[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "rows, expected 2816; copy it again" in only_problem(open_dataset("biovid", root))
    zipped = gzip.compress(path.read_bytes())
    Path(f"{path}.gz").write_bytes(zipped[: len(zipped) // 2])
    path.unlink()
    assert "copy it again" in only_problem(open_dataset("biovid", root))
    path.write_bytes(b"")
    assert "empty; copy it again" in only_problem(open_dataset("biovid", root))


def test_a_clock_that_is_not_512_hz(root: Path) -> None:
    path = clips(root)[0]
    header, *rows = path.read_text().splitlines()
    cells = [row.split("\t") for row in rows]
    text = "\n".join("\t".join([f"{k * 1000}", *row[1:]]) for k, row in enumerate(cells))
    path.write_text(f"{header}\n{text}\n")
    assert "does not rise by 1/512 s" in only_problem(open_dataset("biovid", root))


def test_a_flat_channel_is_kept_and_judged_by_its_quality(root: Path) -> None:
    path = clips(root)[0]
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *("\t".join([r.split("\t")[0], "2.5", *r.split("\t")[2:]]) for r in rows)]))
    dataset = open_dataset("biovid", root)
    table = cut_table(dataset, (Modality.EDA, Modality.ECG))
    assert dataset.problems() == []
    (row,) = np.flatnonzero(~table.quality_ok)
    assert f"{table.recordings[row]}_bio.csv" == path.name
    assert assess(Modality.EDA, table.values[row, 0], np.ones(138, np.bool_)).code is QualityCode.FLAT


def test_a_column_of_nan(root: Path) -> None:
    path = clips(root)[0]
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *("\t".join([*r.split("\t")[:2], "NaN", r.split("\t")[3]]) for r in rows)]))
    assert "column 'ecg' holds no number" in only_problem(open_dataset("biovid", root))


def test_hostile_names_in_the_sample_list(root: Path) -> None:
    samples = root / "PartA" / "starting_point" / "samples.csv"
    with samples.open("a") as file:
        file.write("9\tx\t4\tPA4\t9\t../../../../etc/passwd-PA4-001\n")
    assert "is no sample name" in only_problem(open_dataset("biovid", root))


def test_wrong_roots(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected PartA/biosignals_filtered and PartA/starting_point"):
        open_dataset("biovid", tmp_path)
    with pytest.raises(DataError, match="no known dataset"):
        guess_dataset(tmp_path)
    samples = root / "PartA" / "starting_point" / "samples.csv"
    samples.write_text(samples.read_text().replace("sample_name", "name"))
    with pytest.raises(DataError, match="no column 'sample_name'"):
        open_dataset("biovid", root)
    samples.unlink()
    with pytest.raises(DataError, match=r"no starting_point/samples\.csv"):
        open_dataset("biovid", root)


@given(st.binary(max_size=120) | st.text('ab\t,;\n"1.5-e+na ', max_size=80).map(lambda s: ("a,b\n" + s).encode()))
def test_any_bytes_are_a_table_or_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "table.csv")
        path.write_bytes(data)
        try:
            table = read_numbers(path, ["a", "b"])
        except DataError:
            return
        assert table["a"].size == table["b"].size
        assert table["a"].dtype == np.float64
