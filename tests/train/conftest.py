"""Simulated trees and small configurations for the training tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors import safe_open

from edgepain.cli.main import main
from edgepain.train.config import TrainConfig, load_config
from edgepain.train.create import Plan, create_run
from edgepain.train.datasets.synth import write_biovid, write_e4
from edgepain.train.results import write_results
from edgepain.train.run import Run
from edgepain.train.stage import EpochMetrics
from edgepain.train.work import carry_out

TINY = """\
name = "tiny"
batch_size = 16
scaling = "causal"
min_history_s = 10
window = { seconds = 5.5, steps = 24 }
fcn = { epochs = 3, learning_rate = 1e-3, dropout = 0.2, milestones = [2] }
alstm = { epochs = 2, learning_rate = 1e-3, dropout = 0.1 }
transformer = { epochs = 2, learning_rate = 3e-4, dropout = 0.2 }
crossmod = { epochs = 2, learning_rate = 3e-4, dropout = 0.3 }
"""
EPOCHS = {"fcn": 3, "alstm": 2, "transformer": 2, "crossmod": 2}


@dataclass
class Log:
    """A progress that notes what it is told, and interrupts after `stop_after` epochs."""

    stop_after: int | None = None
    stages: list[tuple[str, int, int]] = field(default_factory=list)
    epochs: list[tuple[str, int]] = field(default_factory=list)

    def stage(self, name: str, epochs: int, done: int) -> None:
        self.stages.append((name, epochs, done))

    def epoch(self, name: str, metrics: EpochMetrics) -> None:
        self.epochs.append((name, metrics.epoch))
        if len(self.epochs) == self.stop_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="session")
def log() -> type[Log]:
    return Log


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Networks this small only get slower with more. A command in this process may have left another number."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoints() -> Callable[[Path], dict[str, Any]]:
    """Table, metadata and bytes of all tensors of every stage in a run or fold folder, by stage."""

    def read(run_folder: Path) -> dict[str, Any]:
        return {folder.name: _stage(folder) for folder in sorted(run_folder.glob("**/stages/*"))}

    return read


@pytest.fixture(scope="session")
def stages_of() -> Callable[[Path], dict[str, Any]]:
    """The same of a fold's folder."""
    return _stages


def _stages(fold_folder: Path) -> dict[str, Any]:
    return {folder.name: _stage(folder) for folder in sorted(fold_folder.glob("stages/*"))}


def _stage(folder: Path) -> dict[str, Any]:
    # Files cannot be compared: the order of the metadata in them is random.
    with safe_open(folder / "state.safetensors", framework="np") as file:
        tensors = {name: file.get_tensor(name).tobytes() for name in sorted(file.keys())}
        return {"table": (folder / "epochs.csv").read_text(), "metadata": file.metadata(), **tensors}


@pytest.fixture(scope="session")
def tiny_toml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_toml: Path) -> TrainConfig:
    return load_config(tiny_toml)


@pytest.fixture(scope="session")
def e4_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five simulated people, S01 to S05, with 3 stimuli of each level: 6 labelled windows each."""
    root = tmp_path_factory.mktemp("e4") / "data"
    write_e4(root, 5, seed=1, trials=3)
    return root


@pytest.fixture(scope="session")
def biovid_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six simulated people, some on the official validation list, with 3 clips of each level."""
    root = tmp_path_factory.mktemp("biovid") / "data"
    write_biovid(root, 6, seed=1, trials=3)
    return root


@pytest.fixture(scope="session")
def e4_plan(e4_root: Path, tiny: TrainConfig) -> Plan:
    return Plan("e4", e4_root, {}, (), "S02,S05", (0,), tiny)


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory, e4_plan: Plan) -> Run:
    """A finished run on `e4_root` with its results and features, to be read only."""
    run, problems = create_run(tmp_path_factory.mktemp("runs") / "trained", e4_plan)
    assert not problems
    return finish(run, keep_features=True)


def finish(run: Run, keep_features: bool = False) -> Run:
    """Carry every task of a run out in this process."""
    torch.set_num_threads(run.threads)
    for task in run.tasks():
        carry_out(run, task, Log(), keep_features)
    write_results(run)
    return run


@pytest.fixture(scope="session")
def finished() -> Callable[..., Run]:
    return finish


@pytest.fixture(scope="session")
def three_class_plan(biovid_root: Path, tiny: TrainConfig) -> Plan:
    one_epoch = {name: msgspec.structs.replace(getattr(tiny, name), epochs=1, milestones=()) for name in EPOCHS}
    config = msgspec.structs.replace(tiny, scaling="subject", fusion="sequence", **one_epoch)
    return Plan("biovid", biovid_root, {"levels": ["BL1", "PA2", "PA4"]}, (), "validation", (0,), config)


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def edgepain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """The command line in this process, from arguments to exit code."""

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["edgepain", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            main()
        assert isinstance(exit_info.value.code, int)
        captured = capsys.readouterr()
        return Answer(exit_info.value.code, captured.out, captured.err)

    return run


# Runs of several tasks


@pytest.fixture(scope="session")
def loso_plan(tmp_path_factory: pytest.TempPathFactory, tiny: TrainConfig) -> Plan:
    """Leave one of three simulated people out, S01 to S03; the network and a peer."""
    root = tmp_path_factory.mktemp("three") / "data"
    write_e4(root, 3, seed=1, trials=3)
    return Plan("e4", root, {}, (), "20%", (0,), tiny, protocol="loso", peers=("svm",))


@pytest.fixture(scope="session")
def loso_run(tmp_path_factory: pytest.TempPathFactory, loso_plan: Plan) -> Run:
    """`loso_plan` carried out in this process, to be read only."""
    return finish(create_run(tmp_path_factory.mktemp("loso") / "run", loso_plan)[0])


@pytest.fixture(scope="session")
def left_behind() -> Callable[[Path], dict[str, Any]]:
    """All of a run folder that must not depend on who worked on it: stages, answers and results."""

    def read(run_folder: Path) -> dict[str, Any]:
        files = [*sorted(run_folder.glob("folds/*/answers/*")), run_folder / "results.json"]
        stages = {f"{fold.name}/stages": _stages(fold) for fold in sorted(run_folder.glob("folds/*"))}
        return stages | {str(path.relative_to(run_folder)): path.read_bytes() for path in files}

    return read


@dataclass(frozen=True)
class Block:
    """Whoever writes the checkpoint of this stage waits for ever in the middle of its first epoch's."""

    stage: Path

    @property
    def worker(self) -> int | None:
        """The process that waits, or none yet: it holds the lock of the fold and has written the stage's table."""
        if not (self.stage / "epochs.csv").is_file():
            return None
        return locked_by(self.stage.parents[1] / ".crossmod.lock")

    def wait(self, process: subprocess.Popen[str] | None = None) -> int:
        """The process that waits, as soon as there is one."""
        while (worker := self.worker) is None:
            assert process is None or process.poll() is None, process.communicate()
            time.sleep(0.02)
        return worker

    def remove(self) -> None:
        """Let nobody else wait; the one that does is not woken."""
        (self.stage / ".state.safetensors.partial").unlink(missing_ok=True)


@pytest.fixture
def block() -> Callable[[Run, str, str], Block]:
    """Block a stage of a fold before it is trained."""

    def make(run: Run, fold: str, stage: str) -> Block:
        folder = run.fold(fold).folder / "stages" / stage
        folder.mkdir(parents=True)
        os.mkfifo(folder / ".state.safetensors.partial")
        return Block(folder)

    return make


def locked_by(path: Path) -> int | None:
    """The process that holds the lock of a file."""
    inode = path.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
            return int(fields[4])
    return None


@pytest.fixture(scope="session")
def alive() -> Callable[[int], bool]:
    """Whether a process still runs."""

    def is_alive(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False

    return is_alive


@pytest.fixture
def training() -> Callable[..., Any]:
    """`edgepain train` as a process, killed at the end if it still runs."""

    @contextmanager
    def started(*arguments: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-m", "edgepain", "train", *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80", **options.pop("env", {})}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, env=environment, **pipes, **options) as process:
            try:
                yield process
            finally:
                process.kill()

    return started
