"""`edgepain bench train`: a process, its output, its exit code; and the comparison of accuracies."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import msgspec
import pytest
from rich.console import Console

from edgepain.benchmarks import train_accuracy
from edgepain.benchmarks.train_blocks import KINDS
from edgepain.benchmarks.train_report import TrainReport, show


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "edgepain", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def report() -> TrainReport:
    done = bench("train", "--windows", 9, "--rounds", 2, "--seeds", 0, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return msgspec.convert(json.loads(done.stdout), TrainReport)


def test_every_stage_is_measured_in_three_ways(report: TrainReport) -> None:
    assert tuple(s.stage for s in report.stages) == KINDS
    assert (report.windows, report.rounds, report.threads, report.accuracy) == (9, 2, 1, None)
    assert report.clock == "processor"
    assert [s.epochs for s in report.stages] == [2 * 900, 2 * 500, 2 * 100, 50]
    for s in report.stages:
        assert min(s.plain_s, s.plain_kept_s, s.ours_s) > 0
    for s in report.stages[:2]:
        assert s.plain_s == s.plain_kept_s


def test_the_protocol_is_the_sum_of_its_epochs(report: TrainReport) -> None:
    protocol, hours = report.protocol, 3440 / 9 / 3600
    features = sum(s.features_s for s in report.stages)
    assert protocol.plain_h == pytest.approx(hours * sum(s.plain_s * s.epochs for s in report.stages))
    assert protocol.ours_h == pytest.approx(hours * (features + sum(s.ours_s * s.epochs for s in report.stages)))
    assert protocol.times_faster == pytest.approx(protocol.plain_h / protocol.ours_h)
    assert protocol.times_faster_than_kept == pytest.approx(protocol.plain_kept_h / protocol.ours_h)


def test_the_table_says_what_was_compared(report: TrainReport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_accuracy, "EPOCHS", dict.fromkeys(KINDS, 1))
    monkeypatch.setattr(train_accuracy, "PEOPLE", 4)
    monkeypatch.setattr(train_accuracy, "TRIALS", 2)
    steps: list[str] = []
    accuracy = train_accuracy.compare_accuracy(2, steps.append)
    assert len(steps) == 4
    assert [row.precision for row in accuracy.rows] == ["fp32", "ours"]
    assert accuracy.windows == accuracy.held_out_windows == 8
    assert all(len(row.accuracy) == len(row.auc) == 2 for row in accuracy.rows)
    console = Console(file=io.StringIO(), width=100)
    show(msgspec.structs.replace(report, accuracy=accuracy), console)
    assert isinstance(console.file, io.StringIO)
    text = " ".join(console.file.getvalue().split())
    for expected in ("synthetic people", "frozen blocks run again in every step", "ours − fp32", "1 of", "torch 2"):
        assert expected in text


def test_help_of_bench_names_it_and_a_wrong_option_is_refused() -> None:
    assert "edgepain bench train" in bench("--help").stdout
    done = bench("train", "--windows", 1)
    assert done.returncode == 2
    assert "Usage: edgepain bench train" in done.stderr
