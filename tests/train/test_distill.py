"""A network taught by another: on the same folds and windows, never by who knows a held-out person."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edgepain.bundle import NetworkSpec, open_bundle
from edgepain.errors import CheckpointError, ConfigError
from edgepain.signal import Modality
from edgepain.train.config import DistillConfig, RunConfig, TrainConfig
from edgepain.train.create import Plan, create_run
from edgepain.train.run import NETWORK, Run, open_run
from edgepain.train.split import LeakError
from edgepain.train.student import StudentPlan, create_student
from edgepain.train.table_file import save_table
from edgepain.train.teaching import taught_loss
from edgepain.train.work import carry_out

STAGES = {f"{kind}.{m}" for m in ("eda", "bvp") for kind in ("fcn", "alstm", "transformer")} | {"crossmod"}
Finished = Callable[..., Run]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, loso_plan: Plan, finished: Finished) -> Run:
    """Leave one of three simulated people out; to be read only."""
    return finished(create_run(tmp_path_factory.mktemp("teacher") / "full", replace(loso_plan, peers=()))[0])


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, teacher: Run, tiny: TrainConfig, finished: Finished) -> Run:
    """A finished run that `teacher` taught, to be read only."""
    plan = StudentPlan(teacher.folder, tiny)
    return finished(create_student(tmp_path_factory.mktemp("student") / "edge", plan))


def with_config(run: Run, folder: Path, **changes: Any) -> Run:
    """A copy of a run whose config.json says something else."""
    shutil.copytree(run.folder, folder)
    config = msgspec.structs.replace(run.config, **changes)
    (folder / "config.json").write_bytes(msgspec.json.encode(config))
    return open_run(folder)


def test_the_loss_is_labels_and_teacher_by_their_shares() -> None:
    logits = torch.tensor([[0.2, -1.0], [1.5, 0.3]], requires_grad=True)
    labels, rows = torch.tensor([0, 1]), torch.tensor([3, 1])
    taught = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))

    def loss(share: float, temperature: float) -> torch.Tensor:
        return taught_loss(DistillConfig(share, temperature), taught, logits, labels, rows)

    torch.testing.assert_close(loss(0.0, 2.0), torch.nn.functional.cross_entropy(logits, labels))
    p, q = (torch.softmax(x / 3.0, dim=1) for x in (taught[rows], logits))
    torch.testing.assert_close(loss(1.0, 3.0), 9 * (p * (p / q).log()).sum(dim=1).mean())
    torch.testing.assert_close(loss(0.25, 3.0), 0.75 * loss(0.0, 3.0) + 0.25 * loss(1.0, 3.0))
    same = taught_loss(DistillConfig(1.0, 2.0), logits.detach(), logits, labels, torch.tensor([0, 1]))
    (gradient,) = torch.autograd.grad(same, logits)
    torch.testing.assert_close(gradient, torch.zeros(2, 2))


def test_a_student_has_the_windows_and_folds_of_its_teacher(student: Run, teacher: Run) -> None:
    ours, theirs = student.config, teacher.config
    assert (ours.folds, ours.subjects, ours.protocol, ours.seeds) == (
        theirs.folds,
        theirs.subjects,
        theirs.protocol,
        theirs.seeds,
    )
    assert (student.folder / "windows.npz").read_bytes() == (teacher.folder / "windows.npz").read_bytes()
    assert student.spec == NetworkSpec((Modality.EDA, Modality.BVP), 2, "pooled", 24, *spec_of("edge"))
    assert (teacher.config.size, student.config.size) == ("full", "edge")
    assert student.config.teacher is not None
    assert student.config.teacher.run == str(teacher.folder.resolve())
    assert "distilled from full fold by fold" in student.protocol
    assert "distilled" not in teacher.protocol


def spec_of(size: str) -> tuple[int, int, int]:
    from edgepain.train.config import SIZES

    return SIZES[size]  # type: ignore[index]


def test_each_stage_is_taught_by_the_same_stage_of_its_fold(student: Run, teacher: Run) -> None:
    for ours, theirs in zip(student.folds, teacher.folds, strict=True):
        (path,) = ours.folder.glob("teacher.*.safetensors")
        kept = load_file(path)
        assert set(kept) == STAGES
        said = theirs.trained().predict(theirs.training_windows[0])
        for name, logits in kept.items():
            np.testing.assert_allclose(torch.softmax(logits, dim=1).numpy(), said[name], atol=1e-6)


def test_the_teacher_changes_what_is_learnt(
    student: Run,
    teacher: Run,
    tiny: TrainConfig,
    tmp_path: Path,
    stages_of: Callable[[Path], dict[str, Any]],
    finished: Finished,
) -> None:
    half = msgspec.structs.replace(tiny, distill=DistillConfig(0.9, 4.0))
    other = finished(create_student(tmp_path / "other", StudentPlan(teacher.folder, half)))
    for ours, theirs in zip(student.folds, other.folds, strict=True):
        one, two = stages_of(ours.folder), stages_of(theirs.folder)
        assert set(one) == STAGES
        for name in STAGES:
            assert one[name]["metadata"]["fingerprint"] != two[name]["metadata"]["fingerprint"]
            assert any(one[name][key] != two[name][key] for key in one[name] if key.startswith("model."))


def test_nothing_of_a_held_out_person_is_taught(
    teacher: Run,
    student: Run,
    tiny: TrainConfig,
    tmp_path: Path,
    finished: Finished,
    stages_of: Callable[[Path], dict[str, Any]],
) -> None:
    marked = with_marker(teacher, "S02", tmp_path / "full")
    other = finished(create_student(tmp_path / "edge", StudentPlan(finished(marked).folder, tiny)))
    for ours, theirs in zip(student.folds, other.folds, strict=True):
        (one,), (two,) = (sorted(f.folder.glob("teacher.*.safetensors")) for f in (ours, theirs))
        taught = [load_file(path) for path in (one, two)]
        held_out = ours.split.held_out == ("S02",)
        for name in STAGES:
            assert torch.equal(taught[0][name], taught[1][name]) == held_out
        models = [
            {
                (name, key): value
                for name, stage in stages_of(f.folder).items()
                for key, value in stage.items()
                if key.startswith("model.")
            }
            for f in (ours, theirs)
        ]
        assert (models[0] == models[1]) == held_out


def with_marker(run: Run, subject: str, folder: Path) -> Run:
    """A run like this one, not begun, where this person has other labels and another signal."""
    rows = run.table.subjects == subject
    values = run.table.values.copy()
    values[rows] = np.random.default_rng(3).normal(50, 20, values[rows].shape)
    labels = np.where(rows, 1 - run.table.labels, run.table.labels)
    folder.mkdir()
    for name in ("config.json", "environment.json"):
        shutil.copy(run.folder / name, folder / name)
    with (folder / "windows.npz").open("wb") as file:
        save_table(file, replace(run.table, values=values, labels=labels), True)
    return open_run(folder)


def test_a_teacher_that_knows_a_held_out_person_is_a_leak(
    teacher: Run, tiny: TrainConfig, tmp_path: Path, log: type[Any]
) -> None:
    student = create_student(tmp_path / "edge", StudentPlan(teacher.folder, tiny))
    first, second, *rest = student.config.folds
    swapped = (
        msgspec.structs.replace(first, held_out=second.held_out),
        msgspec.structs.replace(second, held_out=first.held_out),
        *rest,
    )
    changed = with_config(student, tmp_path / "changed", folds=swapped)
    with pytest.raises(LeakError, match=r"seed0-fold00: the teacher \S+full was trained on S02, who is held out here"):
        carry_out(changed, changed.tasks()[0], log())
    assert not list(changed.folder.glob("folds/*/stages"))


def test_a_teacher_that_chose_its_epoch_on_held_out_people_is_a_leak(
    teacher: Run, tiny: TrainConfig, tmp_path: Path
) -> None:
    tested = with_config(teacher, tmp_path / "tested", epoch_choice="test-fold")
    student = create_student(tmp_path / "edge", StudentPlan(tested.folder, tiny))
    assert student.protocol.startswith("EPOCH CHOSEN ON THE TEST FOLD")
    claims = with_config(student, tmp_path / "claims", epoch_choice="last")
    with pytest.raises(LeakError, match="chose its epochs on held-out people"):
        _ = claims.teacher


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seeds": (1,)}, "seeds"),
        ({"options": {"positive": ["a"]}}, "options"),
        ({"protocol": "3-fold"}, "protocol"),
        ({"epoch_choice": "test-fold"}, "epoch_choice"),
    ],
)
def test_other_data_or_protocol_is_refused_by_name(
    student: Run, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    other = with_config(student, tmp_path / "other", **change)
    with pytest.raises(ConfigError, match=rf"cannot teach \S+: they differ in {named}; "):
        _ = other.teacher


def test_other_windows_are_refused(student: Run, teacher: Run, tmp_path: Path) -> None:
    other = with_marker(student, "S01", tmp_path / "other")
    with pytest.raises(ConfigError, match="they differ in windows"):
        _ = other.teacher


def test_a_teacher_that_was_trained_otherwise_since_is_refused(teacher: Run, tiny: TrainConfig, tmp_path: Path) -> None:
    shutil.copytree(teacher.folder, tmp_path / "full")
    student = create_student(tmp_path / "edge", StudentPlan(tmp_path / "full", tiny))
    shutil.rmtree(tmp_path / "full")
    train = msgspec.structs.replace(teacher.config.train, batch_size=8)
    with_config(teacher, tmp_path / "full", train=train)
    with pytest.raises(CheckpointError, match="is not as it was when it became the teacher"):
        _ = student.teacher


def test_only_a_finished_network_teaches(teacher: Run, tiny: TrainConfig, tmp_path: Path) -> None:
    begun = with_config(teacher, tmp_path / "begun")
    begun.folds[1].answers_path(NETWORK).unlink()
    with pytest.raises(ConfigError, match=r"is not finished \(seed0-fold01\).*--resume"):
        create_student(tmp_path / "edge", StudentPlan(begun.folder, tiny))
    peers = with_config(teacher, tmp_path / "peers", network=False, peers=("svm",))
    with pytest.raises(ConfigError, match="only peers"):
        create_student(tmp_path / "edge", StudentPlan(peers.folder, tiny))
    assert not (tmp_path / "edge").exists()


def test_an_asked_teacher_is_not_needed_again(
    teacher: Run,
    student: Run,
    tiny: TrainConfig,
    tmp_path: Path,
    log: type[Any],
    stages_of: Callable[[Path], dict[str, Any]],
) -> None:
    shutil.copytree(teacher.folder, tmp_path / "full")
    run = create_student(tmp_path / "edge", StudentPlan(tmp_path / "full", tiny))
    with pytest.raises(KeyboardInterrupt):
        carry_out(run, run.tasks()[0], log(stop_after=4))
    (tmp_path / "full").rename(tmp_path / "elsewhere")
    again = open_run(run.folder)
    carry_out(again, again.tasks()[0], log())
    fold = student.folds[0]
    ours, theirs = stages_of(again.folds[0].folder), stages_of(fold.folder)
    for name in STAGES:  # Interrupted or not; the path of the teacher decides nothing.
        assert ours[name] == theirs[name]
    with pytest.raises(CheckpointError, match=r"full, which teaches \S+edge, is not there; put it back"):
        carry_out(again, again.tasks()[1], log())


def test_damaged_answers_of_the_teacher_are_refused(student: Run, tmp_path: Path, log: type[Any]) -> None:
    run = with_config(student, tmp_path / "edge")
    fold = run.folds[0]
    fold.answers_path(NETWORK).unlink()
    shutil.rmtree(fold.folder / "stages" / "crossmod")
    (path,) = fold.folder.glob("teacher.*")
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"teacher\.\w+\.safetensors is damaged \(SHA-256 differs\); delete it"):
        carry_out(run, run.tasks()[0], log())


def test_older_runs_keep_their_fingerprints(teacher: Run) -> None:
    """Settings that came with distillation change nothing for runs without it."""
    older = msgspec.to_builtins(teacher.config)
    del older["size"], older["teacher"], older["train"]["distill"]
    assert msgspec.convert(older, RunConfig) == teacher.config
    assert teacher.config.decisive == msgspec.json.encode(older | {"root": "", "peers": [], "network": True})


# The command line


def test_distilled_from_the_command_line_to_a_verified_bundle(
    edgepain: Callable[..., Any], teacher: Run, tmp_path: Path
) -> None:
    out = tmp_path / "edge"
    answer = edgepain("train", "--distill", teacher.folder, "--size", "edge", "--threads", 1, "--out", out)
    assert answer.code == 0, answer.err
    assert "distilled from full fold by fold" in answer.out
    assert "configuration tiny, size edge" in answer.out
    assert open_run(out).unfinished() == []
    answer = edgepain("train", "--resume", out, "--redo", "crossmod", "--peer", "svm")
    assert answer.code == 0, answer.err
    assert "svm" in answer.out

    answer = edgepain("export", out, "--fold", "seed0-fold00", "--out", tmp_path / "bundle")
    assert answer.code == 0, answer.err
    manifest = open_bundle(tmp_path / "bundle").manifest
    assert manifest.network.stride == 4
    assert {row.precision for row in manifest.accuracy} == {"torch", "fp32", "int8"}
    answer = edgepain("inspect", tmp_path / "bundle")
    assert "distilled from full" in " ".join(answer.out.split())
    assert "one token for 4 points" in " ".join(answer.out.split())


def test_a_killed_distillation_goes_on_to_the_same_networks(
    edgepain: Callable[..., Any],
    teacher: Run,
    student: Run,
    tmp_path: Path,
    left_behind: Callable[[Path], dict[str, Any]],
) -> None:
    out = tmp_path / "edge"
    arguments = ["--distill", teacher.folder, "--size", "edge", "--threads", 1, "--out", out]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgepain", "train", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    with process:
        while not list(out.glob("folds/seed0-fold01/stages/*/state.safetensors")):
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
    unfinished = open_run(out).unfinished()
    assert "seed0-fold02/crossmod" in unfinished
    answer = edgepain("train", "--resume", out, "--workers", 2)
    assert answer.code == 0, answer.err
    assert left_behind(out) == left_behind(student.folder)


@pytest.mark.parametrize(
    ("extra", "code", "message"),
    [
        (["--protocol", "3-fold"], 2, "has data, folds and scaling in common with RUN; leave out --protocol"),
        (["--seed", "1"], 2, "leave out --seed"),
        (["--window", "4"], 2, "leave out --window"),
        (["--batch-folds", "2"], 2, "is trained fold by fold; leave out --batch-folds"),
        (["--no-train"], 2, "leave out --no-train"),
        (["--peers-only"], 2, "leave out --peers-only"),
        (["--config", "nowhere.toml"], 2, "configuration nowhere.toml cannot be read"),
    ],
)
def test_mistakes_are_one_line(
    edgepain: Callable[..., Any], teacher: Run, tmp_path: Path, extra: list[str], code: int, message: str
) -> None:
    answer = edgepain("train", "--distill", teacher.folder, "--size", "edge", "--out", tmp_path / "edge", *extra)
    assert (answer.code, message in " ".join(answer.err.split())) == (code, True), answer.err
    assert not (tmp_path / "edge").exists()


def test_what_is_no_run_cannot_teach(edgepain: Callable[..., Any], tmp_path: Path) -> None:
    answer = edgepain("train", "--distill", tmp_path, "--size", "edge", "--out", tmp_path / "edge")
    assert answer.code == 3
    assert "is no run folder (no config.json)" in answer.err


def test_a_student_is_neither_searched_nor_trained_in_a_batch(edgepain: Callable[..., Any], student: Run) -> None:
    answer = edgepain("search", student.folder)
    assert answer.code == 2
    assert "learns from a teacher, which a search does not ask" in answer.err
    answer = edgepain("train", "--resume", student.folder, "--batch-folds", 2)
    assert answer.code == 2
    assert "a network with --distill is trained fold by fold" in answer.err


def test_the_small_network_is_trained_without_a_teacher_too(
    e4_plan: Plan, tmp_path: Path, finished: Finished, edgepain: Callable[..., Any]
) -> None:
    run = finished(create_run(tmp_path / "alone", replace(e4_plan, size="edge"))[0])
    assert run.spec.stride == 4
    assert run.config.teacher is None
    assert "distilled" not in run.protocol
    assert run.answers()
    answer = edgepain("train", "--resume", run.folder, "--batch-folds", 2)
    assert "a network of --size edge is trained fold by fold" in answer.err
