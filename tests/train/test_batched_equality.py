"""Folds trained together, beside the same folds trained one by one: without dropout, the same weights.

In float64, so that only a difference in the mathematics can be seen: in float32 Adam blows rounding up to a whole
step wherever a gradient is nothing but rounding, as of a bias before batch norm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from edgepain.bundle import NetworkSpec
from edgepain.signal import Modality
from edgepain.train.batched import Device, Member, open_device, train_together
from edgepain.train.batched.engine import DeviceSteps
from edgepain.train.batched.layers import Step, batch_norm
from edgepain.train.batched.stack import Stack
from edgepain.train.config import StageConfig, TrainConfig
from edgepain.train.models import ALSTM, FCN, CrossModFusion, TransformerBlock
from edgepain.train.stage import CHECKPOINT, Headed, Stage, load_finished, read_curve, train_stage
from edgepain.train.staged import StagedProtocol, stage_configs

S, WIDTH, BATCH = 14, 16, 8
# A ragged last batch, a step fewer, a whole step more, fewer than a batch.
DEPTH = ("fcn", "alstm", "transformer", "crossmod")
COUNTS = (21, 15, 24, 5)


def spec(fusion: str) -> NetworkSpec:
    return NetworkSpec((Modality.EDA, Modality.ECG), 3, fusion, S, width=WIDTH, heads=2)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Kind:
    """build: with this dropout."""

    build: Callable[[float], nn.Module]
    inputs: tuple[tuple[int, ...], ...]


KINDS = {
    "fcn.eda": Kind(lambda p: Headed(FCN(WIDTH, p), WIDTH, 3), ((1, S),)),
    "alstm.eda": Kind(lambda p: Headed(ALSTM(WIDTH, p), WIDTH, 3), ((1, S),)),
    "transformer.eda": Kind(lambda p: Headed(TransformerBlock(WIDTH, 2, p), WIDTH, 3), ((S, WIDTH),) * 2),
    "crossmod": Kind(lambda p: CrossModFusion(spec("pooled"), p), ((WIDTH,),) * 2),
    "crossmod/sequence": Kind(lambda p: CrossModFusion(spec("sequence"), p), ((S, 2 * WIDTH),) * 2),
}


def config(dropout: float = 0.0, epochs: int = 3) -> StageConfig:
    return StageConfig(epochs, 3e-3, dropout, milestones=(2,))


def members(folder: Path, kind: str, settings: StageConfig, dtype: torch.dtype = torch.float64) -> list[Member]:
    """A member for each of COUNTS, each with a seed and windows of its own."""
    found = []
    for k, count in enumerate(COUNTS):
        generator = torch.Generator().manual_seed(k)
        labels = torch.arange(count) % 3
        inputs = tuple(
            torch.randn(count, *shape, generator=generator, dtype=torch.float64)
            + labels.view(-1, *[1] * len(shape)) * torch.linspace(0, 1, shape[-1], dtype=torch.float64)
            for shape in KINDS[kind].inputs
        )
        stage = Stage(kind.partition("/")[0], settings, BATCH, k % 2, f"fold {k}", "fp32")
        given = tuple(x.to(dtype) for x in inputs)
        build = partial(KINDS[kind].build, settings.dropout)
        found.append(Member(stage, folder / f"{k}", build, partial(tuple, given), labels))
    return found


@pytest.fixture
def float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def alone(member: Member, folder: Path) -> dict[str, Tensor]:
    train_stage(member.stage, member.build, member.inputs(), member.labels, folder, lambda _: None)
    return tensors(folder)


def tensors(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / CHECKPOINT)


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert torch.allclose(found[name], value, rtol=tolerance, atol=tolerance), name


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> Device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA GPU")
    return open_device(request.param)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", list(KINDS))
def test_together_as_alone(tmp_path: Path, kind: str, device: Device, log: type[Any]) -> None:
    # The loss is worked out in float32, in which a GPU rounds otherwise.
    tolerance = 1e-9 if device.torch.type == "cpu" else 1e-4
    watch = log()
    group = members(tmp_path, kind, config())
    assert train_together(group, device, watch) == {}
    name = group[0].stage.name
    assert watch.stages == [(name, 3, 0)]
    assert watch.epochs == [(name, 0), (name, 1), (name, 2)]
    for k, member in enumerate(group):
        expected = alone(member, tmp_path / f"alone{k}")
        assert_same(tensors(member.folder), expected, tolerance)
        curve = read_curve(member.folder / "epochs.csv")
        for ours, theirs in zip(curve, read_curve(tmp_path / f"alone{k}" / "epochs.csv"), strict=True):
            assert replace(ours, loss=theirs.loss) == theirs
            assert ours.loss == pytest.approx(theirs.loss, rel=max(1e-6, tolerance))
        load_finished(member.stage, member.build, member.folder)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("fusion", ["pooled", "sequence"])
def test_a_protocol_together_as_alone(
    tmp_path: Path, tiny: TrainConfig, device: Device, fusion: str, log: type[Any]
) -> None:
    tolerance = 1e-8 if device.torch.type == "cpu" else 1e-3
    kinds = {name: msgspec.structs.replace(getattr(tiny, name), dropout=0.0) for name in DEPTH}
    settings = msgspec.structs.replace(tiny, precision="fp32", **kinds)
    folds = []
    for k, count in enumerate((20, 34)):
        y = np.arange(count) % 3
        x: Any = np.random.default_rng(k).normal(size=(count, 2, S)) + y[:, None, None] * np.linspace(0, 1, S)
        folds.append((StagedProtocol(tmp_path / f"{k}", spec(fusion), settings, k), x, y))
    steps = [DeviceSteps(protocol, x, y, device) for protocol, x, y in folds]
    for name in stage_configs(spec(fusion).modalities, settings):
        assert train_together([each.member(name) for each in steps], device, log()) == {}
    for protocol, x, y in folds:
        expected = replace(protocol, folder=tmp_path / "alone" / protocol.folder.name).train(x, y, log(), True)
        for name in stage_configs(spec(fusion).modalities, settings):
            folders = (protocol.folder, tmp_path / "alone" / protocol.folder.name)
            assert_same(*(tensors(folder / "stages" / name) for folder in folders), tolerance)
        for name, probabilities in protocol.load(x, y).predict(x).items():
            np.testing.assert_allclose(probabilities, expected.predict(x)[name], atol=tolerance)


@pytest.mark.parametrize("kind", list(KINDS))
def test_dropout_is_where_it_is_alone(
    tmp_path: Path, kind: str, log: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    drop, seen = nn.functional.dropout, list[tuple[Any, ...]]()

    def watched(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        seen.append((p, *x.shape))
        return drop(x, p, training, inplace)

    monkeypatch.setattr(nn.functional, "dropout", watched)
    group = members(tmp_path, kind, config(dropout=0.25, epochs=1), torch.float32)
    assert train_together(group, open_device("cpu"), log()) == {}
    together = [(p, *sorted(shape[1:])) for p, *shape in seen]
    assert {shape[0] for _, *shape in seen} == {len(COUNTS)}
    seen.clear()
    alone(group[2], tmp_path / "alone")  # Its batches are all full, and as many as the group's.
    assert together == [(p, *sorted(shape)) for p, *shape in seen]
    assert {p for p, *_ in together} == {0.25}


@pytest.mark.parametrize("kind", list(KINDS))
def test_in_float32_the_answers_are_the_same(tmp_path: Path, kind: str, log: type[Any]) -> None:
    group = members(tmp_path, kind, config(), torch.float32)
    assert train_together(group, open_device("cpu"), log()) == {}
    for k, member in enumerate(group):
        alone(member, tmp_path / f"alone{k}")
        ours, theirs = (load_finished(member.stage, member.build, f) for f in (member.folder, tmp_path / f"alone{k}"))
        with torch.inference_mode():
            # A bias before batch norm moves by rounding alone, and running statistics come after it.
            torch.testing.assert_close(ours(*member.inputs()), theirs(*member.inputs()), rtol=0, atol=0.01)


@pytest.mark.parametrize("kind", list(KINDS))
def test_in_bfloat16_the_curve_is_nearly_the_same(tmp_path: Path, kind: str, log: type[Any]) -> None:
    group = members(tmp_path / "fp32", kind, config(), torch.float32)
    assert train_together(group, open_device("cpu"), log()) == {}
    # As on a GPU: this CPU only has no fast way for it.
    coarse = [replace(m, stage=replace(m.stage, precision="auto"), folder=tmp_path / m.folder.name) for m in group]
    assert train_together(coarse, Device(torch.device("cpu"), has_bf16=True), log()) == {}
    for ours, exact in zip(coarse, group, strict=True):
        with safe_open(ours.folder / CHECKPOINT, framework="pt") as file:
            assert file.metadata()["precision"] == "bf16"
        assert {value.dtype for value in tensors(ours.folder).values()} <= {torch.float32, torch.int64}
        curves = (read_curve(member.folder / "epochs.csv") for member in (ours, exact))
        assert [m.loss for m in next(curves)] == pytest.approx([m.loss for m in next(curves)], abs=0.03)


def test_a_network_that_sits_a_step_out_keeps_every_bit() -> None:
    models = [Headed(FCN(WIDTH, 0.0), WIDTH, 3) for _ in range(3)]
    stack = Stack(models, [{}, {}, {}], torch.device("cpu"))
    gradient_KP = torch.randn(stack.flat_KP.shape)
    rate = torch.tensor(0.01, dtype=torch.float64)
    stack.step(gradient_KP, torch.tensor([1.0, 1.0, 1.0]), rate)
    before = stack.networks()
    stack.step(gradient_KP, torch.tensor([1.0, 0.0, 1.0]), rate)
    step = Step(torch.tensor([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]), 0.0, torch.float32)
    batch_norm(stack.weights().part("block").part("layers.2"), torch.randn(3, 2, S, WIDTH), step)
    after = stack.networks()
    assert after[1].weights.keys() == before[1].weights.keys()
    for k, moves in enumerate((True, False, True)):
        assert float(after[k].adam[0]["step"]) == (2 if moves else 1)
        for name in ("block.layers.1.weight", "block.layers.2.running_var", "block.layers.2.num_batches_tracked"):
            assert torch.equal(after[k].weights[name], before[k].weights[name]) != moves, name
    for name, value in before[1].weights.items():
        assert torch.equal(after[1].weights[name], value), name
    for number, state in before[1].adam.items():
        for name, value in state.items():
            assert torch.equal(after[1].adam[number][name], value), (number, name)
