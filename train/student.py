"""Start a run whose networks learn from those of another, on the same windows and folds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgepain.errors import ConfigError
from edgepain.train.config import RunConfig, Size, TeacherFacts, TrainConfig
from edgepain.train.create import complete, make_run_folder, require_network
from edgepain.train.files import write_atomically
from edgepain.train.precision import resolve
from edgepain.train.run import NETWORK, Run, Task, check_peers, open_run
from edgepain.train.staged import stage_configs
from edgepain.train.teacher import SAME_IN_TRAINING, teacher_fingerprint


@dataclass(frozen=True)
class StudentPlan:
    """What a user asks for. teacher: folder of the run that teaches. train: of it, only how stages are trained counts;
    windows, scaling and the people kept for the temperature are the teacher's. threads: see `Plan`.
    """

    teacher: Path
    train: TrainConfig
    size: Size = "edge"
    peers: tuple[str, ...] = ()
    threads: int = 1


def create_student(folder: Path, plan: StudentPlan) -> Run:
    """Lay the run folder out, with the teacher's windows and folds; nothing is trained yet.

    Raises ConfigError where the teacher is not finished or the folder cannot be used, CheckpointError where the
    teacher cannot be read.
    """
    check_peers(plan.peers)
    teacher = open_run(plan.teacher)
    _require_finished(teacher)
    train = msgspec.structs.replace(
        plan.train, **{name: getattr(teacher.config.train, name) for name in SAME_IN_TRAINING}
    )
    resolve(train.precision)
    stage_configs(teacher.config.modalities, train)
    require_network(teacher.config.modalities, teacher.labels, plan.size, train)
    config: RunConfig = msgspec.structs.replace(
        teacher.config,
        peers=plan.peers,
        train=train,
        size=plan.size,
        teacher=TeacherFacts(str(teacher.folder.resolve()), teacher_fingerprint(teacher)),
    )
    make_run_folder(folder)
    windows = (teacher.folder / "windows.npz").read_bytes()
    write_atomically(folder / "windows.npz", lambda file: file.write(windows))
    return complete(folder, config, plan.threads)


def _require_finished(teacher: Run) -> None:
    if not teacher.config.network:
        raise ConfigError(f"{teacher.folder} has no network that could teach, only peers; name another run")
    open_folds = [fold.name for fold in teacher.folds if not teacher.finished(Task(fold.name, NETWORK))]
    if open_folds:
        raise ConfigError(
            f"{teacher.folder} is not finished ({open_folds[0]}) and cannot teach yet; finish it with: edgepain train "
            f"--resume {teacher.folder}"
        )
