"""`edgepain train --batch-folds` and `--device`: a whole run, a kill, and what is refused before any work."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from edgepain.train.batched import DEFAULT_FOLDS, FoldsTogether, open_device
from edgepain.train.chosen import write_chosen
from edgepain.train.config import StageConfig
from edgepain.train.create import Plan, create_run
from edgepain.train.run import Run
from edgepain.train.workers import InThisProcess, Outcome


def arguments(plan: Plan, toml: Path, out: Path) -> list[object]:
    return [
        "--dataset",
        "e4",
        "--root",
        plan.root,
        "--config",
        toml,
        "--protocol",
        "loso",
        "--threads",
        1,
        "--out",
        out,
    ]


def together(run: Run, log: type[Any], folds: int = DEFAULT_FOLDS) -> list[Outcome]:
    engine = FoldsTogether(open_device("cpu"), folds, lambda _: log(), InThisProcess(lambda _: log()))
    tasks = [task for task in run.tasks() if not run.finished(task)]
    return list(engine.run(run, tasks, lambda: None))


def test_a_run_folder_like_any_other(
    edgepain: Callable[..., Any], loso_plan: Plan, tiny_toml: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    answer = edgepain("train", *arguments(loso_plan, tiny_toml, run), "--batch-folds", 2, "--peer", "svm")
    assert answer.code == 0, answer.err
    assert "2 folds at once: fcn.eda: epoch 3 of 3" in answer.err
    assert "1 fold at once: crossmod: epoch 2 of 2" in answer.err
    assert "seed0-fold02/svm done (6 of 6)" in answer.err
    assert not list(run.glob("folds/*/features"))
    answer = edgepain("report", run, "--no-explain", "--out", tmp_path / "report")
    assert answer.code == 0, answer.err
    answer = edgepain("export", run, "--fold", "seed0-fold01", "--out", tmp_path / "bundle", "--precision", "fp32")
    assert answer.code == 0, answer.err


def test_folds_with_other_settings_or_without_data_are_set_apart(
    loso_plan: Plan, log: type[Any], tmp_path: Path
) -> None:
    """A fold for which a search chose settings is trained with them; one that cannot be trained fails alone."""
    config = msgspec.structs.replace(loso_plan.train, modality_dropout=0.3)
    plan = Plan(**{**vars(loso_plan), "peers": (), "train": config})
    run = create_run(tmp_path / "run", plan)[0]
    first, second, third = run.folds
    write_chosen(first.folder, {"fcn.eda": StageConfig(1, 1e-3, 0.2)})
    checkpoint = second.folder / "stages" / "alstm.eda" / "state.safetensors"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"none")
    outcomes = {outcome.task.fold: outcome.error for outcome in together(run, log)}
    assert outcomes.keys() == {fold.name for fold in run.folds}
    assert outcomes[first.name] == outcomes[third.name] == ""
    assert "is damaged" in outcomes[second.name]
    assert [len(run.curves()[fold.name]["fcn.eda"]) for fold in run.folds] == [1, 3, 3]
    assert not (second.folder / "stages" / "transformer.eda").exists()


def test_a_run_killed_between_two_checkpoints_goes_on(
    edgepain: Callable[..., Any],
    training: Callable[..., Any],
    block: Callable[..., Any],
    loso_plan: Plan,
    tmp_path: Path,
) -> None:
    run = create_run(tmp_path / "run", Plan(**{**vars(loso_plan), "peers": ()}))[0]
    blocked = block(run, "seed0-fold01", "alstm.eda")
    with training("--resume", run.folder, "--batch-folds", 3) as process:
        os.kill(blocked.wait(process), signal.SIGKILL)
        process.wait()
    blocked.remove()
    written = run.folder / "folds/seed0-fold00/stages/alstm.eda/state.safetensors"
    before = load_file(written)
    assert not (run.folder / "folds/seed0-fold02/stages/alstm.eda/state.safetensors").exists()
    answer = edgepain("train", "--resume", run.folder, "--batch-folds", 3)
    assert answer.code == 0, answer.err
    assert "fcn.eda: epoch" not in answer.err
    after = load_file(written)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")
def test_cuda_without_a_gpu_is_refused_before_any_work(
    edgepain: Callable[..., Any], loso_plan: Plan, tiny_toml: Path, tmp_path: Path
) -> None:
    answer = edgepain("train", *arguments(loso_plan, tiny_toml, tmp_path / "run"), "--device", "cuda")
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("error: --device cuda: torch ")
    assert "finds no CUDA GPU here; leave --device out" in answer.err
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--choose-epoch-on-test-fold"], "leave out --device and --batch-folds to choose it on the test fold"),
        (["--precision", "bf16"], "cpu does not train folds together in bf16"),
        (["--engine", "ray"], "--device and --batch-folds are for this machine, not for --engine ray"),
    ],
)
def test_what_does_not_go_together_is_refused(
    edgepain: Callable[..., Any], loso_plan: Plan, tiny_toml: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    answer = edgepain("train", *arguments(loso_plan, tiny_toml, tmp_path / "run"), "--batch-folds", 2, *options)
    assert answer.code == 2
    assert message in " ".join(answer.err.split())
    assert not (tmp_path / "run").exists()
