"""A stage of many folds at once: interrupted, killed between two files, diverged, damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from edgepain.bundle import NetworkSpec
from edgepain.errors import CheckpointError, ConfigError
from edgepain.signal import Modality
from edgepain.train.batched import Device, Member, check_settings, enough_memory, open_device, train_together
from edgepain.train.config import StageConfig
from edgepain.train.models import FCN, CrossModFusion
from edgepain.train.stage import CHECKPOINT, EpochMetrics, Headed, Stage, epochs_done, read_curve, train_stage

S, WIDTH, EPOCHS = 10, 8, 4
COUNTS = (13, 9, 13)
Checkpoint = dict[str, Tensor]


def build(dropout: float) -> Headed:
    return Headed(FCN(WIDTH, dropout), WIDTH, 2)


def members(folder: Path, dropout: float = 0.3, counts: tuple[int, ...] = COUNTS) -> list[Member]:
    found = []
    for k, count in enumerate(counts):
        x_B1S = torch.randn(count, 1, S, generator=torch.Generator().manual_seed(k))
        stage = Stage("fcn.eda", StageConfig(EPOCHS, 1e-3, dropout), 4, 0, f"fold {k}", "fp32")
        found.append(
            Member(stage, folder / f"{k}", partial(build, dropout), partial(tuple, [x_B1S]), torch.arange(count) % 2)
        )
    return found


def checkpoint(member: Member) -> Checkpoint:
    return load_file(member.folder / CHECKPOINT)


def same(first: Checkpoint, second: Checkpoint) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def train(log: type[Any]) -> Callable[..., Any]:
    def run(group: list[Member], device: Device | None = None, **options: Any) -> dict[int, Exception]:
        return train_together(group, device or open_device("cpu"), options.pop("watch", log()), **options)

    return run


def test_dropout_is_the_same_for_the_same_folds(tmp_path: Path, train: Callable[..., Any]) -> None:
    groups = [members(tmp_path / f"{n}") for n in range(2)] + [members(tmp_path / "without", 0.0)]
    for group in groups:
        assert train(group) == {}
    for first, second, without in zip(*groups, strict=True):
        assert same(checkpoint(first), checkpoint(second))
        assert not same(checkpoint(first), checkpoint(without))


@pytest.mark.parametrize("stop_after", [1, 3])
@pytest.mark.parametrize("save_every_s", [0.0, 60.0])
def test_an_interrupted_stage_goes_on_to_the_same_checkpoints(
    tmp_path: Path, train: Callable[..., Any], log: type[Any], stop_after: int, save_every_s: float
) -> None:
    at_once, twice = members(tmp_path / "at once"), members(tmp_path / "twice")
    assert train(at_once) == {}
    with pytest.raises(KeyboardInterrupt):
        train(twice, watch=log(stop_after), save_every_s=save_every_s)
    done = 0 if save_every_s else stop_after
    assert [epochs_done(member.stage, member.folder) for member in twice] == [done] * 3
    again = log()
    assert train(twice, watch=again) == {}
    assert again.stages == [("fcn.eda", EPOCHS, done)]
    assert again.epochs == [("fcn.eda", epoch) for epoch in range(done, EPOCHS)]
    for first, second in zip(at_once, twice, strict=True):
        assert same(checkpoint(first), checkpoint(second))
        assert (first.folder / "epochs.csv").read_text() == (second.folder / "epochs.csv").read_text()


def test_folds_that_are_behind_catch_up(tmp_path: Path, train: Callable[..., Any], log: type[Any]) -> None:
    """As after a kill between the files of two folds."""
    group = members(tmp_path / "group", 0.0)
    for member, done in zip(group, (2, 0, 2), strict=True):
        with pytest.raises(KeyboardInterrupt):
            train([member], watch=log(done or 1), save_every_s=0.0 if done else 60.0)
    ahead = checkpoint(group[0])
    watch = log()
    assert train(group, watch=watch, save_every_s=60.0) == {}
    assert [epoch for _, epoch in watch.epochs] == [0, 1, 2, 3]
    assert not same(checkpoint(group[0]), ahead)
    for member in group:
        found = read_curve(member.folder / "epochs.csv")
        expected: list[EpochMetrics] = []
        folder = tmp_path / "alone" / member.folder.name
        train_stage(member.stage, member.build, member.inputs(), member.labels, folder, expected.append)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.loss == pytest.approx(theirs.loss, abs=1e-3)


def test_a_stage_begun_alone_goes_on_in_a_group(tmp_path: Path, train: Callable[..., Any], log: type[Any]) -> None:
    group = members(tmp_path, 0.0)

    def stop(metrics: EpochMetrics) -> None:
        raise KeyboardInterrupt

    first = group[0]
    with pytest.raises(KeyboardInterrupt):
        train_stage(first.stage, first.build, first.inputs(), first.labels, first.folder, stop)
    assert train(group) == {}
    # And what a group began goes on alone.
    shutil.rmtree(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(group, watch=log(2), save_every_s=0.0)
    epochs: list[EpochMetrics] = []
    train_stage(first.stage, first.build, first.inputs(), first.labels, first.folder, epochs.append)
    assert [m.epoch for m in epochs] == [2, 3]


def test_a_fold_that_diverges_leaves_the_others_alone(tmp_path: Path, train: Callable[..., Any]) -> None:
    group, sound = members(tmp_path / "group", 0.0), members(tmp_path / "sound", 0.0)
    broken = torch.full((COUNTS[1], 1, S), 1e30)
    group[1] = replace(group[1], inputs=lambda: (broken * torch.arange(COUNTS[1]).view(-1, 1, 1),))
    failed = train(group)
    assert list(failed) == [1]
    assert isinstance(failed[1], ConfigError)
    assert str(failed[1]) == "stage fcn.eda: the loss is nan in epoch 1; lower its learning_rate"
    assert not list(group[1].folder.iterdir())
    assert train([sound[0], sound[2]]) == {}
    for k in (0, 2):
        curves = [[m.loss for m in read_curve(each[k].folder / "epochs.csv")] for each in (group, sound)]
        assert curves[0] == pytest.approx(curves[1], abs=1e-3)


def test_a_damaged_checkpoint_is_the_matter_of_its_fold(tmp_path: Path, train: Callable[..., Any]) -> None:
    group = members(tmp_path)
    group[2].folder.mkdir(parents=True)
    (group[2].folder / CHECKPOINT).write_bytes(b"none")
    failed = train(group)
    assert list(failed) == [2]
    assert isinstance(failed[2], CheckpointError)
    assert "is damaged" in str(failed[2])
    assert [epochs_done(member.stage, member.folder) for member in group[:2]] == [EPOCHS] * 2


def test_a_stage_begun_in_bfloat16_is_not_gone_on_with_in_another(tmp_path: Path, train: Callable[..., Any]) -> None:
    with_bf16 = Device(torch.device("cpu"), has_bf16=True)
    group = [replace(member, stage=replace(member.stage, precision="auto")) for member in members(tmp_path)]
    stopped = [replace(m, stage=replace(m.stage, config=StageConfig(1, 1e-3, 0.3))) for m in group]
    assert train(stopped[:1], with_bf16) == {}
    failed = train(group)
    assert list(failed) == [0]
    assert "was begun in bf16" in str(failed[0])
    assert train(group, with_bf16) == {}


def test_modality_dropout_shows_what_a_missing_signal_gives(tmp_path: Path, train: Callable[..., Any]) -> None:
    spec = NetworkSpec((Modality.EDA, Modality.ECG), 2, "pooled", S, width=WIDTH, heads=2)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(12) % 2
    inputs = tuple(torch.randn(12, WIDTH, generator=generator) for _ in range(2))
    absent = tuple(torch.full((1, WIDTH), float(n)) for n in range(2))
    stage = Stage("crossmod", StageConfig(EPOCHS, 1e-3, 0.0), 4, 0, "x", "fp32")

    def trained(name: str, share: float, absent: tuple[Tensor, ...], inputs: tuple[Tensor, ...]) -> Checkpoint:
        member = Member(
            stage, tmp_path / name, partial(CrossModFusion, spec, 0.0), partial(tuple, inputs), labels, share, absent
        )
        assert train([member]) == {}
        return checkpoint(member)

    without = trained("without", 0.0, (), inputs)
    some = trained("some", 0.5, absent, inputs)
    assert not same(some, without)
    assert same(some, trained("again", 0.5, absent, inputs))
    assert not same(some, trained("other", 0.5, absent[::-1], inputs))
    # Where every window is already without both, there is nothing left to drop.
    nothing = tuple(x.expand(12, -1).clone() for x in absent)
    assert same(trained("none", 0.9, absent, nothing), trained("nothing", 0.0, (), nothing))


def test_what_cannot_be_trained_together_is_refused() -> None:
    cpu = open_device("cpu")
    check_settings(cpu, "auto", "last")
    check_settings(Device(torch.device("cuda"), has_bf16=True), "bf16", "last")
    with pytest.raises(ConfigError, match=r"keep their last epoch; leave out --device and --batch-folds"):
        check_settings(cpu, "auto", "test-fold")
    with pytest.raises(ConfigError, match="cpu does not train folds together in bf16; set precision to auto or fp32"):
        check_settings(cpu, "bf16", "last")


def test_too_little_memory_is_a_line_that_says_what_to_do() -> None:
    with (
        pytest.raises(ConfigError, match="cpu has too little memory for 29 folds at once; go on with a smaller"),
        enough_memory(open_device("cpu"), 29),
    ):
        raise torch.OutOfMemoryError
