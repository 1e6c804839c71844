"""Settings of a training run: read from TOML, checked field by field, stored with the run."""

from __future__ import annotations

import importlib.resources
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgepain.bundle import NetworkSpec, Scaling, WindowFacts
from edgepain.errors import ConfigError
from edgepain.signal import Modality, ScalingSpec, WindowSpec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHIPPED = ("paper", "small", "quick", "demo")

Epochs = Annotated[int, Meta(ge=1, le=100_000)]
Rate = Annotated[float, Meta(gt=0, le=1)]
Share = Annotated[float, Meta(ge=0, lt=1)]
Fusion = Literal["pooled", "sequence"]
Precision = Literal["auto", "fp32", "bf16"]
EpochChoice = Literal["last", "test-fold"]
Size = Literal["full", "edge"]

# Width, heads and stride of the network: as in the paper, and of a sibling for a wrist.
SIZES: dict[Size, tuple[int, int, int]] = {"full": (128, 8, 1), "edge": (32, 4, 4)}


class StageConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stage: Adam at `learning_rate`, times `gamma` at each milestone epoch."""

    epochs: Epochs
    learning_rate: Rate
    dropout: Share
    milestones: tuple[Epochs, ...] = ()
    gamma: Rate = 0.1

    def learning_rate_at(self, epoch: int) -> float:
        """Rate in epoch 0, 1, …"""
        return self.learning_rate * self.gamma ** sum(epoch >= milestone for milestone in self.milestones)


class DistillConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much of the loss is the teacher's answer, and the temperature that both answers are softened by."""

    share: Annotated[float, Meta(ge=0, le=1)] = 0.5
    temperature: Annotated[float, Meta(ge=0.1, le=100)] = 2.0


class TrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a configuration file holds (Table 4 of the paper is `paper.toml`).

    limit_iqr: see `ScalingSpec`. modality_dropout: chance that the fusion is shown a window without one of its
    modalities. calibration_share: share of the training subjects that no stage sees and the temperature of the
    probabilities is fitted on. stages: settings of single stages by name, such as `fcn.eda`, instead of those of
    their kind. distill: counts for a run that has a teacher.
    """

    name: str
    batch_size: Annotated[int, Meta(ge=2, le=65536)]
    scaling: Scaling
    fcn: StageConfig
    alstm: StageConfig
    transformer: StageConfig
    crossmod: StageConfig
    fusion: Fusion = "pooled"
    window: WindowFacts = WindowFacts(5.5, 138)
    min_history_s: Annotated[float, Meta(ge=0, le=3600)] = 60.0
    horizon_s: Annotated[float, Meta(gt=0, le=86400)] = 1800.0
    limit_iqr: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    modality_dropout: Share = 0.0
    calibration_share: Share = 0.0
    precision: Precision = "auto"
    stages: dict[str, StageConfig] = {}
    distill: DistillConfig = DistillConfig()

    def __post_init__(self) -> None:
        if not 0 < self.window.seconds < 3600 or not 2 <= self.window.steps <= 10_000:
            raise ValueError("window must have 0 < seconds < 3600 and 2 to 10000 steps")
        if self.min_history_s > self.horizon_s:
            raise ValueError(f"min_history_s {self.min_history_s:g} is more than horizon_s {self.horizon_s:g}")

    @property
    def window_spec(self) -> WindowSpec:
        """The window as the signal room takes it."""
        return WindowSpec(self.window.seconds, self.window.steps)

    @property
    def scaling_spec(self) -> ScalingSpec:
        """The scaling as the signal room takes it."""
        return ScalingSpec(self.min_history_s, self.horizon_s, self.limit_iqr)


class FoldConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is held out, and the seed of every random choice. name: of the fold's folder."""

    name: Annotated[str, Meta(pattern="^[A-Za-z0-9._-]{1,100}$")]
    seed: int
    held_out: tuple[str, ...]


class TeacherFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The run whose networks teach those of this one, fold by fold. run: its folder. fingerprint: of it as it was."""

    run: str
    fingerprint: str


class RunConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that decides a run's numbers, apart from the machine.

    protocol: see `edgepain.train.protocol`. holdout_rule: of the protocol `holdout`. epoch_choice: `test-fold` judges
    every epoch on held-out people and keeps the best: what it gives is no estimate for new people.
    """

    dataset: str
    root: str
    options: dict[str, Any]
    modalities: tuple[Modality, ...]
    subjects: tuple[str, ...]
    protocol: str
    holdout_rule: str
    epoch_choice: EpochChoice
    seeds: tuple[int, ...]
    folds: tuple[FoldConfig, ...]
    peers: tuple[str, ...]
    network: bool
    train: TrainConfig
    size: Size = "full"
    teacher: TeacherFacts | None = None

    def __post_init__(self) -> None:
        if len(self.modalities) != 2 or len(set(self.modalities)) != 2:
            raise ValueError("modalities must be two different ones")
        if len({fold.name for fold in self.folds}) != len(self.folds) or not self.folds:
            raise ValueError("folds must have different names, and there must be one")

    @property
    def decisive(self) -> bytes:
        """Everything in it that decides what the network says, for a fingerprint.

        Settings that came later are left out where they say nothing: the fingerprints of older runs stay.
        """
        document = msgspec.to_builtins(msgspec.structs.replace(self, root="", peers=(), network=True))
        if self.size == "full":
            del document["size"]
        if self.teacher is None:
            del document["teacher"], document["train"]["distill"]
        else:
            document["teacher"]["run"] = ""
        return msgspec.json.encode(document)


def network_spec(modalities: tuple[Modality, ...], classes: int, size: Size, train: TrainConfig) -> NetworkSpec:
    """Shape of a run's network. Raises ValueError where there is none for these."""
    width, heads, stride = SIZES[size]
    return NetworkSpec(modalities, classes, train.fusion, train.window.steps, width, heads, stride)


def load_config(name: str | Path) -> TrainConfig:
    """Read a configuration: one of SHIPPED, or the path of a TOML file.

    Raises ConfigError where the file cannot be read, or a field is missing, unknown or out of range.
    """
    shipped = importlib.resources.files("edgepain.train.configs")
    path = shipped / f"{name}.toml" if str(name) in SHIPPED else Path(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(
            f"configuration {name} cannot be read ({error}); use {', '.join(SHIPPED)}, or the path of a TOML file"
        ) from error
    try:
        return msgspec.convert(tomllib.loads(text), TrainConfig)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"configuration {name}: {error}; compare it with the shipped paper.toml") from error
