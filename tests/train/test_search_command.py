"""`edgepain search` as a person uses it: several processes on one study, kills, and messages for mistakes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgepain.train.create import Plan, create_run

SLOW_EPOCHS = 25
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a search in a process of its own, which ends with the test."""
    processes: list[subprocess.Popen[str]] = []

    def begin(*arguments: object) -> subprocess.Popen[str]:
        processes.append(
            subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "edgepain", "search", *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"},
            )
        )
        return processes[-1]

    yield begin
    for process in processes:
        with process:
            process.kill()


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def trials(run: Path, stage: str) -> dict[int, list[dict[str, Any]]]:
    """What was written of each trial of a study."""
    found: dict[int, list[dict[str, Any]]] = {}
    path = run / "folds" / "seed0-fold00" / "search" / f"{stage}.journal"
    for line in path.read_text().splitlines() if path.exists() else ():
        entry = json.loads(line)
        if entry["op_code"] == 4:
            found[len(found)] = []
        elif "trial_id" in entry:
            found[entry["trial_id"]].append(entry)
    return found


def finished(run: Path, stage: str) -> list[tuple[dict[str, float], list[float] | None]]:
    """Settings and score of every trial that ran to its end or was pruned."""
    return [
        ({e["param_name"]: e["param_value_internal"] for e in entries if e["op_code"] == 5}, entry["values"])
        for entries in trials(run, stage).values()
        for entry in entries
        if entry["op_code"] == 6 and entry["state"] in (1, 2)
    ]


def wait_for(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    while not ready():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory, e4_plan: Plan) -> Path:
    """A run of which nothing is trained."""
    return create_run(tmp_path_factory.mktemp("untrained") / "run", e4_plan)[0].folder


@pytest.fixture
def run(tmp_path: Path, untrained: Path) -> Path:
    return shutil.copytree(untrained, tmp_path / "run")


def test_a_killed_search_goes_on_to_the_same_choice(
    run: Path, tmp_path: Path, edgepain: Callable[..., Any], start: Start
) -> None:
    through = shutil.copytree(run, tmp_path / "through")
    asked = ("--stage", "alstm.eda", "--trials", 3, "--inner", 2, "--epochs", SLOW_EPOCHS)
    checkpoints = run / "folds" / "seed0-fold00" / "search" / "trials"

    process = start(run, *asked)
    wait_for(process, lambda: len(list(checkpoints.glob("*/inner0/state.safetensors"))) == 1)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130
    assert err.endswith("\nstopped; finished trials are kept, go on with the same command\ninterrupted\n")

    process = start(run, *asked)
    wait_for(process, lambda: bool(finished(run, "alstm.eda")) and list(checkpoints.glob("*/inner0")) != [])
    process.kill()
    finish(process)
    kept = finished(run, "alstm.eda")
    assert 1 <= len(kept) < 3

    answer = edgepain("search", run, *asked)
    assert answer.code == 0, answer.err
    assert finished(run, "alstm.eda")[: len(kept)] == kept
    assert len(trials(run, "alstm.eda")) > 3  # Some were killed on their way.
    assert len(finished(run, "alstm.eda")) == 3
    assert not checkpoints.exists()
    assert answer.err.endswith("3 of 3 trials, 0:00:00 left\n")
    assert f"next: edgepain train --resume {run}" in answer.out

    assert edgepain("search", through, *asked).code == 0
    assert finished(through, "alstm.eda") == finished(run, "alstm.eda")
    fold = Path("folds", "seed0-fold00", "chosen.json")
    assert (through / fold).read_bytes() == (run / fold).read_bytes()


def test_several_workers_and_terminals_share_one_study(run: Path, start: Start) -> None:
    asked = (run, "--stage", "alstm.eda", "--trials", 4, "--inner", 2, "--epochs", 8)
    first = start(*asked)
    wait_for(first, lambda: list(run.rglob("trials/*/inner0/epochs.csv")) != [])
    first.send_signal(signal.SIGSTOP)  # Somebody who is slow is not taken for dead.
    others = start(*asked, "--workers", 2)
    wait_for(others, lambda: len(finished(run, "alstm.eda")) == 3)
    first.send_signal(signal.SIGCONT)
    for code, out, err in map(finish, (first, others)):
        assert code == 0, err
        assert "Traceback" not in err
        assert "Warning" not in err
        assert re.search(r"alstm\.eda +rate", out)
        assert max(map(len, out.splitlines()[:-1])) <= 80
    assert len(trials(run, "alstm.eda")) == 4
    assert len({tuple(params.values()) for params, _ in finished(run, "alstm.eda")}) == 4
    owners = [entries[-1]["worker_id"] for entries in trials(run, "alstm.eda").values()]
    assert owners.count(owners[0]) == 1


def test_a_run_can_be_made_without_training_it(
    tmp_path: Path, e4_root: Path, tiny_toml: Path, edgepain: Callable[..., Any]
) -> None:
    out = tmp_path / "run"
    asked = ["--dataset", "e4", "--root", e4_root, "--config", tiny_toml, "--holdout", "S02,S05", "--out", out]
    answer = edgepain("train", *asked, "--no-train")
    assert answer.code == 0
    assert answer.out.endswith(f"next: edgepain search {out}, or edgepain train --resume {out}\n")
    assert not (out / "folds").exists()
    assert edgepain("train", "--resume", out, "--no-train").code == 2


def test_training_waits_for_a_search_to_end(run: Path, edgepain: Callable[..., Any], start: Start) -> None:
    process = start(run, "--stage", "fcn.eda", "--trials", 1, "--inner", 2, "--epochs", 100_000)
    wait_for(process, lambda: len(trials(run, "fcn.eda")) == 1)
    answer = edgepain("train", "--resume", run)
    process.kill()
    finish(process)
    assert answer.code == 3
    assert "is being trained by another process; wait for it or stop it" in answer.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--stage", "fcn.ecg"], 2, "no stage is called 'fcn.ecg'; there are fcn.eda, "),
        (["--fold", "seed9"], 2, "no fold is called 'seed9'"),
        (["--inner", 5], 2, "too few for 5 inner folds; set --inner from 2 to 3"),
        (["--learning-rate", 1e-3, 1e-6], 2, "take the low end first"),
        (["--learning-rate", 0, 1e-6], 2, "are searched by their logarithm; begin above 0"),
        (["--dropout", 0.5, 1.5], 2, "no range within 0 … 1"),
    ],
)
def test_mistakes_are_told_in_one_line(
    run: Path, edgepain: Callable[..., Any], arguments: list[object], code: int, words: str
) -> None:
    answer = edgepain("search", run, *arguments)
    assert answer.code == code
    assert words in answer.err
    assert answer.err.count("\n") == 1
    assert not list(run.rglob("*.journal"))


def test_what_is_no_run_is_refused(tmp_path: Path, edgepain: Callable[..., Any]) -> None:
    answer = edgepain("search", tmp_path)
    assert answer.code == 3
    assert "is no run folder" in answer.err


def test_help_shows_an_example(edgepain: Callable[..., Any]) -> None:
    assert "edgepain search runs/" in edgepain("search", "--help").out
