"""`edgepain data`: check and synth as a user runs them, and the report behind check."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgepain.signal import Modality
from edgepain.train.datasets.base import open_dataset
from edgepain.train.datasets.check import check_dataset


def edgepain(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgepain", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )


def write_session(folder: Path, eda: np.ndarray, seconds: int = 60) -> None:
    folder.mkdir(parents=True)
    bvp = np.random.default_rng(1).normal(0, 30, 64 * seconds)
    for name, rate, values in (("EDA", 4, eda), ("BVP", 64, bvp)):
        (folder / f"{name}.csv").write_text(f"1700000000\n{rate}\n" + "\n".join(f"{v:.5f}" for v in values) + "\n")


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    eda = rng.uniform(1.0, 2.0, 240)
    write_session(tmp_path / "A", eda)
    troubled = eda.copy()
    troubled[:8] = np.nan
    troubled[40:42] = np.nan
    troubled[100:140] = 1.5
    troubled[160:168] = np.linspace(0.0, 0.001, 8)
    write_session(tmp_path / "B", troubled)
    rows = "".join(f"{s},rest,0,0,30\n{s},talk,1,30,60\n" for s in "AB")
    (tmp_path / "labels.csv").write_text("subject,segment,label,start_s,end_s\n" + rows)
    return tmp_path


def test_gaps_flat_stretches_and_lost_contact_are_measured(sessions: Path) -> None:
    report = check_dataset(open_dataset("e4", sessions))
    by_subject = {s.subject: {c.modality: c for c in s.channels} for s in report.subjects}
    eda = by_subject["B"][Modality.EDA]
    assert (eda.rates_hz, eda.unit, eda.seconds) == ((4.0,), "uS", 60.0)
    assert (eda.gaps, eda.missing_s) == (2, 2.5)
    assert (eda.flat_s, eda.no_contact_s) == (10.0, 2.0)
    whole = by_subject["A"][Modality.EDA]
    assert (whole.gaps, whole.flat_s, whole.no_contact_s) == (0, 0.0, 0.0)
    assert report.events == {"label 0": 2, "label 1": 2}
    assert report.usable
    assert report.obstacles == []


def test_what_stands_in_the_way_of_training(sessions: Path) -> None:
    (sessions / "labels.csv").write_text("subject,segment,label,start_s,end_s\nA,rest,0,0,30\nA,talk,1,90,99\n")
    report = check_dataset(open_dataset("e4", sessions))
    assert not report.usable
    assert report.obstacles == [
        "no labelled stretch of class 'label 1'",
        "1 usable subject(s); training and judging need two or more",
    ]


def test_one_class_only_ends_with_3(sessions: Path) -> None:
    rows = "".join(f"{s},rest,,0,30\n{s},talk,1,30,60\n" for s in "AB")
    (sessions / "labels.csv").write_text("subject,segment,label,start_s,end_s\n" + rows)
    result = edgepain("data", "check", sessions)
    assert result.returncode == 3
    assert "not enough to train on: only one class ('label 1'); telling apart needs two" in result.stdout
    named = edgepain("data", "check", sessions, "--option", "positive=talk", "--option", "negative=rest")
    assert named.returncode == 0
    assert "not enough" not in named.stdout


def test_check_prints_what_it_found_and_one_subject_ends_with_3(sessions: Path) -> None:
    (sessions / "A" / "EDA.csv").write_text("broken")
    result = edgepain("data", "check", sessions, "--option", "positive=talk", "--option", "negative=rest")
    assert result.returncode == 3, result.stderr
    assert "1 subjects; labelled stretches: 1 rest, 1 talk" in result.stdout
    assert f"left out: {sessions / 'A' / 'EDA.csv'}: 1 lines" in result.stdout
    assert "not enough to train on: 1 usable subject(s)" in result.stdout
    assert "2 gaps" in result.stdout


def test_check_as_json(sessions: Path) -> None:
    result = edgepain("data", "check", sessions, "--json")
    report = json.loads(result.stdout)
    assert (report["dataset"], report["usable"], report["synthetic"]) == ("e4", True, False)
    assert [s["subject"] for s in report["subjects"]] == ["A", "B"]


def test_nothing_usable_ends_with_3(sessions: Path, tmp_path: Path) -> None:
    for subject in "AB":
        (sessions / subject / "EDA.csv").write_text("broken")
    result = edgepain("data", "check", sessions)
    assert result.returncode == 3
    assert "0 subjects" in result.stdout
    assert "left out:" in result.stdout
    (tmp_path / "empty").mkdir()
    result = edgepain("data", "check", tmp_path / "empty")
    assert result.returncode == 3
    assert result.stderr.startswith("error:")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(("layout", "label"), [("biovid", "2 PA4"), ("ai4pain", "2 high")])
def test_synth_writes_what_check_reads(tmp_path: Path, layout: str, label: str) -> None:
    root = tmp_path / "tree"
    written = edgepain("data", "synth", root, "--layout", layout, "--subjects", 2, "--trials", 1)
    assert written.returncode == 0, written.stderr
    assert str(root) in written.stdout
    result = edgepain("data", "check", root)
    assert result.returncode == 0, result.stderr
    assert f"{layout} (simulated)" in result.stdout
    assert label in result.stdout
    again = edgepain("data", "synth", root, "--layout", layout)
    assert again.returncode == 3
    assert "not an empty folder" in again.stderr


def test_help_shows_an_example() -> None:
    for subcommand in ("check", "synth"):
        assert f"edgepain data {subcommand} " in edgepain("data", subcommand, "--help").stdout
