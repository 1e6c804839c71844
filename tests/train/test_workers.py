"""Runs of several tasks: any number of workers, workers and parents that are killed, folds that cannot be trained."""

from __future__ import annotations

import csv
import os
import re
import resource
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgepain.train.create import Plan, create_run
from edgepain.train.results import write_results
from edgepain.train.run import Run, open_run
from edgepain.train.workers import ATTEMPTS, LocalProcesses


def arguments(plan: Plan, toml: Path, out: Path) -> list[object]:
    peers = [text for name in plan.peers for text in ("--peer", name)]
    data = ["--dataset", "e4", "--root", plan.root, "--config", toml, "--protocol", "loso"]
    return [*data, *peers, "--threads", 1, "--out", out]


def relabelled(plan: Plan, root: Path, change: Callable[[list[list[str]]], list[list[str]]]) -> Plan:
    """The same recordings with other rows (subject, name, label, begin, end) of labels."""
    shutil.copytree(plan.root, root)
    header, *rows = csv.reader((root / "labels.csv").read_text().splitlines())
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *change(rows)])
    return replace(plan, root=root)


def version(path: Path) -> tuple[int, int]:
    """Changes whenever a file is written again."""
    facts = path.stat()
    return facts.st_ino, facts.st_mtime_ns


def test_two_workers_leave_what_one_process_leaves(
    training: Callable[..., Any],
    loso_plan: Plan,
    loso_run: Run,
    tiny_toml: Path,
    tmp_path: Path,
    left_behind: Callable[[Path], dict[str, Any]],
) -> None:
    out = tmp_path / "run"
    with training(*arguments(loso_plan, tiny_toml, out), "--workers", 2) as process:
        _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert sorted(line.partition(" done (")[0] for line in err.splitlines()) == sorted(map(str, loso_run.tasks()))
    assert left_behind(out) == left_behind(loso_run.folder)


def test_a_killed_worker_costs_its_epoch(
    loso_plan: Plan,
    loso_run: Run,
    tmp_path: Path,
    block: Callable[..., Any],
    left_behind: Callable[[Path], dict[str, Any]],
) -> None:
    run, _ = create_run(tmp_path / "run", loso_plan)
    blocked = block(run, "seed0-fold01", "alstm.eda")
    before = blocked.stage.parent / "fcn.eda" / "state.safetensors"
    written: list[tuple[int, int]] = []

    def kill_once() -> None:
        if not written and (worker := blocked.worker):
            written.append(version(before))
            blocked.remove()
            os.kill(worker, signal.SIGKILL)

    outcomes = list(LocalProcesses(2).run(run, run.tasks(), kill_once))
    assert {outcome.task: outcome.error for outcome in outcomes} == dict.fromkeys(run.tasks(), "")
    assert written == [version(before)]  # The stage before was not trained again.
    write_results(run)
    assert left_behind(run.folder) == left_behind(loso_run.folder)


def test_a_task_that_kills_every_worker_is_given_up(loso_plan: Plan, tmp_path: Path, block: Callable[..., Any]) -> None:
    run, _ = create_run(tmp_path / "run", replace(loso_plan, peers=()))
    blocked = block(run, "seed0-fold00", "fcn.eda")
    killed = set[int]()

    def kill() -> None:
        if (worker := blocked.worker) and worker not in killed:
            killed.add(worker)
            os.kill(worker, signal.SIGKILL)

    errors = {str(outcome.task): outcome.error for outcome in LocalProcesses(2).run(run, run.tasks(), kill)}
    assert len(killed) == ATTEMPTS
    assert errors.pop("seed0-fold00/crossmod") == "its process ended 3 times with exit code -9"
    assert set(errors.values()) == {""}
    assert write_results(run).unfinished == ("seed0-fold00/crossmod",)


def test_a_run_that_is_killed_whole_goes_on_with_another_engine(
    training: Callable[..., Any],
    edgepain: Callable[..., Any],
    loso_plan: Plan,
    loso_run: Run,
    tmp_path: Path,
    block: Callable[..., Any],
    alive: Callable[[int], bool],
    left_behind: Callable[[Path], dict[str, Any]],
) -> None:
    run, _ = create_run(tmp_path / "run", loso_plan)
    blocks = [block(run, "seed0-fold00", "transformer.eda"), block(run, "seed0-fold01", "alstm.bvp")]
    with training("--resume", run.folder, "--workers", 2) as process:
        workers = [each.wait(process) for each in blocks]
        assert len({process.pid, *workers}) == 3

        second = edgepain("train", "--resume", run.folder)
        assert second.code == 3
        assert re.search(r"error: \S+ is being trained by another process; wait for it or stop it\n$", second.err)

        process.kill()
        process.communicate(timeout=240)
    deadline_s = time.monotonic() + 240
    while any(map(alive, workers)):
        assert time.monotonic() < deadline_s, "a worker outlives its parent"
        time.sleep(0.02)
    for each in blocks:
        each.remove()
    stood = {each.stage: version(each.stage.parent / "fcn.eda" / "state.safetensors") for each in blocks}

    answer = edgepain("train", "--resume", run.folder)
    assert answer.code == 0
    # Stages that were finished are not trained again, nor written.
    assert "fold00/crossmod fcn.eda" not in answer.err
    assert "fold00/crossmod transformer.eda: epoch 1 of 2" in answer.err
    assert "fold01/crossmod transformer.eda" not in answer.err
    assert stood == {stage: version(stage.parent / "fcn.eda" / "state.safetensors") for stage in stood}
    assert left_behind(run.folder) == left_behind(loso_run.folder)


def test_a_fold_that_cannot_be_trained_does_not_stop_the_others(
    edgepain: Callable[..., Any], loso_plan: Plan, tiny_toml: Path, tmp_path: Path
) -> None:
    plan = relabelled(
        loso_plan, tmp_path / "data", lambda rows: [row for row in rows if row[0] == "S01" or row[2] != "1"]
    )
    run = tmp_path / "run"
    answer = edgepain("train", *arguments(plan, tiny_toml, run))
    assert answer.code == 3
    reason = "no usable window of the training subjects has the class 'label 1'"
    for method in ("crossmod", "svm"):
        assert f"error: seed0-fold00/{method}: {reason}" in answer.err
        assert f"seed0-fold02/{method} done" in answer.err
    assert (
        f"2 of 6 tasks failed, the others are kept; when the cause is gone, go on with: edgepain train --resume {run}"
    )
    assert "not finished, and not in the table: seed0-fold00/crossmod, seed0-fold00/svm" in answer.out
    assert open_run(run).unfinished() == ["seed0-fold00/crossmod", "seed0-fold00/svm"]


def test_a_subject_with_one_window(
    edgepain: Callable[..., Any], loso_plan: Plan, tiny_toml: Path, tmp_path: Path
) -> None:
    def keep_one(rows: list[list[str]]) -> list[list[str]]:
        of_s02 = [row for row in rows if row[0] == "S02" and row[2]]
        return [row for row in rows if row[0] != "S02"] + of_s02[-1:]

    plan = relabelled(loso_plan, tmp_path / "data", keep_one)
    answer = edgepain("train", *arguments(plan, tiny_toml, tmp_path / "run"))
    assert answer.code == 0, answer.err
    assert "1 of 3 folds lack a class and count only in pooled scores" in answer.out
    table = open_run(tmp_path / "run").table
    assert sum(table.subjects == "S02") == 1


def test_recordings_without_numbers(
    edgepain: Callable[..., Any], loso_plan: Plan, tiny_toml: Path, tmp_path: Path
) -> None:
    plan = relabelled(loso_plan, tmp_path / "data", lambda rows: rows)
    path = plan.root / "raw" / "S02" / "EDA.csv"
    start, rate, *lines = path.read_text().split()
    path.write_text("\n".join([start, rate, *["nan" for _ in lines]]) + "\n")
    answer = edgepain("train", *arguments(plan, tiny_toml, tmp_path / "run"))
    assert answer.code == 0, answer.err
    assert re.search(r"^left out: .*S02.*: .+$", answer.err, re.MULTILINE)
    assert open_run(tmp_path / "run").config.subjects == ("S01", "S03")


def test_a_full_disk_loses_nothing_that_is_finished(
    training: Callable[..., Any],
    edgepain: Callable[..., Any],
    loso_plan: Plan,
    loso_run: Run,
    tmp_path: Path,
    left_behind: Callable[[Path], dict[str, Any]],
) -> None:
    run, _ = create_run(tmp_path / "run", loso_plan)
    limit = 200_000  # Enough for answers, too little for weights.
    full = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))}
    with training("--resume", run.folder, "--workers", 2, **full) as process:
        _, err = process.communicate(timeout=240)
    assert process.returncode == 3
    assert len(re.findall(r"^error: \S+/crossmod: .* cannot be written \(File too large\)", err, re.MULTILINE)) == 3
    assert len(re.findall(r"^\S+/svm done", err, re.MULTILINE)) == 3
    assert edgepain("train", "--resume", run.folder).code == 0
    assert left_behind(run.folder) == left_behind(loso_run.folder)
