"""Whether one run may teach another: only where no fold's teacher knows a person that the fold holds out."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from edgepain.errors import ConfigError
from edgepain.train.split import LeakError
from edgepain.train.staged import FINAL

if TYPE_CHECKING:
    from edgepain.train.run import Run

# All of a window table that the network's numbers depend on.
DECISIVE_ARRAYS = ("values", "labels", "subjects", "history_median", "history_iqr", "quality_ok")
# Settings that both must have, of the run and of its training.
SAME = ("dataset", "options", "modalities", "subjects", "protocol", "holdout_rule", "epoch_choice", "seeds")
SAME_IN_TRAINING = ("window", "scaling", "min_history_s", "horizon_s", "limit_iqr", "calibration_share")


def teacher_fingerprint(teacher: Run) -> str:
    """Changes with everything that decides what the networks of a run say."""
    return hashlib.sha256("".join(fold.fingerprint(FINAL) for fold in teacher.folds).encode()).hexdigest()[:32]


def require_same_protocol(student: Run, teacher: Run) -> None:
    """Raise LeakError where `teacher` knows people whom `student` holds out, ConfigError where else they differ."""
    _require_no_leak(student, teacher)
    ours, theirs = student.config, teacher.config
    differ = [name for name in SAME if getattr(ours, name) != getattr(theirs, name)]
    differ += [name for name in SAME_IN_TRAINING if getattr(ours.train, name) != getattr(theirs.train, name)]
    if ours.folds != theirs.folds:
        differ.append("folds")
    if student.labels != teacher.labels:
        differ.append("labels")
    if not differ and any(
        not np.array_equal(getattr(student.table, name), getattr(teacher.table, name)) for name in DECISIVE_ARRAYS
    ):
        differ.append("windows")
    if differ:
        raise ConfigError(
            f"{teacher.folder} cannot teach {student.folder}: they differ in {', '.join(differ)}; name the run that it "
            "was made from"
        )


def _require_no_leak(student: Run, teacher: Run) -> None:
    folds = {fold.name: fold for fold in teacher.folds}
    for fold in student.folds:
        known = set(folds[fold.name].split.train) & set(fold.split.held_out) if fold.name in folds else set()
        if known:
            raise LeakError(
                f"{fold.name}: the teacher {teacher.folder} was trained on {min(known)}, who is held out here; only a "
                "run with the same folds may teach"
            )
    if teacher.config.epoch_choice == "test-fold" != student.config.epoch_choice:
        raise LeakError(
            f"the teacher {teacher.folder} chose its epochs on held-out people, and would hand that on; train one "
            "without --choose-epoch-on-test-fold"
        )
