"""Start a run: read the dataset, cut its windows, decide who is held out, lay the run folder out."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from edgepain.bundle import NetworkSpec
from edgepain.errors import ConfigError, DataError
from edgepain.signal import Modality
from edgepain.train.config import RunConfig, TrainConfig
from edgepain.train.datasets.base import Dataset, Problem, open_dataset
from edgepain.train.files import write_atomically, write_text_atomically
from edgepain.train.run import Run, training_windows
from edgepain.train.split import hold_out
from edgepain.train.table_file import save_table
from edgepain.train.windows import cut_table

# What a run that was stopped before its configuration was written may have left behind.
UNFINISHED = {"windows.npz", "environment.json"}
UNFINISHED |= {f".{name}.partial" for name in (*UNFINISHED, "config.json")}


@dataclass(frozen=True)
class Plan:
    """What a user asks for when starting a run."""

    dataset: str
    root: Path
    options: dict[str, Any]
    modalities: tuple[Modality, ...]
    holdout: str
    seed: int
    train: TrainConfig


def create_run(
    folder: Path, plan: Plan, progress: Callable[[int, int], None] | None = None
) -> tuple[Run, list[Problem]]:
    """Read the dataset, cut its windows and lay the run folder out; nothing is trained yet.

    Returns the run, and the files and subjects that could not be used. Raises ConfigError where the folder
    cannot be used or the options do not fit the data, DataError where the data cannot be trained on.
    """
    _make_free_folder(folder)
    dataset = open_dataset(plan.dataset, plan.root, **plan.options)
    if len(dataset.labels) < 2:
        raise DataError(
            f"only one class ({dataset.labels[0]!r}) under {plan.root}; label segments of a second one, "
            "or name both with --option positive=... --option negative=..."
        )
    modalities = plan.modalities or _first_two(dataset)
    try:
        NetworkSpec(modalities, len(dataset.labels))
    except ValueError as error:
        raise ConfigError(
            f"no network for {' / '.join(dataset.labels)} from {' + '.join(modalities)}: {error}"
        ) from error
    table = cut_table(
        dataset, modalities, spec=plan.train.window_spec, scaling_spec=plan.train.scaling_spec, progress=progress
    )
    scaling = plan.train.scaling
    table.require_trainable(scaling, dataset.history_option)
    _, usable = table.scaled(scaling)
    subjects = tuple(str(s) for s in np.unique(table.subjects[usable]))
    split = hold_out(subjects, plan.holdout, dataset.holdouts, plan.seed)
    training_windows(table, split, scaling)
    config = RunConfig(
        plan.dataset,
        str(plan.root.resolve()),
        plan.options,
        modalities,
        subjects,
        split.held_out,
        plan.holdout,
        plan.seed,
        plan.train,
    )
    write_atomically(folder / "windows.npz", lambda file: save_table(file, table, dataset.synthetic))
    write_text_atomically(folder / "environment.json", _json(_environment()))
    # The configuration is written last: a folder that has one is complete.
    write_text_atomically(folder / "config.json", _json(config))
    return Run(folder, config), dataset.problems() + table.unscalable(scaling)


def _make_free_folder(folder: Path) -> None:
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


def _environment() -> dict[str, Any]:
    """Versions and machine that numbers depend on; `threads` is read again when the run goes on."""
    packages = ("edgepain", "numpy", "torch", "scikit-learn", "safetensors")
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "packages": {name: version(name) for name in packages},
    }


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
