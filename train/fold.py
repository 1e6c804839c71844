"""One fold of a run: who trains, who is held out, and what was learnt."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

import msgspec
import numpy as np
import numpy.typing as npt

from edgepain.bundle import ModalitySpec, NetworkSpec, Scaling, TrainingFacts
from edgepain.errors import DataError
from edgepain.signal import ScalingSpec, WindowSpec
from edgepain.train.chosen import read_chosen
from edgepain.train.config import FoldConfig, StageConfig, TrainConfig
from edgepain.train.models import CrossModTransformer
from edgepain.train.split import Split, hold_out
from edgepain.train.staged import FINAL, Progress, StagedProtocol, TrainedStages
from edgepain.train.teaching import Teaching
from edgepain.train.temperature import fit_temperature
from edgepain.train.windows import WindowTable

if TYPE_CHECKING:
    from edgepain.train.run import Run

CALIBRATION_DRAWS = 20

TrainingWindows: TypeAlias = "tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]"


@dataclass(frozen=True)
class Fold:
    """A fold of a run. Nothing here shows a held-out subject to a stage."""

    run: Run
    config: FoldConfig

    @property
    def name(self) -> str:
        """Of its folder, such as `seed0-fold03`."""
        return self.config.name

    @property
    def seed(self) -> int:
        """Of every random choice in this fold."""
        return self.config.seed

    @property
    def folder(self) -> Path:
        """What this fold leaves behind lies here."""
        return self.run.folder / "folds" / self.name

    def answers_path(self, method: str) -> Path:
        """Where the answers of a method lie, once they are all there."""
        return self.folder / "answers" / f"{quote(method, safe='+')}.npz"

    @cached_property
    def split(self) -> Split:
        """Training and held-out subjects, disjoint."""
        held_out = set(self.config.held_out)
        return Split(tuple(s for s in self.run.config.subjects if s not in held_out), self.config.held_out)

    @cached_property
    def inner(self) -> Split | None:
        """The training subjects again: those that stages see, and those that the temperature is fitted on.

        None where the configuration keeps nobody for it. Raises DataError where every draw leaves one of them without
        a class.
        """
        share = self.run.config.train.calibration_share
        if not share:
            return None
        count = str(max(1, round(share * len(self.split.train))))
        draws = (hold_out(self.split.train, count, {}, self.seed + number) for number in range(CALIBRATION_DRAWS))
        for draw in draws:
            if self._has_all_classes(draw.train) and self._has_all_classes(draw.held_out):
                return draw
        raise DataError(
            f"fold {self.name}: no {count} of {len(self.split.train)} training subjects that could be kept for the "
            "temperature have windows of every class; start a run with another --calibration-share, or without"
        )

    def _has_all_classes(self, subjects: tuple[str, ...]) -> bool:
        part = self.part(subjects)
        _, usable = part.scaled(self.scaling)
        return bool(np.isin(np.arange(len(self.labels)), part.labels[usable]).all())

    @property
    def stage_subjects(self) -> tuple[str, ...]:
        """Training subjects whose windows stages and peers see."""
        return self.inner.train if self.inner else self.split.train

    @property
    def spec(self) -> NetworkSpec:
        """Shape of the network."""
        return self.run.spec

    @property
    def scaling(self) -> Scaling:
        """What the windows were scaled with in training."""
        return self.run.scaling

    @property
    def window(self) -> WindowSpec:
        """Length and points of a window."""
        return self.run.window

    @property
    def scaling_spec(self) -> ScalingSpec:
        """How windows are scaled."""
        return self.run.scaling_spec

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the network's outputs."""
        return self.run.labels

    def part(self, subjects: tuple[str, ...]) -> WindowTable:
        """The windows of these subjects."""
        return self.run.table.select(self.rows(subjects))

    def rows(self, subjects: tuple[str, ...]) -> npt.NDArray[np.intp]:
        """Their rows in the run's table."""
        return np.flatnonzero(np.isin(self.run.table.subjects, subjects))

    @cached_property
    def training_windows(self) -> TrainingWindows:
        """All that stages see: see `training_windows`."""
        return training_windows(self.run.table, self.stage_subjects, self.scaling)

    @property
    def chosen(self) -> dict[str, StageConfig]:
        """Settings that a search within the training subjects chose for stages of this fold."""
        return read_chosen(self.folder)

    @property
    def train_config(self) -> TrainConfig:
        """The run's settings with those chosen for this fold."""
        train = self.run.config.train
        return msgspec.structs.replace(train, stages={**train.stages, **self.chosen})

    def fingerprint(self, method: str) -> str:
        """Changes with everything that decides what a method says here; of the network, with its chosen settings."""
        chosen = self.chosen if method == FINAL else {}
        if not chosen:
            return self.run.fingerprint
        settings = msgspec.json.encode(chosen, order="sorted")
        return hashlib.sha256(self.run.fingerprint.encode() + settings).hexdigest()[:32]

    @property
    def staged(self) -> StagedProtocol:
        """The stages of this fold, trained or not."""
        config = self.run.config
        teaching = None
        if config.teacher:
            teaching = Teaching(config.train.distill, config.teacher.fingerprint, self.folder, self._ask_teacher)
        return StagedProtocol(self.folder, self.spec, self.train_config, self.seed, config.epoch_choice, teaching)

    def _ask_teacher(self) -> dict[str, npt.NDArray[np.float32]]:
        """What the teacher's stages, trained on the same people, say of the training windows: logits [N, K]."""
        teacher = self.run.teacher
        assert teacher is not None
        return teacher.fold(self.name).trained().logits(self.training_windows[0])

    def train(self, progress: Progress, keep_features: bool = False) -> TrainedStages:
        """Train what is not trained yet; see `StagedProtocol.train`."""
        test_fold = None
        if self.run.config.epoch_choice == "test-fold":
            held_out = self.part(self.split.held_out)
            x, usable = held_out.scaled(self.scaling)
            test_fold = (x[usable], held_out.labels[usable])
        return self.staged.train(*self.training_windows, progress, keep_features, test_fold)

    def trained(self) -> TrainedStages:
        """The trained stages. Raises CheckpointError where the training is not finished."""
        return self.staged.load(*self.training_windows)

    def network(self) -> CrossModTransformer:
        """The trained network in evaluation mode, scaled windows [B, M, S] to logits [B, K].

        With a temperature, its last layer is divided by it.
        """
        stages = self.trained()
        return stages.network(self.temperature(stages) if self.inner else 1.0)

    def temperature(self, stages: TrainedStages) -> float:
        """The temperature of the probabilities, fitted on training subjects that no stage saw.

        Raises DataError where these have no usable window of a class, or the configuration keeps nobody for it.
        """
        if self.inner is None:
            raise DataError(f"fold {self.name} keeps no subject for a temperature; set calibration_share")
        x, labels = training_windows(self.run.table, self.inner.held_out, self.scaling)
        return fit_temperature(stages.predict(x)[FINAL], labels)

    def training_facts(self) -> TrainingFacts:
        """Where the weights come from, for a bundle."""
        config = self.run.config
        return TrainingFacts(
            dataset=config.dataset,
            task=" / ".join(self.labels),
            protocol=self.run.protocol,
            train_subjects=len(self.split.train),
            held_out_subjects=len(self.split.held_out),
            train_windows=len(self.training_windows[1]),
            config=config.train.name,
            seed=self.seed,
            synthetic=self.run.synthetic,
            held_out=self.split.held_out,
            fold=self.name,
            modality_dropout=config.train.modality_dropout,
        )

    def modality_specs(self) -> tuple[ModalitySpec, ...]:
        """Units and rates of the signals that a sensor must give."""
        return self.run.modality_specs()


def training_windows(table: WindowTable, subjects: tuple[str, ...], scaling: Scaling) -> TrainingWindows:
    """All that training sees of a table: usable windows of these subjects, scaled, and their labels.

    Raises DataError where a class is missing among them.
    """
    part = table.select(np.isin(table.subjects, subjects))
    x, usable = part.scaled(scaling)
    return x[usable], require_classes(part, usable, scaling)


def require_classes(part: WindowTable, usable: npt.NDArray[np.bool_], scaling: Scaling) -> npt.NDArray[np.int64]:
    """The labels of the usable rows. Raises DataError where a class is missing among them."""
    labels = part.labels[usable]
    for index, name in enumerate(part.label_names):
        if not np.any(labels == index):
            other = " or use --scaling subject" if scaling == "causal" else ""
            raise DataError(f"no usable window of the training subjects has the class {name!r}; hold others out{other}")
    return labels
