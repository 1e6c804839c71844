"""`edgepain report` on trained runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgepain.train.create import Plan, create_run
from edgepain.train.run import Run


def test_report_of_a_trained_run(trained_run: Run, edgepain: Callable[..., Any], tmp_path: Path) -> None:
    answer = edgepain("report", trained_run.folder, "--out", tmp_path / "out")
    assert (answer.code, answer.out) == (0, f"report: {tmp_path / 'out/report.html'}\n")
    text = (tmp_path / "out/report.html").read_text()
    assert "synthetic (simulated people)" in text
    assert trained_run.protocol in text
    assert {"trained-results.csv", "trained-stages.csv"} <= {p.name for p in (tmp_path / "out/tables").iterdir()}
    figures = {path.stem.removeprefix("trained-") for path in (tmp_path / "out/figures").iterdir()}
    explanations = {"self-attention-diagonal", "cross-attention-streams", "embedding-attention", "embeddings"}
    assert {"learning", *explanations} <= figures
    held_out = trained_run.fold().split.held_out
    assert any(f"of {subject} (held out)" in text for subject in held_out)

    assert edgepain("report", trained_run.folder, "--no-explain", "--out", tmp_path / "out").code == 0
    assert not explanations & {path.stem.removeprefix("trained-") for path in (tmp_path / "out/figures").iterdir()}


def test_a_run_whose_checkpoint_is_damaged_is_reported_without_explanation(
    trained_run: Run, edgepain: Callable[..., Any], tmp_path: Path
) -> None:
    shutil.copytree(trained_run.folder, tmp_path / "run")
    checkpoint = next((tmp_path / "run").rglob("crossmod/state.safetensors"))
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    answer = edgepain("report", tmp_path / "run", "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
    assert "no network to explain: " in (tmp_path / "out/report.html").read_text()
    assert not (tmp_path / "out/figures/run-embeddings.svg").exists()


def test_two_runs_of_leave_one_out_side_by_side(
    e4_plan: Plan, finished: Callable[..., Run], edgepain: Callable[..., Any], tmp_path: Path
) -> None:
    folders = []
    for name, seconds in (("long", 5.5), ("short", 3.0)):
        window = msgspec.structs.replace(e4_plan.train.window, seconds=seconds)
        train = msgspec.structs.replace(e4_plan.train, window=window, calibration_share=0.25)
        plan = Plan(
            "e4", e4_plan.root, {}, (), "", (0,), train, protocol="loso", peers=("random-forest",), network=False
        )
        folders.append(finished(create_run(tmp_path / name, plan)[0]).folder)
    answer = edgepain("report", *folders, "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
    assert (tmp_path / "out/report.html").read_text().count("no network to explain: none is trained yet") == 2
    lines = (tmp_path / "out/tables/all-runs.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["long", "long", "short", "short"]


def test_what_is_no_run_is_refused(edgepain: Callable[..., Any], tmp_path: Path) -> None:
    answer = edgepain("report", tmp_path, "--out", tmp_path / "out")
    assert answer.code == 3
    assert "is no run folder" in answer.err


def test_a_run_without_answers_is_refused(e4_plan: Plan, edgepain: Callable[..., Any], tmp_path: Path) -> None:
    run, _ = create_run(tmp_path / "run", e4_plan)
    answer = edgepain("report", run.folder, "--out", tmp_path / "out")
    assert answer.code == 3
    assert f"edgepain train --resume {run.folder}" in answer.err


@pytest.mark.parametrize("arguments", [[], ["runs/x"]])
def test_runs_and_out_must_be_given(arguments: list[str], edgepain: Callable[..., Any]) -> None:
    assert edgepain("report", *arguments).code == 2
