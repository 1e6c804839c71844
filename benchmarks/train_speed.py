"""How long an epoch of every stage takes, beside a plain float32 loop, in turns on the same threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import msgspec
import torch
from torch import Tensor, nn

from edgepain.benchmarks.plain_training import Frozen, plain_epochs
from edgepain.bundle import NetworkSpec
from edgepain.signal import Modality
from edgepain.train.config import StageConfig, load_config
from edgepain.train.features import frozen_features
from edgepain.train.models import ALSTM, FCN, CrossModFusion, TransformerBlock
from edgepain.train.precision import resolve
from edgepain.train.stage import EpochMetrics, Headed, Stage, train_stage

KINDS = ("fcn", "alstm", "transformer", "crossmod")
MODALITIES = (Modality.EDA, Modality.ECG)
# BioVid, leave one subject out: 86 people with 40 windows each.
FOLD_WINDOWS = 86 * 40
Progress = Callable[[str], None]
Clock = Literal["processor", "wall"]


class StageTimes(msgspec.Struct, frozen=True):
    """Shortest epoch of each way. plain_kept_s: plain, but given the frozen blocks' features. precision: of ours.

    epochs: of the paper, over all modalities. features_s: once a stage, to keep the features for the next one.
    """

    stage: str
    plain_s: float
    plain_kept_s: float
    ours_s: float
    precision: str
    epochs: int
    features_s: float


class Protocol(msgspec.Struct, frozen=True):
    """The paper's epochs of all stages, for a fold of `windows`: hours, and how many times faster ours is."""

    windows: int
    plain_h: float
    plain_kept_h: float
    ours_h: float
    times_faster: float
    times_faster_than_kept: float


@dataclass(frozen=True)
class _Blocks:
    """Untrained blocks and random windows: an epoch takes as long on any others."""

    spec: NetworkSpec
    dropout: dict[str, float]
    x_NMS: Tensor
    labels: Tensor

    def build(self, kind: str) -> nn.Module:
        return CrossModFusion(self.spec, self.dropout[kind]) if kind == "crossmod" else self.headed(kind)

    def headed(self, kind: str) -> Headed:
        spec, dropout = self.spec, self.dropout[kind]
        block: nn.Module
        if kind == "fcn":
            block = FCN(spec.width, dropout)
        elif kind == "alstm":
            block = ALSTM(spec.width, dropout)
        else:
            block = TransformerBlock(spec.width, spec.heads, dropout)
        return Headed(block, spec.width, spec.classes)

    def frozen(self, kind: str) -> Frozen | None:
        """What an ordinary loop runs before the block of this kind, in every step."""
        fcn, alstm, transformer = (self.headed(name).block.eval() for name in KINDS[:3])

        def tokens(x_B1S: Tensor) -> tuple[Tensor, Tensor]:
            return fcn(x_B1S)[0], alstm(x_B1S)[0]

        def embeddings(x_BMS: Tensor) -> tuple[Tensor, ...]:
            return tuple(transformer(*tokens(x_B1S))[1] for x_B1S in torch.split(x_BMS, 1, dim=1))

        return {"transformer": tokens, "crossmod": embeddings}.get(kind)

    def raw(self, kind: str) -> Tensor:
        return self.x_NMS if kind == "crossmod" else self.x_NMS[:, :1].contiguous()


def measure_speed(windows: int, rounds: int, clock: Clock, progress: Progress) -> tuple[StageTimes, ...]:
    """Measure one block of every kind on `windows` windows; the shortest of `rounds` epochs counts, after one more."""
    seconds = time.process_time if clock == "processor" else time.perf_counter
    config = load_config("paper")
    configs: dict[str, StageConfig] = {kind: getattr(config, kind) for kind in KINDS}
    torch.manual_seed(0)
    blocks = _Blocks(
        NetworkSpec(MODALITIES, 2),
        {kind: configs[kind].dropout for kind in KINDS},
        torch.randn(windows, len(MODALITIES), config.window.steps),
        torch.arange(windows) % 2,
    )
    return tuple(_measure(blocks, kind, configs[kind], config.batch_size, rounds, seconds, progress) for kind in KINDS)


def _measure(
    blocks: _Blocks,
    kind: str,
    config: StageConfig,
    batch_size: int,
    rounds: int,
    clock: Callable[[], float],
    progress: Progress,
) -> StageTimes:
    frozen, raw = blocks.frozen(kind), blocks.raw(kind)
    kept: tuple[Tensor, ...] = (raw,)
    if frozen is not None:
        with torch.no_grad():
            parts = zip(*(frozen(x) for x in torch.split(raw, batch_size)), strict=True)
            kept = tuple(torch.cat(list(part)) for part in parts)
    plain = plain_epochs(blocks.build(kind), (raw,), blocks.labels, batch_size, clock, frozen)
    plain_kept = plain_epochs(blocks.build(kind), kept, blocks.labels, batch_size, clock)
    times: dict[str, list[float]] = {"plain": [], "kept": [], "ours": []}
    start = clock()

    def after_ours(metrics: EpochMetrics) -> None:
        nonlocal start
        times["ours"].append(clock() - start)
        times["plain"].append(next(plain))
        times["kept"].append(next(plain_kept) if frozen is not None else times["plain"][-1])
        progress(f"{kind}, round {metrics.epoch + 1} of {rounds + 1}")
        start = clock()

    stage = Stage(kind, msgspec.structs.replace(config, epochs=rounds + 1, milestones=()), batch_size, 0, "benchmark")
    with TemporaryDirectory(prefix="edgepain-") as scratch:
        folder = Path(scratch)
        model = train_stage(stage, lambda: blocks.build(kind), kept, blocks.labels, folder, after_ours)
        start = clock()
        if isinstance(model, Headed):
            frozen_features(folder, kind, model.block, kept, index=1 if kind == "transformer" else 0)
        features_s = clock() - start
    shortest = {name: min(seconds[1:]) for name, seconds in times.items()}
    alone = kind == "crossmod"
    return StageTimes(
        stage=kind,
        plain_s=shortest["plain"],
        plain_kept_s=shortest["kept"],
        ours_s=shortest["ours"],
        precision="fp32" if alone and blocks.spec.fusion == "pooled" else resolve("auto"),
        epochs=config.epochs * (1 if alone else len(MODALITIES)),
        features_s=0.0 if alone else features_s * len(MODALITIES),
    )


def whole_protocol(stages: tuple[StageTimes, ...], windows: int) -> Protocol:
    """All epochs of the paper on FOLD_WINDOWS windows, from epochs measured on `windows`."""
    hours = FOLD_WINDOWS / windows / 3600
    features = sum(s.features_s for s in stages)
    plain = sum(s.plain_s * s.epochs for s in stages)
    kept = features + sum(s.plain_kept_s * s.epochs for s in stages)
    ours = features + sum(s.ours_s * s.epochs for s in stages)
    return Protocol(FOLD_WINDOWS, plain * hours, kept * hours, ours * hours, plain / ours, kept / ours)
