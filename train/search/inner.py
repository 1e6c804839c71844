"""Inner folds: the training subjects of a fold again, split by subject to judge settings on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import msgspec
import torch
from sklearn.metrics import balanced_accuracy_score

from edgepain.errors import ConfigError, DataError
from edgepain.train.config import StageConfig, TrainConfig
from edgepain.train.files import make_folder, try_lock
from edgepain.train.fold import Fold, TrainingWindows, training_windows
from edgepain.train.protocol import splits, splitter
from edgepain.train.search.study import Trial
from edgepain.train.split import Split
from edgepain.train.stage import EpochMetrics
from edgepain.train.staged import JUDGING, TRAINING, StagedProtocol, Steps, predicted_classes

WAIT_S = 0.2


class _Ticking:
    """A progress that only says that there was some."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick

    def stage(self, name: str, epochs: int, done: int) -> None:
        """A stage begins."""
        self._tick()

    def epoch(self, name: str, metrics: EpochMetrics) -> None:
        """An epoch is on disk."""
        self._tick()


def inner_splits(fold: Fold, count: int) -> tuple[Split, ...]:
    """Folds by subject, drawn by the fold's seed, of those training subjects that stages see."""
    subjects = fold.stage_subjects
    if not 2 <= count <= len(subjects):
        raise ConfigError(
            f"fold {fold.name} has {len(subjects)} subjects to train on, too few for {count} inner folds; "
            f"set --inner from 2 to {len(subjects)}"
        )
    return splits(splitter(f"{count}-fold", subjects, "", {}, fold.seed), subjects)


class InnerFolds:
    """What the trials of one stage are trained and judged on.

    config: settings of all stages in the search. The blocks before `stage` are trained once for each inner fold, in
    `folder`, by whichever process comes first. No window of the fold's held-out subjects is read.
    """

    def __init__(
        self, fold: Fold, count: int, config: TrainConfig, stage: str, folder: Path, tick: Callable[[], None]
    ) -> None:
        self._stage = stage
        self._parts: list[Steps] = []
        for index, split in enumerate(inner_splits(fold, count)):
            sides = _sides(fold, split)
            windows = {side: torch.from_numpy(x) for side, (x, _) in sides.items()}
            labels = {side: torch.from_numpy(y) for side, (_, y) in sides.items()}
            protocol = StagedProtocol(folder / f"inner{index}", fold.spec, config, fold.seed)
            self._parts.append(Steps(protocol, windows, labels, _Ticking(tick)))
        self._prepare(tick)

    def run(self, trial: Trial, base: StageConfig) -> None:
        """Train and judge a trial: mean balanced accuracy over the inner folds, after the last epoch."""
        config = msgspec.structs.replace(base, learning_rate=trial.learning_rate, dropout=trial.dropout)
        scores: list[float] = []
        for index, part in enumerate(self._parts):
            try:
                model = part.train_alone(self._stage, config, trial.folder / f"inner{index}")
            except ConfigError:  # The loss is no number: too high a rate.
                return trial.finish(None)
            classes = predicted_classes(model, part.inputs(self._stage)[JUDGING])
            scores.append(float(balanced_accuracy_score(part.labels[JUDGING].numpy(), classes.numpy())))
            if trial.report(index, fmean(scores)) and index + 1 < len(self._parts):
                return trial.finish(None)
        return trial.finish(fmean(scores))

    def _prepare(self, tick: Callable[[], None]) -> None:
        """Train the blocks before the stage; with other processes at it, each takes another inner fold."""
        waiting = list(self._parts)
        while waiting:
            for part in list(waiting):
                folder = part.protocol.folder
                make_folder(folder)
                if (lock := try_lock(folder / ".lock")) is None:
                    continue
                with lock:
                    part.inputs(self._stage)
                waiting.remove(part)
            if waiting:
                time.sleep(WAIT_S)
                tick()


def _sides(fold: Fold, split: Split) -> dict[str, TrainingWindows]:
    try:
        return {
            TRAINING: training_windows(fold.run.table, split.train, fold.scaling),
            JUDGING: training_windows(fold.run.table, split.held_out, fold.scaling),
        }
    except DataError as error:
        people = ", ".join(split.held_out)
        raise DataError(f"fold {fold.name}, split once more for {people}: {error}, or set a smaller --inner") from error
