"""The staged protocol: FCN → ALSTM → Transformer block for each modality, then CrossMod (paper, Table 4).

Each stage sees the features of the frozen blocks before it, and nothing but training windows.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
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
from edgepain.train.stage import (
    EpochMetrics,
    Headed,
    Loss,
    Model,
    Stage,
    epochs_done,
    label_loss,
    load_finished,
    train_stage,
)
from edgepain.train.teaching import Teaching

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
        return {name: torch.softmax(torch.from_numpy(logits), dim=1).numpy() for name, logits in self.logits(x).items()}

    def logits(self, x: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        """Logits [N, K] of every stage, by its name, for scaled windows x [N, M, S]."""
        parts: dict[str, list[Tensor]] = {}
        with torch.inference_mode():
            for begin in range(0, len(x), PREDICT_BATCH):
                for name, logits in self._logits(torch.from_numpy(x[begin : begin + PREDICT_BATCH])).items():
                    parts.setdefault(name, []).append(logits)
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
    teaching: what the stages are taught beside their labels.
    """

    folder: Path
    spec: NetworkSpec
    config: TrainConfig
    seed: int
    epoch_choice: EpochChoice = "last"
    teaching: Teaching | None = None

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
        stages = self.stages(x, y)
        if all(epochs_done(s, self.stage_folder(s)) == s.config.epochs for s in stages.values()):
            trained = self.load(x, y)
        else:
            windows, labels = {TRAINING: torch.from_numpy(x)}, {TRAINING: torch.from_numpy(y)}
            if test_fold:
                windows[JUDGING], labels[JUDGING] = (torch.from_numpy(array) for array in test_fold)
            trained = Steps(self, windows, labels, progress).train_all()
        if not keep_features:
            shutil.rmtree(self.features, ignore_errors=True)
        return trained

    def load(self, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> TrainedStages:
        """The stages that `train` left behind for the same windows.

        Raises CheckpointError where a stage is missing, unfinished or of other settings or data.
        """
        stages = self.stages(x, y)
        blocks = {
            name: load_finished(stage, partial(self.headed, stage), self.stage_folder(stage))
            for name, stage in stages.items()
            if name != FINAL
        }
        final = stages[FINAL]
        return TrainedStages(
            self.spec, blocks, load_finished(final, partial(self.fusion, final), self.stage_folder(final))
        )

    @property
    def features(self) -> Path:
        """Frozen features lie here."""
        return self.folder / "features"

    def stage_folder(self, stage: Stage) -> Path:
        """The checkpoint of a stage lies here."""
        return self.folder / "stages" / stage.name

    def headed(self, stage: Stage) -> Headed:
        """An untrained block under its temporary head."""
        width, dropout = self.spec.width, stage.config.dropout
        kind = stage.name.partition(".")[0]
        if kind == "fcn":
            return Headed(FCN(width, dropout, self.spec.stride), width, self.spec.classes)
        if kind == "alstm":
            return Headed(ALSTM(width, dropout, self.spec.stride), width, self.spec.classes)
        return Headed(TransformerBlock(width, self.spec.heads, dropout), width, self.spec.classes)

    def fusion(self, stage: Stage, absent: Sequence[Tensor] = ()) -> CrossModFusion:
        """The untrained fusion. absent: what each modality gives without a signal, for modality dropout."""
        fusion = CrossModFusion(self.spec, stage.config.dropout)
        if self.config.modality_dropout and absent:
            fusion.register_forward_pre_hook(partial(_drop_modality, share=self.config.modality_dropout, absent=absent))
        return fusion

    def stages(self, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> dict[str, Stage]:
        """All stages in the order of training, each with a fingerprint of everything that it depends on."""
        data = _fingerprint(x.tobytes(), y.tobytes())
        stages: dict[str, Stage] = {}

        configs = stage_configs(self.spec.modalities, self.config)
        taught = [self.teaching.fingerprint.encode()] if self.teaching else []
        spec = msgspec.to_builtins(self.spec)
        if self.spec.stride == 1:
            del spec["stride"]  # As before there was one, so that older checkpoints stay what they are.

        def add(name: str, *upstream: str) -> None:
            config = configs[name]
            dropped = self.config.modality_dropout if name == FINAL else 0.0
            settings = (name, config, self.config.batch_size, self.seed, spec, dropped, self.epoch_choice, data)
            above = (stages[other].fingerprint.encode() for other in upstream)
            fingerprint = _fingerprint(msgspec.json.encode(settings), *above, *taught)
            stages[name] = Stage(name, config, self.config.batch_size, self.seed, fingerprint, self.config.precision)

        for m in self.spec.modalities:
            add(f"fcn.{m}")
            add(f"alstm.{m}")
            add(f"transformer.{m}", f"fcn.{m}", f"alstm.{m}")
        add(FINAL, *(f"transformer.{m}" for m in self.spec.modalities))
        return stages


class Steps:
    """Stages of a protocol on given windows: each is trained, or loaded, once it is asked for, after those it needs.

    windows, labels: [N, M, S] and [N] of TRAINING; of JUDGING where other windows are to go the same way.
    """

    def __init__(
        self,
        protocol: StagedProtocol,
        windows: Mapping[str, Tensor],
        labels: Mapping[str, Tensor],
        progress: Progress,
    ) -> None:
        self.protocol = protocol
        self.labels = labels
        self._windows = windows
        self._progress = progress
        self._stages = self._stages_of(protocol)
        self._blocks: dict[str, Headed] = {}
        self._inputs: dict[str, Inputs] = {}

    def train_all(self) -> TrainedStages:
        """Train what is not trained yet, in the order of the protocol."""
        blocks = {name: self.block(name) for name in self._stages if name != FINAL}
        fusion = self._train(self._stages[FINAL], self._fusion, self.inputs(FINAL), None)
        return TrainedStages(self.protocol.spec, blocks, fusion)

    def block(self, name: str) -> Headed:
        """The trained block of a stage of one modality."""
        if name not in self._blocks:
            stage = self._stages[name]
            self._blocks[name] = self._train(stage, self.protocol.headed, self.inputs(name), None)
        return self._blocks[name]

    def inputs(self, name: str) -> Inputs:
        """What a stage is fed with: the windows of its modality, or the features of the frozen blocks before it."""
        if name not in self._inputs:
            self._inputs[name] = self._fusion_inputs() if name == FINAL else self._block_inputs(name)
        return self._inputs[name]

    def train_alone(self, name: str, config: StageConfig, folder: Path) -> nn.Module:
        """Train one stage with other settings than the protocol's, in a folder of its own."""
        settings = msgspec.structs.replace(self.protocol.config, stages={**self.protocol.config.stages, name: config})
        stage = self._stages_of(replace(self.protocol, config=settings))[name]
        build: Callable[[Stage], nn.Module] = self._fusion if name == FINAL else self.protocol.headed
        return self._train(stage, build, self.inputs(name), folder)

    def _stages_of(self, protocol: StagedProtocol) -> dict[str, Stage]:
        return protocol.stages(self._windows[TRAINING].numpy(), self.labels[TRAINING].numpy())

    def _block_inputs(self, name: str) -> Inputs:
        kind, _, modality = name.partition(".")
        index = [str(m) for m in self.protocol.spec.modalities].index(modality)
        if kind != "transformer":
            return {side: (x_NMS[:, index : index + 1].contiguous(),) for side, x_NMS in self._windows.items()}
        return self._frozen([f"fcn.{modality}", f"alstm.{modality}"], index=0)

    def _fusion_inputs(self) -> Inputs:
        pick = 1 if self.protocol.spec.fusion == "pooled" else 0
        return self._frozen([f"transformer.{m}" for m in self.protocol.spec.modalities], index=pick)

    def _frozen(self, names: Sequence[str], index: int) -> Inputs:
        """What these blocks give for their inputs."""
        folder = self.protocol.features
        return {
            side: tuple(
                frozen_features(folder, f"{name}{side}", self.block(name).block, self.inputs(name)[side], index)
                for name in names
            )
            for side in self._windows
        }

    def _fusion(self, stage: Stage) -> CrossModFusion:
        if not self.protocol.config.modality_dropout:
            return self.protocol.fusion(stage)
        return self.protocol.fusion(stage, [self._absent(m) for m in self.protocol.spec.modalities])

    def _absent(self, m: Modality) -> Tensor:
        """What the stream of a modality gives for a window of zeros, which stands for no signal: [1, …]."""
        with torch.inference_mode():
            nothing = torch.zeros(1, 1, self.protocol.spec.steps)
            tokens = [self.block(f"{kind}.{m}").eval().block(nothing)[0] for kind in ("fcn", "alstm")]
            sequence, embedding = self.block(f"transformer.{m}").eval().block(*tokens)
        absent: Tensor = embedding if self.protocol.spec.fusion == "pooled" else sequence
        return absent.clone()

    def _train(self, stage: Stage, build: Callable[[Stage], Model], inputs: Inputs, folder: Path | None) -> Model:
        folder = folder or self.protocol.stage_folder(stage)
        self._progress.stage(stage.name, stage.config.epochs, epochs_done(stage, folder))
        judged = self.protocol.epoch_choice == "test-fold" and JUDGING in inputs
        judge = partial(_accuracy, inputs[JUDGING], self.labels[JUDGING]) if judged else None
        on_epoch = partial(self._progress.epoch, stage.name)
        x, labels = inputs[TRAINING], self.labels[TRAINING]
        loss = self._losses.get(stage.name, label_loss)
        model: Model = train_stage(stage, partial(build, stage), x, labels, folder, on_epoch, judge, loss)
        return model

    @cached_property
    def _losses(self) -> Mapping[str, Loss]:
        """Of each stage, where they are taught."""
        teaching = self.protocol.teaching
        return teaching.losses(self._windows[TRAINING].numpy(), self._stages) if teaching else {}


def predicted_classes(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    """The classes [N] that a stage in evaluation mode answers for inputs, each [N, …]."""
    with torch.inference_mode():
        rows = torch.split(torch.arange(len(inputs[0])), PREDICT_BATCH)
        return torch.cat([model(*(x[part] for x in inputs)).argmax(dim=1) for part in rows])


def _accuracy(inputs: tuple[Tensor, ...], labels: Tensor, model: nn.Module) -> float:
    return int((predicted_classes(model, inputs) == labels).sum()) / len(labels)


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
