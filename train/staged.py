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
from typing import Protocol, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgepain.bundle import NetworkSpec
from edgepain.errors import ConfigError
from edgepain.signal import Modality
from edgepain.train.config import EpochChoice, StageConfig, TrainConfig
from edgepain.train.features import frozen_features
from edgepain.train.models import ALSTM, FCN, CrossModFusion, CrossModTransformer, TransformerBlock, assemble
from edgepain.train.stage import EpochMetrics, Headed, Model, Stage, epochs_done, load_finished, train_stage

PREDICT_BATCH = 256
FINAL = "crossmod"
# Which people's windows; also the end of the name of their features' file.
TRAINING, JUDGING = "", ".test-fold"

TestFold: TypeAlias = "tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]"
Inputs: TypeAlias = "dict[str, tuple[Tensor, ...]]"


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

    def network(self, temperature: float = 1.0) -> CrossModTransformer:
        """The whole network, without the temporary heads, its logits divided by the temperature."""
        states = {name: headed.block.state_dict() for name, headed in self.blocks.items()}
        network = assemble(self.spec, {**states, FINAL: self.fusion.state_dict()})
        with torch.no_grad():
            for parameter in network.crossmod.classify.parameters():
                parameter.div_(temperature)
        return network

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
    """Where and how the stages are trained. folder: of the fold. seed: of every random choice.

    epoch_choice: part of what a checkpoint belongs to; `train` is handed the windows that `test-fold` needs.
    """

    folder: Path
    spec: NetworkSpec
    config: TrainConfig
    seed: int
    epoch_choice: EpochChoice = "last"

    def train(
        self,
        x: npt.NDArray[np.float32],
        y: npt.NDArray[np.int64],
        progress: Progress,
        keep_features: bool = False,
        test_fold: TestFold | None = None,
    ) -> TrainedStages:
        """Train every unfinished stage on scaled training windows x [N, M, S] and labels y [N].

        test_fold: windows of held-out people to choose every stage's epoch by, in the protocol that says so.

        Raises CheckpointError where a checkpoint in the folder is damaged or of other settings or data.
        """
        stages = self._stages(x, y)
        if all(epochs_done(s, self._stage_folder(s)) == s.config.epochs for s in stages.values()):
            trained = self.load(x, y)
        else:
            windows, labels = {TRAINING: torch.from_numpy(x)}, {TRAINING: torch.from_numpy(y)}
            if test_fold:
                windows[JUDGING], labels[JUDGING] = (torch.from_numpy(array) for array in test_fold)
            trained = self._train_all(stages, windows, labels, progress)
        if not keep_features:
            shutil.rmtree(self._features, ignore_errors=True)
        return trained

    def _train_all(
        self,
        stages: Mapping[str, Stage],
        windows: Mapping[str, Tensor],
        labels: Mapping[str, Tensor],
        progress: Progress,
    ) -> TrainedStages:
        """windows, labels: of TRAINING, and of JUDGING where epochs are chosen on the test fold."""
        blocks: dict[str, Headed] = {}
        embeddings: Inputs = dict.fromkeys(windows, ())
        for index, m in enumerate(self.spec.modalities):
            raw: Inputs = {side: (x_NMS[:, index : index + 1].contiguous(),) for side, x_NMS in windows.items()}
            tokens: Inputs = dict.fromkeys(windows, ())
            for name in (f"fcn.{m}", f"alstm.{m}"):
                blocks[name] = self._train(stages[name], self._headed, raw, labels, progress)
                tokens = self._frozen(tokens, name, blocks[name], raw, index=0)
            name = f"transformer.{m}"
            blocks[name] = self._train(stages[name], self._headed, tokens, labels, progress)
            pick = 1 if self.spec.fusion == "pooled" else 0
            embeddings = self._frozen(embeddings, name, blocks[name], tokens, index=pick)
        absent = [self._absent(blocks, m) for m in self.spec.modalities]
        build = partial(self._fusion, absent=absent)
        fusion = self._train(stages[FINAL], build, embeddings, labels, progress)
        return TrainedStages(self.spec, blocks, fusion)

    def _frozen(self, so_far: Inputs, name: str, headed: Headed, inputs: Inputs, index: int) -> Inputs:
        """`so_far` with what the frozen block gives for its inputs added."""
        return {
            side: (*so_far[side], frozen_features(self._features, f"{name}{side}", headed.block, tensors, index))
            for side, tensors in inputs.items()
        }

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
        inputs: Inputs,
        labels: Mapping[str, Tensor],
        progress: Progress,
    ) -> Model:
        folder = self._stage_folder(stage)
        progress.stage(stage.name, stage.config.epochs, epochs_done(stage, folder))
        judge = partial(_accuracy, inputs[JUDGING], labels[JUDGING]) if JUDGING in inputs else None
        on_epoch = partial(progress.epoch, stage.name)
        return train_stage(stage, partial(build, stage), inputs[TRAINING], labels[TRAINING], folder, on_epoch, judge)

    def _headed(self, stage: Stage) -> Headed:
        width, dropout = self.spec.width, stage.config.dropout
        kind = stage.name.partition(".")[0]
        if kind == "fcn":
            return Headed(FCN(width, dropout), width, self.spec.classes)
        if kind == "alstm":
            return Headed(ALSTM(width, dropout), width, self.spec.classes)
        return Headed(TransformerBlock(width, self.spec.heads, dropout), width, self.spec.classes)

    def _fusion(self, stage: Stage, absent: Sequence[Tensor] = ()) -> CrossModFusion:
        fusion = CrossModFusion(self.spec, stage.config.dropout)
        if self.config.modality_dropout and absent:
            fusion.register_forward_pre_hook(partial(_drop_modality, share=self.config.modality_dropout, absent=absent))
        return fusion

    def _absent(self, blocks: Mapping[str, Headed], m: Modality) -> Tensor:
        """What the stream of a modality gives for a window of zeros, which stands for no signal: [1, …]."""
        with torch.inference_mode():
            nothing = torch.zeros(1, 1, self.spec.steps)
            tokens = [blocks[f"{kind}.{m}"].eval().block(nothing)[0] for kind in ("fcn", "alstm")]
            sequence, embedding = blocks[f"transformer.{m}"].eval().block(*tokens)
        absent: Tensor = embedding if self.spec.fusion == "pooled" else sequence
        return absent.clone()

    def _stages(self, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> dict[str, Stage]:
        """All stages in the order of training, each with a fingerprint of everything that it depends on."""
        data = _fingerprint(x.tobytes(), y.tobytes())
        stages: dict[str, Stage] = {}

        configs = stage_configs(self.spec.modalities, self.config)

        def add(name: str, *upstream: str) -> None:
            config = configs[name]
            dropped = self.config.modality_dropout if name == FINAL else 0.0
            settings = (name, config, self.config.batch_size, self.seed, self.spec, dropped, self.epoch_choice, data)
            above = (stages[other].fingerprint.encode() for other in upstream)
            fingerprint = _fingerprint(msgspec.json.encode(settings), *above)
            stages[name] = Stage(name, config, self.config.batch_size, self.seed, fingerprint, self.config.precision)

        for m in self.spec.modalities:
            add(f"fcn.{m}")
            add(f"alstm.{m}")
            add(f"transformer.{m}", f"fcn.{m}", f"alstm.{m}")
        add(FINAL, *(f"transformer.{m}" for m in self.spec.modalities))
        return stages


def _accuracy(inputs: tuple[Tensor, ...], labels: Tensor, model: nn.Module) -> float:
    correct = 0
    with torch.inference_mode():
        for rows in torch.arange(len(labels)).split(PREDICT_BATCH):
            correct += int((model(*(x[rows] for x in inputs)).argmax(dim=1) == labels[rows]).sum())
    return correct / len(labels)


def _drop_modality(
    fusion: nn.Module, features: tuple[Tensor, ...], share: float, absent: Sequence[Tensor]
) -> tuple[Tensor, ...] | None:
    """In training, show a window without one of its modalities, drawn at random, with this chance."""
    if not fusion.training:
        return None
    count = len(features[0])
    dropped = torch.where(torch.rand(count) < share, torch.randint(len(features), (count,)), -1)
    return tuple(
        torch.where((dropped == index).view(-1, *[1] * (x.ndim - 1)), nothing, x)
        for index, (x, nothing) in enumerate(zip(features, absent, strict=True))
    )


def _fingerprint(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:32]
