"""The blocks and windows on which both sides of `edgepain bench train` are timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from edgepain.bundle import NetworkSpec
from edgepain.signal import Modality
from edgepain.train.config import StageConfig, TrainConfig, load_config
from edgepain.train.models import ALSTM, FCN, CrossModFusion, TransformerBlock
from edgepain.train.stage import Headed

KINDS = ("fcn", "alstm", "transformer", "crossmod")
MODALITIES = (Modality.EDA, Modality.ECG)
Frozen = Callable[..., tuple[Tensor, ...]]
Clock = Literal["processor", "wall"]
CLOCKS: dict[Clock, Callable[[], float]] = {"processor": time.process_time, "wall": time.perf_counter}


@dataclass(frozen=True)
class Blocks:
    """Untrained blocks of one kind and random windows [N, M, S]: an epoch takes as long on any others."""

    kind: str
    windows: int
    config: TrainConfig
    spec: NetworkSpec

    @classmethod
    def of(cls, kind: str, windows: int) -> Blocks:
        """With the paper's settings."""
        return cls(kind, windows, load_config("paper"), NetworkSpec(MODALITIES, 2))

    @property
    def stage_config(self) -> StageConfig:
        """The stage's settings in the paper."""
        config: StageConfig = getattr(self.config, self.kind)
        return config

    @property
    def labels(self) -> Tensor:
        """Labels [N]."""
        return torch.arange(self.windows) % self.spec.classes

    def build(self) -> nn.Module:
        """The block of this kind, with its temporary head."""
        if self.kind == "crossmod":
            return CrossModFusion(self.spec, self.stage_config.dropout)
        return self._headed(self.kind)

    def _headed(self, kind: str) -> Headed:
        spec, dropout = self.spec, self.stage_config.dropout
        block: nn.Module
        if kind == "fcn":
            block = FCN(spec.width, dropout)
        elif kind == "alstm":
            block = ALSTM(spec.width, dropout)
        else:
            block = TransformerBlock(spec.width, spec.heads, dropout)
        return Headed(block, spec.width, spec.classes)

    def frozen(self) -> Frozen | None:
        """What an ordinary loop runs before this block, in every step; None where nothing comes before it."""
        fcn, alstm, transformer = (self._headed(name).block.eval() for name in KINDS[:3])

        def tokens(x_B1S: Tensor) -> tuple[Tensor, ...]:
            return fcn(x_B1S)[0], alstm(x_B1S)[0]

        def embeddings(x_BMS: Tensor) -> tuple[Tensor, ...]:
            return tuple(transformer(*tokens(x_B1S))[1] for x_B1S in torch.split(x_BMS, 1, dim=1))

        return {"transformer": tokens, "crossmod": embeddings}.get(self.kind)

    def raw(self) -> Tensor:
        """Windows of one modality [N, 1, S], of both [N, M, S] for the fusion."""
        modalities = len(MODALITIES) if self.kind == "crossmod" else 1
        return torch.randn(self.windows, modalities, self.spec.steps)

    def kept(self, raw: Tensor, frozen: Frozen | None) -> tuple[Tensor, ...]:
        """What goes into this block, worked out once."""
        if frozen is None:
            return (raw,)
        with torch.no_grad():
            parts = zip(*(frozen(x) for x in torch.split(raw, self.config.batch_size)), strict=True)
            return tuple(torch.cat(list(part)) for part in parts)
