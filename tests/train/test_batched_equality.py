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

import pytest
import torch
from torch import Tensor, nn

from edgepain.bundle import NetworkSpec
from edgepain.signal import Modality
from edgepain.train.batched import Member, open_device, train_together
from edgepain.train.config import StageConfig
from edgepain.train.models import ALSTM, FCN, CrossModFusion, TransformerBlock
from edgepain.train.stage import CHECKPOINT, Headed, Stage, load_finished, read_curve, train_stage

S, WIDTH, BATCH = 14, 16, 8
# A ragged last batch, a step fewer, a whole step more, fewer than a batch.
COUNTS = (21, 15, 24, 5)


def spec(fusion: str) -> NetworkSpec:
    return NetworkSpec((Modality.EDA, Modality.ECG), 3, fusion, S, width=WIDTH, heads=2)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Kind:
    build: Callable[[], nn.Module]
    inputs: tuple[tuple[int, ...], ...]


KINDS = {
    "fcn.eda": Kind(lambda: Headed(FCN(WIDTH, 0.0), WIDTH, 3), ((1, S),)),
    "alstm.eda": Kind(lambda: Headed(ALSTM(WIDTH, 0.0), WIDTH, 3), ((1, S),)),
    "transformer.eda": Kind(lambda: Headed(TransformerBlock(WIDTH, 2, 0.0), WIDTH, 3), ((S, WIDTH),) * 2),
    "crossmod": Kind(lambda: CrossModFusion(spec("pooled"), 0.0), ((WIDTH,),) * 2),
    "crossmod/sequence": Kind(lambda: CrossModFusion(spec("sequence"), 0.0), ((S, 2 * WIDTH),) * 2),
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
        found.append(Member(stage, folder / f"{k}", KINDS[kind].build, partial(tuple, given), labels))
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
    from safetensors.torch import load_file

    return load_file(folder / CHECKPOINT)


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        torch.testing.assert_close(found[name], value, rtol=tolerance, atol=tolerance, msg=lambda m: f"{name}: {m}")


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", list(KINDS))
def test_together_as_alone(tmp_path: Path, kind: str, log: type[Any]) -> None:
    watch = log()
    group = members(tmp_path, kind, config())
    assert train_together(group, open_device("cpu"), watch) == {}
    name = group[0].stage.name
    assert watch.stages == [(name, 3, 0)]
    assert watch.epochs == [(name, 0), (name, 1), (name, 2)]
    for k, member in enumerate(group):
        expected = alone(member, tmp_path / f"alone{k}")
        assert_same(tensors(member.folder), expected, 1e-9)
        curve = read_curve(member.folder / "epochs.csv")
        for ours, theirs in zip(curve, read_curve(tmp_path / f"alone{k}" / "epochs.csv"), strict=True):
            assert replace(ours, loss=theirs.loss) == theirs
            assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)
        load_finished(member.stage, member.build, member.folder)
