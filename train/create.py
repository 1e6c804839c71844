"""Start a run: read the dataset, cut its windows, decide who is held out, lay the run folder out."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgepain.errors import ConfigError, DataError, EdgepainError
from edgepain.signal import Modality
from edgepain.train.config import EpochChoice, FoldConfig, RunConfig, Size, TrainConfig, network_spec
from edgepain.train.datasets.base import Dataset, Problem, open_dataset
from edgepain.train.files import write_atomically, write_text_atomically
from edgepain.train.fold import training_windows
from edgepain.train.precision import resolve
from edgepain.train.protocol import splits, splitter
from edgepain.train.run import Run, check_peers, write_config
from edgepain.train.staged import stage_configs
from edgepain.train.table_file import save_table
from edgepain.train.windows import cut_table

# What a run that was stopped before its configuration was written may have left behind.
UNFINISHED = {"windows.npz", "environment.json", "..lock"}
UNFINISHED |= {f".{name}.partial" for name in ("windows.npz", "environment.json", "config.json")}


@dataclass(frozen=True)
class Plan:
    """What a user asks for when starting a run. See `RunConfig`; threads: of the processor, for each task.

    has_bf16: whether there is bfloat16 where the network is trained; by default on this processor.
    """

    dataset: str
    root: Path
    options: dict[str, Any]
    modalities: tuple[Modality, ...]
    holdout: str
    seeds: tuple[int, ...]
    train: TrainConfig
    protocol: str = "holdout"
    epoch_choice: EpochChoice = "last"
    peers: tuple[str, ...] = ()
    network: bool = True
    threads: int = 1
    size: Size = "full"
    has_bf16: bool | None = None


def create_run(
    folder: Path, plan: Plan, progress: Callable[[int, int], None] | None = None
) -> tuple[Run, list[Problem]]:
    """Read the dataset, cut its windows and lay the run folder out; nothing is trained yet.

    Returns the run, and the files and subjects that could not be used. Raises ConfigError where the folder
    cannot be used or the options do not fit the data, DataError where the data cannot be trained on.
    """
    check_peers(plan.peers)
    resolve(plan.train.precision, plan.has_bf16)
    if not plan.network and not plan.peers:
        raise ConfigError("there is nothing to train: neither the network nor a peer was asked for")
    make_run_folder(folder)
    dataset = open_dataset(plan.dataset, plan.root, **plan.options)
    if len(dataset.labels) < 2:
        raise DataError(
            f"only one class ({dataset.labels[0]!r}) under {plan.root}; label segments of a second one, "
            "or name both with --option positive=... --option negative=..."
        )
    modalities = plan.modalities or _first_two(dataset)
    require_network(modalities, dataset.labels, plan.size, plan.train)
    table = cut_table(
        dataset, modalities, spec=plan.train.window_spec, scaling_spec=plan.train.scaling_spec, progress=progress
    )
    scaling = plan.train.scaling
    table.require_trainable(scaling, dataset.history_option)
    _, usable = table.scaled(scaling)
    subjects = tuple(str(s) for s in np.unique(table.subjects[usable]))
    config = RunConfig(
        dataset=plan.dataset,
        root=str(plan.root.resolve()),
        options=plan.options,
        modalities=modalities,
        subjects=subjects,
        protocol=plan.protocol,
        holdout_rule=plan.holdout,
        epoch_choice=plan.epoch_choice,
        seeds=plan.seeds,
        folds=_folds(plan, subjects, dataset),
        peers=plan.peers,
        network=plan.network,
        train=plan.train,
        size=plan.size,
    )
    stage_configs(modalities, plan.train)
    if plan.train.calibration_share and min(len(subjects) - len(fold.held_out) for fold in config.folds) < 2:
        raise ConfigError(
            "a fold has one training subject, so nobody can be kept for a temperature; leave out --calibration-share"
        )
    for fold in config.folds if len(config.folds) == 1 else ():
        training_windows(table, tuple(s for s in subjects if s not in fold.held_out), scaling)
    write_atomically(folder / "windows.npz", lambda file: save_table(file, table, dataset.synthetic))
    return complete(folder, config, plan.threads), dataset.problems() + table.unscalable(scaling)


def require_network(modalities: tuple[Modality, ...], labels: tuple[str, ...], size: Size, train: TrainConfig) -> None:
    """Raise ConfigError where there is no network for these."""
    try:
        network_spec(modalities, len(labels), size, train)
    except ValueError as error:
        raise ConfigError(f"no network for {' / '.join(labels)} from {' + '.join(modalities)}: {error}") from error


def complete(folder: Path, config: RunConfig, threads: int) -> Run:
    """Make a folder with windows a run folder."""
    write_text_atomically(folder / "environment.json", _json(_environment(threads)))
    # The configuration is written last: a folder that has one is complete.
    write_config(folder, config)
    return Run(folder, config)


def _folds(plan: Plan, subjects: tuple[str, ...], dataset: Dataset) -> tuple[FoldConfig, ...]:
    folds: list[FoldConfig] = []
    for seed in plan.seeds:
        cross_validator = splitter(plan.protocol, subjects, plan.holdout, dataset.holdouts, seed)
        for index, split in enumerate(splits(cross_validator, subjects)):
            folds.append(FoldConfig(f"seed{seed}-fold{index:02d}", seed, split.held_out))
    return tuple(folds)


@contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Leave nothing of a run in `folder` where it could not be started."""
    try:
        yield
    except EdgepainError:
        for name in UNFINISHED:
            (folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()
        raise


def make_run_folder(folder: Path) -> Path:
    """Make a folder for a run, or take an empty one. Raises ConfigError where it cannot be one."""
    if (folder / "config.json").exists():
        raise ConfigError(
            f"{folder} holds a run; go on with: edgepain train --resume {folder}, or choose another --out"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made a run folder ({error.strerror}); choose another --out") from error
    if names - UNFINISHED:
        raise ConfigError(f"{folder} is not empty and no run folder; choose another --out")
    return folder


def _environment(threads: int) -> dict[str, Any]:
    """Versions and machine that numbers depend on; `threads` is read again when the run goes on."""
    packages = ("edgepain", "numpy", "torch", "scikit-learn", "safetensors")
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "threads": threads,
        "packages": {name: version(name) for name in packages},
    }


def _processor() -> str:
    """The processor's name where Linux tells it, else the machine type."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _first_two(dataset: Dataset) -> tuple[Modality, ...]:
    preferred = (Modality.EDA, Modality.ECG, Modality.BVP)
    offered = [m for m in preferred if m in dataset.modalities]
    if len(offered) < 2:
        raise ConfigError(
            f"{dataset.name} under this root has {', '.join(dataset.modalities)}; name two with --modalities"
        )
    return tuple(offered[:2])


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"
