"""`edgepain bench train --device cuda`: what it works out, here on the CPU, and what it says without a GPU."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from math import ceil
from pathlib import Path

import pytest
import torch
from rich.console import Console

from edgepain.benchmarks.gpu_training import GpuReport, benchmark_groups, show
from edgepain.benchmarks.gpu_use import GpuUse
from edgepain.benchmarks.train_blocks import KINDS
from edgepain.train.batched import open_device


@pytest.fixture(scope="module")
def report() -> GpuReport:
    said: list[str] = []
    report = benchmark_groups(open_device("cpu"), folds=2, windows=8, rounds=1, progress=said.append)
    assert said == [f"{kind}, 2 folds at once" for kind in KINDS]
    return report


def test_hours_are_those_of_all_folds_at_the_papers_epochs(report: GpuReport) -> None:
    assert [s.epochs for s in report.stages] == [2 * 900, 2 * 500, 2 * 100, 50]
    assert (report.all_folds, report.fold_windows, report.precision) == (87, 3440, "fp32")
    for s, feature_runs in zip(report.stages, (2, 2, 1, 0), strict=True):
        modalities = 1 if s.stage == "crossmod" else 2
        seconds = s.epoch_s * s.epochs * ceil(87 / 2) + s.features_s * feature_runs * 87 * modalities
        assert s.hours == pytest.approx(seconds * 3440 / 8 / 3600)
        assert s.epoch_s > 0
    assert report.stages[0].teraflops == pytest.approx(3 * 73.01e6 * 16 / report.stages[0].epoch_s / 1e12, rel=0.01)
    assert report.hours == pytest.approx(sum(s.hours for s in report.stages))


def test_the_table_says_what_was_not_measured(report: GpuReport) -> None:
    console = Console(file=io.StringIO(), width=100)
    show(report, console)
    assert isinstance(console.file, io.StringIO)
    text = " ".join(console.file.getvalue().split())
    for expected in ("2 folds at once, fp32", "87 folds of 3440", "GPU busy: n/a, there is no GPU", "come on top"):
        assert expected in text


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A program of this name that runs these commands."""

    def install(commands: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{commands}\n")
        program.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    return install


def test_the_gpus_use_is_what_nvidia_smi_says(nvidia_smi: Callable[[str], None]) -> None:
    nvidia_smi('test "$3" = --id=GPU-abc && echo 90')
    with GpuUse("abc") as use:
        pass
    assert (use.percent, use.why_not) == (90.0, "")


@pytest.mark.parametrize("commands", ["echo none", "exit 9", "echo [N/A]"])
def test_a_use_that_nobody_says_is_not_made_up(nvidia_smi: Callable[[str], None], commands: str) -> None:
    nvidia_smi(commands)
    with GpuUse("abc") as use:
        pass
    assert use.percent is None
    assert use.why_not.startswith("nvidia-smi does not say it (")


def test_without_nvidia_smi_there_is_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}")
    with GpuUse("abc") as use:
        pass
    assert use.percent is None
    assert "No such file" in use.why_not


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU")
def test_the_gpu_is_measured() -> None:
    report = benchmark_groups(open_device("cuda"), folds=2, windows=64, rounds=2, progress=lambda _: None)
    assert report.gpu
    assert all(stage.gpu_percent is not None or stage.why_not for stage in report.stages)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")
def test_without_a_gpu_it_is_refused() -> None:
    command = [sys.executable, "-W", "error", "-m", "edgepain", "bench", "train", "--device", "cuda"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "finds no CUDA GPU here" in done.stderr
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)


def test_folds_at_once_are_for_a_gpu() -> None:
    command = [sys.executable, "-m", "edgepain", "bench", "train", "--batch-folds", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--batch-folds is for --device cuda" in done.stderr
