"""The staged protocol: FCN → ALSTM → Transformer block for each modality, then CrossMod (paper, Table 4).

Each stage sees the features of the frozen blocks before it, and nothing but training windows.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edgepain.bundle import NetworkSpec
from edgepain.errors import ConfigError
from edgepain.signal import Modality
from edgepain.train.config import StageConfig, TrainConfig
from edgepain.train.features import frozen_features
from edgepain.train.models import ALSTM, FCN, CrossModFusion, CrossModTransformer, TransformerBlock, assemble
from edgepain.train.stage import EpochMetrics, Headed, Model, Stage, epochs_done, load_finished, train_stage

PREDICT_BATCH = 256
FINAL = "crossmod"


class Progress(Protocol):
    """Told how the training goes on."""

    def stage(self, name: str, epochs: int, done: int) -> None:
        """A stage begins; `done` of its epochs were trained before."""

    def epoch(self, name: str, metrics: EpochMetrics) -> None:
        """An epoch of this stage was trained and is on disk."""


def stage_configs(modalities: Sequence[Modality], config: TrainConfig) -> dict[str, StageConfig]:
    """Settings of every stage by its name, in the order of training. Raises ConfigError for an unknown stage."""
    kinds = {"fcn": config.fcn, "alstm": config.alstm, "transformer": config.transformer}
    configs = {f"{kind}.{m}": kinds[kind] for m in modalities for kind in kinds} | {FINAL: config.crossmod}
    if unknown := sorted(set(config.stages) - set(configs)):
        raise ConfigError(f"configuration {config.name} sets a stage {unknown[0]!r}; there are {', '.join(configs)}")
    return configs | config.stages


@dataclass(frozen=True)
class TrainedStages:
    """The frozen blocks with their temporary heads, and the fusion, all in evaluation mode."""

    spec: NetworkSpec
    blocks: Mapping[str, Headed]
    fusion: CrossModFusion

    def network(self) -> CrossModTransformer:
        """The whole network, without the temporary heads."""
        states = {name: headed.block.state_dict() for name, headed in self.blocks.items()}
        return assemble(self.spec, {**states, FINAL: self.fusion.state_dict()})

    def predict(self, x: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        """Probabilities [N, K] of every stage, by its name, for scaled windows x [N, M, S]."""
        parts: dict[str, list[Tensor]] = {}
        with torch.inference_mode():
            for begin in range(0, len(x), PREDICT_BATCH):
                for name, logits in self._logits(torch.from_numpy(x[begin : begin + PREDICT_BATCH])).items():
                    parts.setdefault(name, []).append(torch.softmax(logits, dim=1))
        return {name: torch.cat(tensors).numpy() for name, tensors in parts.items()}

    def _logits(self, x_BMS: Tensor) -> dict[str, Tensor]:
        logits: dict[str, Tensor] = {}
        features = []
        for index, m in enumerate(self.spec.modalities):
            tokens = []
            for kind in ("fcn", "alstm"):
                headed = self.blocks[f"{kind}.{m}"]
                sequence, feature = headed.block(x_BMS[:, index : index + 1])
                logits[f"{kind}.{m}"] = headed.head(feature)
                tokens.append(sequence)
            headed = self.blocks[f"transformer.{m}"]
            sequence, embedding = headed.block(*tokens)
            logits[f"transformer.{m}"] = headed.head(embedding)
            features.append(embedding if self.fusion.pooled else sequence)
        logits[FINAL] = self.fusion(*features)
        return logits


@dataclass(frozen=True)
class StagedProtocol:
    """Where and how the stages are trained. folder: of the run. seed: of every random choice."""

    folder: Path
    spec: NetworkSpec
    config: TrainConfig
    seed: int

    def train(
        self, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], progress: Progress, keep_features: bool = False
    ) -> TrainedStages:
        """Train every unfinished stage on scaled training windows x [N, M, S] and labels y [N].

        Raises CheckpointError where a checkpoint in the folder is damaged or of other settings or data.
        """
        stages = self._stages(x, y)
        if all(epochs_done(s, self._stage_folder(s)) == s.config.epochs for s in stages.values()):
            trained = self.load(x, y)
        else:
            trained = self._train_all(stages, torch.from_numpy(x), torch.from_numpy(y), progress)
        if not keep_features:
            shutil.rmtree(self._features, ignore_errors=True)
        return trained

    def _train_all(
        self, stages: Mapping[str, Stage], x_NMS: Tensor, labels: Tensor, progress: Progress
    ) -> TrainedStages:
        blocks: dict[str, Headed] = {}
        embeddings = []
        for index, m in enumerate(self.spec.modalities):
            x_N1S = x_NMS[:, index : index + 1].contiguous()
            tokens: tuple[Tensor, ...] = ()
            for name in (f"fcn.{m}", f"alstm.{m}"):
                blocks[name] = self._train(stages[name], self._headed, (x_N1S,), labels, progress)
                tokens += (frozen_features(self._features, name, blocks[name].block, (x_N1S,), index=0),)
            name = f"transformer.{m}"
            blocks[name] = self._train(stages[name], self._headed, tokens, labels, progress)
            pick = 1 if self.spec.fusion == "pooled" else 0
            embeddings.append(frozen_features(self._features, name, blocks[name].block, tokens, index=pick))
        fusion = self._train(stages[FINAL], self._fusion, tuple(embeddings), labels, progress)
        return TrainedStages(self.spec, blocks, fusion)

    def load(self, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> TrainedStages:
        """The stages that `train` left behind for the same windows.

        Raises CheckpointError where a stage is missing, unfinished or of other settings or data.
        """
        stages = self._stages(x, y)
        blocks = {
            name: load_finished(stage, partial(self._headed, stage), self._stage_folder(stage))
            for name, stage in stages.items()
            if name != FINAL
        }
        final = stages[FINAL]
        return TrainedStages(
            self.spec, blocks, load_finished(final, partial(self._fusion, final), self._stage_folder(final))
        )

    @property
    def _features(self) -> Path:
        return self.folder / "features"

    def _stage_folder(self, stage: Stage) -> Path:
        return self.folder / "stages" / stage.name

    def _train(
        self,
        stage: Stage,
        build: Callable[[Stage], Model],
        inputs: tuple[Tensor, ...],
        labels: Tensor,
        progress: Progress,
    ) -> Model:
        folder = self._stage_folder(stage)
        progress.stage(stage.name, stage.config.epochs, epochs_done(stage, folder))
        return train_stage(stage, partial(build, stage), inputs, labels, folder, partial(progress.epoch, stage.name))

    def _headed(self, stage: Stage) -> Headed:
        width, dropout = self.spec.width, stage.config.dropout
        kind = stage.name.partition(".")[0]
        if kind == "fcn":
            return Headed(FCN(width, dropout), width, self.spec.classes)
        if kind == "alstm":
            return Headed(ALSTM(width, dropout), width, self.spec.classes)
        return Headed(TransformerBlock(width, self.spec.heads, dropout), width, self.spec.classes)

    def _fusion(self, stage: Stage) -> CrossModFusion:
        return CrossModFusion(self.spec, stage.config.dropout)

    def _stages(self, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> dict[str, Stage]:
        """All stages in the order of training, each with a fingerprint of everything that it depends on."""
        data = _fingerprint(x.tobytes(), y.tobytes())
        stages: dict[str, Stage] = {}

        configs = stage_configs(self.spec.modalities, self.config)

        def add(name: str, *upstream: str) -> None:
            config = configs[name]
            settings = (name, config, self.config.batch_size, self.seed, self.spec, data)
            above = (stages[other].fingerprint.encode() for other in upstream)
            fingerprint = _fingerprint(msgspec.json.encode(settings), *above)
            stages[name] = Stage(name, config, self.config.batch_size, self.seed, fingerprint)

        for m in self.spec.modalities:
            add(f"fcn.{m}")
            add(f"alstm.{m}")
            add(f"transformer.{m}", f"fcn.{m}", f"alstm.{m}")
        add(FINAL, *(f"transformer.{m}" for m in self.spec.modalities))
        return stages


def _fingerprint(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:32]
