"""Carry a task out: train one method on one fold and keep what it says of the held-out windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from edgepain.bundle import SCALINGS
from edgepain.errors import DataError
from edgepain.train.answers import Answers, save_answers
from edgepain.train.files import make_folder, only_one_process
from edgepain.train.fold import Fold, require_classes
from edgepain.train.peers import Inputs, open_peer
from edgepain.train.run import NETWORK, Run, Task
from edgepain.train.staged import FINAL, Progress, TrainedStages
from edgepain.train.temperature import apply_temperature
from edgepain.train.windows import WindowTable

TEMPERED = f"{FINAL}+temperature"


def carry_out(run: Run, task: Task, progress: Progress, keep_features: bool = False) -> None:
    """Do a task, or what is left of it; nothing where its answers are there already.

    Raises DataError where the fold cannot be trained or judged, CheckpointError where its folder is damaged, used
    by another process, or cannot be written.
    """
    fold = run.fold(task.fold)
    if run.finished(task):
        return
    make_folder(fold.folder)
    with only_one_process(fold.folder, task.method):
        if task.method == NETWORK:
            stages = fold.train(progress, keep_features)
            answers = list(_network_answers(fold, stages))
        else:
            answers = list(_peer_answers(fold, task.method))
        if not answers:
            raise DataError(
                f"fold {fold.name}: no window of {', '.join(fold.split.held_out)} can be used; hold other subjects out"
            )
        save_answers(fold.answers_path(task.method), fold.fingerprint(task.method), answers)


def _network_answers(fold: Fold, stages: TrainedStages) -> Iterator[Answers]:
    rows = fold.rows(fold.split.held_out)
    held_out = fold.run.table.select(rows)
    for scaling in SCALINGS:
        x, usable = held_out.scaled(scaling)
        if not usable.any():
            continue
        x = x[usable]
        said: Mapping[str, npt.NDArray[np.float32]] = stages.predict(x)
        if fold.inner:
            said = {**said, TEMPERED: apply_temperature(said[FINAL], fold.temperature(stages))}
        for model, probabilities in said.items():
            yield _answers(fold, model, scaling, "", rows, held_out, usable, probabilities)
        for index, modality in enumerate(fold.spec.modalities):
            without = x.copy()
            without[:, index] = 0.0
            probabilities = stages.predict(without)[FINAL]
            yield _answers(fold, FINAL, scaling, str(modality), rows, held_out, usable, probabilities)


def _peer_answers(fold: Fold, name: str) -> Iterator[Answers]:
    peer = open_peer(name)(len(fold.labels), fold.seed)
    train = fold.part(fold.stage_subjects)
    inputs, usable = _inputs(train, fold.scaling)
    labels = require_classes(train, usable, fold.scaling)
    peer.fit(inputs.select(usable), labels, train.subjects[usable])
    rows = fold.rows(fold.split.held_out)
    held_out = fold.run.table.select(rows)
    for scaling in SCALINGS:
        inputs, usable = _inputs(held_out, scaling)
        if usable.any():
            probabilities = peer.predict(inputs.select(usable))
            yield _answers(fold, name, scaling, "", rows, held_out, usable, probabilities)


def _inputs(table: WindowTable, scaling: str) -> tuple[Inputs, npt.NDArray[np.bool_]]:
    x, usable = table.scaled(scaling)  # type: ignore[arg-type]
    features = table.scaled_features(scaling)  # type: ignore[arg-type]
    return Inputs(x, features, table.feature_names, table.modalities, table.spec.seconds), usable


def _answers(
    fold: Fold,
    model: str,
    scaling: str,
    missing: str,
    rows: npt.NDArray[np.intp],
    held_out: WindowTable,
    usable: npt.NDArray[np.bool_],
    probabilities: npt.NDArray[np.float32],
) -> Answers:
    if not np.isfinite(probabilities).all():
        people = ", ".join(np.unique(held_out.subjects[usable]).tolist())
        raise DataError(f"{model} does not answer windows of {people} in numbers; look at these recordings")
    return Answers(
        model=model,
        fold=fold.name,
        seed=fold.seed,
        scaling=scaling,  # type: ignore[arg-type]
        missing=missing,
        left_out=int(np.count_nonzero(~usable)),
        rows=rows[usable].astype(np.int64),
        labels=held_out.labels[usable],
        subjects=held_out.subjects[usable],
        probabilities=probabilities.astype(np.float32),
    )
