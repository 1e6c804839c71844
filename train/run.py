"""A run folder: everything that a training is made of and leaves behind.

config.json               what was trained on what, by which protocol, who is held out in which fold (RunConfig)
environment.json          versions, processor, threads
windows.npz               the cut windows, so that a run can be resumed, judged and exported without the dataset
folds/<fold>/stages/      <stage>/state.safetensors (weights, optimiser, history) and epochs.csv
folds/<fold>/features/    frozen features, removed when the fold is finished
folds/<fold>/teacher.*    what the teacher says of the training windows, in a run that has one
folds/<fold>/search/      trials of a search for hyper-parameters, see `edgepain.train.search`
folds/<fold>/chosen.json  what it chose for stages of this fold, instead of config.json's settings
folds/<fold>/answers/     <method>.npz, what each method said of the fold's held-out windows
results.json              scores of every model on held-out subjects
ray.log                   what Ray had to say, where a cluster worked on the run
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from edgepain.bundle import ModalitySpec, NetworkSpec, Scaling
from edgepain.errors import CheckpointError, ConfigError
from edgepain.signal import Modality, ScalingSpec, WindowSpec
from edgepain.train.answers import Answers, DamagedAnswersError, load_answers
from edgepain.train.config import RunConfig, network_spec
from edgepain.train.files import write_text_atomically
from edgepain.train.fold import Fold
from edgepain.train.peers import open_peer
from edgepain.train.protocol import in_words
from edgepain.train.stage import EpochMetrics, read_curve
from edgepain.train.staged import FINAL
from edgepain.train.table_file import load_table
from edgepain.train.teacher import DECISIVE_ARRAYS, require_same_protocol, teacher_fingerprint
from edgepain.train.windows import WindowTable

# The method that trains the staged network; every other one is a peer.
NETWORK = FINAL

Struct = TypeVar("Struct", bound=msgspec.Struct)


class _Threads(msgspec.Struct, frozen=True):
    """The part of `environment.json` that a resumed run needs."""

    threads: Annotated[int, Meta(ge=1)]


@dataclass(frozen=True)
class Task:
    """One method on one fold: what can be done at the same time as any other."""

    fold: str
    method: str

    def __str__(self) -> str:
        return f"{self.fold}/{self.method}"


@dataclass(frozen=True)
class Run:
    """A run folder and what it says. Made by `create_run` or `open_run`.

    Whatever reads the windows raises CheckpointError where their file is damaged or of another configuration.
    """

    folder: Path
    config: RunConfig

    @property
    def spec(self) -> NetworkSpec:
        """Shape of the network."""
        config = self.config
        return network_spec(config.modalities, len(self.labels), config.size, config.train)

    @property
    def scaling(self) -> Scaling:
        """What the windows were scaled with in training."""
        return self.config.train.scaling

    @property
    def window(self) -> WindowSpec:
        """Length and points of a window."""
        return self.config.train.window_spec

    @property
    def scaling_spec(self) -> ScalingSpec:
        """How windows are scaled."""
        return self.config.train.scaling_spec

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the network's outputs."""
        return self.table.label_names

    @property
    def environment(self) -> dict[str, Any]:
        """Versions and machine that the run began on."""
        environment: dict[str, Any] = _decode(self.folder / "environment.json", dict[str, Any])
        return environment

    @property
    def threads(self) -> int:
        """Processor threads that the run began with. Sums, and so the weights, differ with another count."""
        environment: _Threads = _decode(self.folder / "environment.json", _Threads)
        return environment.threads

    @property
    def synthetic(self) -> bool:
        """Whether the subjects are simulated."""
        return self._stored[1]

    @property
    def table(self) -> WindowTable:
        """All windows, training and held out, not yet scaled."""
        return self._stored[0]

    @cached_property
    def _stored(self) -> tuple[WindowTable, bool]:
        path = self.folder / "windows.npz"
        table, synthetic = load_table(path)
        asked = (self.config.modalities, self.window, self.scaling_spec)
        if (table.modalities, table.spec, table.scaling_spec) != asked:
            raise CheckpointError(
                f"{path} was cut with other settings than config.json; train again in a new run folder"
            )
        return table, synthetic

    @cached_property
    def fingerprint(self) -> str:
        """Changes with everything that decides the numbers: configuration and windows."""
        digest = hashlib.sha256(self.config.decisive)
        for name in DECISIVE_ARRAYS:
            digest.update(getattr(self.table, name).tobytes())
        return digest.hexdigest()[:32]

    @cached_property
    def teacher(self) -> Run | None:
        """The run whose networks teach those of this one.

        Raises CheckpointError where it is not there or has changed, ConfigError where it was made of other windows or
        with other folds, LeakError where a person who is held out here taught it.
        """
        facts = self.config.teacher
        if facts is None:
            return None
        teacher = open_teacher(facts.run, self.folder)
        require_same_protocol(self, teacher)
        if teacher_fingerprint(teacher) != facts.fingerprint:
            raise CheckpointError(
                f"{facts.run} is not as it was when it became the teacher of {self.folder}; start a new run folder"
            )
        return teacher

    @cached_property
    def folds(self) -> tuple[Fold, ...]:
        """Every fold, seed by seed."""
        return tuple(Fold(self, config) for config in self.config.folds)

    def fold(self, name: str = "") -> Fold:
        """The fold of this name; without one, the only fold. Raises ConfigError where there is none such."""
        names = [fold.name for fold in self.folds]
        if not name and len(names) == 1:
            return self.folds[0]
        if name not in names:
            there_are = ", ".join(names[:5]) + (f" … {names[-1]}" if len(names) > 5 else "")
            problem = f"no fold is called {name!r}" if name else f"{self.folder} has {len(names)} folds"
            raise ConfigError(f"{problem}; name one with --fold: {there_are}")
        return self.folds[names.index(name)]

    @property
    def methods(self) -> tuple[str, ...]:
        """The network, unless only peers were asked for, and the peers."""
        return ((NETWORK,) if self.config.network else ()) + self.config.peers

    @property
    def protocol(self) -> str:
        """The protocol in words, for the head of every table."""
        config = self.config
        folds = len(config.folds) // len(config.seeds)
        words = in_words(config.protocol, config.holdout_rule, folds, len(config.subjects))
        if config.protocol == "holdout":
            split = self.folds[0].split
            words += f": {len(split.train)} subjects train, {len(split.held_out)} held out"
        else:
            words += f", {len(config.subjects)} subjects, each held out once"
        if len(config.seeds) > 1:
            words += f", {len(config.seeds)} seeds"
        words += self._searched
        if self.config.teacher:
            words += f", distilled from {Path(self.config.teacher.run).name} fold by fold"
        if config.epoch_choice == "test-fold":
            return f"EPOCH CHOSEN ON THE TEST FOLD: {words}; the best epoch on held-out subjects, too good by design"
        return f"{words}; last epoch, nothing chosen on held-out subjects"

    @property
    def _searched(self) -> str:
        chosen = sum(bool(fold.chosen) for fold in self.folds)
        if not chosen:
            return ""
        folds = "" if chosen == len(self.folds) else f" in {chosen} of {len(self.folds)} folds"
        return f", hyper-parameters searched within the training subjects{folds}"

    def with_peers(self, peers: Sequence[str]) -> Run:
        """The same run with these peers added, as config.json says from now on. Raises ConfigError for unknown ones."""
        check_peers(peers)
        config = msgspec.structs.replace(self.config, peers=tuple(dict.fromkeys((*self.config.peers, *peers))))
        write_config(self.folder, config)
        return Run(self.folder, config)

    def tasks(self) -> tuple[Task, ...]:
        """All there is to do, finished or not, in a good order: the long ones first."""
        return tuple(Task(fold.name, method) for method in self.methods for fold in self.folds)

    def finished(self, task: Task) -> bool:
        """Whether this task's answers are there."""
        return self.fold(task.fold).answers_path(task.method).is_file()

    def unfinished(self) -> list[str]:
        """Tasks whose answers are not there yet, as fold/method."""
        return [str(task) for task in self.tasks() if not self.finished(task)]

    def answers(self) -> list[Answers]:
        """What every finished method said. Raises CheckpointError for a damaged file or one of another run."""
        return [
            each
            for task in self.tasks()
            if self.finished(task)
            for fold in [self.fold(task.fold)]
            for each in load_answers(fold.answers_path(task.method), fold.fingerprint(task.method))
        ]

    def forget_damaged_answers(self) -> list[Task]:
        """Remove answers that cannot be read, so that they are made again; whose they were."""
        forgotten = []
        for task in filter(self.finished, self.tasks()):
            fold = self.fold(task.fold)
            try:
                load_answers(fold.answers_path(task.method), fold.fingerprint(task.method))
            except DamagedAnswersError:
                fold.answers_path(task.method).unlink()
                forgotten.append(task)
        return forgotten

    def curves(self) -> dict[str, dict[str, list[EpochMetrics]]]:
        """The epochs that were trained so far, by fold and stage."""
        return {
            fold.name: {path.parent.name: read_curve(path) for path in sorted(fold.folder.glob("stages/*/epochs.csv"))}
            for fold in self.folds
        }

    def modality_specs(self) -> tuple[ModalitySpec, ...]:
        """Units and rates of the signals that a sensor must give.

        A rate below the grid of a window (25 Hz by default) would leave out what the network saw of a heart
        beat; EDA is slow enough for the 4 Hz of a wrist band.
        """
        grid_hz = 1.0 / self.window.period_s
        return tuple(
            ModalitySpec(m, m.unit, 4.0 if m is Modality.EDA else round(grid_hz, 1), 4096.0)
            for m in self.config.modalities
        )


def check_peers(names: Sequence[str]) -> None:
    """Raise ConfigError for a peer that cannot be opened, or that has the name of something else in the tables."""
    for name in names:
        if name.partition("+")[0] == NETWORK or name.partition(".")[0] in ("fcn", "alstm", "transformer"):
            raise ConfigError(f"a peer cannot be called {name!r}, which names a part of the network; rename it")
        open_peer(name)


def open_teacher(folder: Path | str, student: Path) -> Run:
    """Open the run that teaches another. Raises CheckpointError where it is not there or damaged."""
    if not (Path(folder) / "config.json").is_file():
        raise CheckpointError(
            f"{folder}, which teaches {student}, is not there; put it back until every fold has asked it"
        )
    return open_run(folder)


def write_config(folder: Path, config: RunConfig) -> None:
    """Write config.json."""
    text = msgspec.json.format(msgspec.json.encode(config), indent=2).decode()
    write_text_atomically(folder / "config.json", text + "\n")


def open_run(folder: Path | str) -> Run:
    """Open a run folder. Raises CheckpointError where it is none or its configuration is damaged."""
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} is no run folder (no config.json); start one with: edgepain train --out {folder}"
        )
    return Run(folder, _decode(folder / "config.json", RunConfig))


def _decode(path: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is missing, damaged or of another version ({error}); train again in a new run folder"
        ) from error
