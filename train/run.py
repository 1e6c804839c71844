"""A run folder: everything that a training is made of and leaves behind.

config.json        what was trained on what, who is held out (RunConfig)
environment.json   versions, processor, threads
windows.npz        the cut windows, so that a run can be resumed, judged and exported without the dataset
stages/<stage>/    state.safetensors (weights, optimiser, history) and epochs.csv
features/          frozen features while training, removed at the end
results.json       scores of every stage on held-out subjects, under both scalings
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from edgepain.bundle import ModalitySpec, NetworkSpec, TrainingFacts
from edgepain.errors import CheckpointError, ConfigError, DataError
from edgepain.signal import CausalSpec, Modality, WindowSpec
from edgepain.train.config import RunConfig, Scaling, TrainConfig
from edgepain.train.datasets.base import Dataset, Problem, open_dataset
from edgepain.train.files import write_atomically, write_text_atomically
from edgepain.train.metrics import Scores, score
from edgepain.train.models import CrossModTransformer
from edgepain.train.split import Split, hold_out
from edgepain.train.staged import Progress, StagedProtocol, TrainedStages
from edgepain.train.table_file import load_table, save_table
from edgepain.train.windows import WindowTable, cut_table

SCALINGS: tuple[Scaling, ...] = ("subject", "causal")
# What a run that was stopped before its configuration was written may have left behind.
UNFINISHED = {"windows.npz", "environment.json", ".windows.npz.partial", ".environment.json.partial"}


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scores of one stage on held-out subjects. left_out: windows that this scaling could not use."""

    stage: str
    scaling: Scaling
    left_out: int
    scores: Scores


class Results(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `results.json` holds."""

    protocol: str
    rows: tuple[Result, ...]


@dataclass(frozen=True)
class Run:
    """A run folder and what it says. Made by `create_run` or `open_run`."""

    folder: Path
    config: RunConfig

    @property
    def split(self) -> Split:
        """Training and held-out subjects, disjoint."""
        held_out = set(self.config.held_out)
        return Split(tuple(s for s in self.config.subjects if s not in held_out), self.config.held_out)

    @property
    def spec(self) -> NetworkSpec:
        """Shape of the network."""
        train = self.config.train
        return NetworkSpec(self.config.modalities, len(self.labels), train.fusion, train.window.steps)

    @property
    def scaling(self) -> Scaling:
        """What the windows were scaled with in training."""
        return self.config.train.scaling

    @property
    def window(self) -> WindowSpec:
        """Length and points of a window."""
        return self.config.train.window_spec

    @property
    def causal(self) -> CausalSpec:
        """History that causal scaling looks at."""
        return self.config.train.causal_spec

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the network's outputs."""
        return self.table.label_names

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
        return load_table(self.folder / "windows.npz")

    @property
    def protocol(self) -> str:
        """The protocol in words."""
        split = self.split
        return (
            f"hold-out by subject ({self.config.holdout_rule}): {len(split.train)} subjects train, "
            f"{len(split.held_out)} are held out; last epoch, nothing chosen on held-out subjects"
        )

    def train(self, progress: Progress, keep_features: bool = False) -> TrainedStages:
        """Train what is not trained yet; see `StagedProtocol.train`."""
        x, y = self._training_windows()
        return self._stages().train(x, y, progress, keep_features)

    def trained(self) -> TrainedStages:
        """The trained stages. Raises CheckpointError where the training is not finished."""
        return self._stages().load(*self._training_windows())

    def network(self) -> CrossModTransformer:
        """The trained network in evaluation mode, scaled windows [B, M, S] to logits [B, K]."""
        return self.trained().network()

    def evaluate(self, stages: TrainedStages) -> Results:
        """Score every stage on the held-out subjects under both scalings, and write results.json."""
        held_out = self.part(self.split.held_out)
        rows = []
        for scaling in SCALINGS:
            x, usable = held_out.scaled(scaling)
            if not usable.any():
                continue
            kept = held_out.select(usable)
            for name, probabilities in stages.predict(x[usable]).items():
                scores = score(kept.labels, probabilities, kept.subjects)
                rows.append(Result(name, scaling, int(np.count_nonzero(~usable)), scores))
        if not rows:
            raise DataError("no window of the held-out subjects can be used; hold other subjects out")
        results = Results(self.protocol, tuple(rows))
        text = msgspec.json.format(msgspec.json.encode(results), indent=2).decode()
        write_text_atomically(self.folder / "results.json", text + "\n")
        return results

    def part(self, subjects: tuple[str, ...]) -> WindowTable:
        """The windows of these subjects."""
        return self.table.select(np.isin(self.table.subjects, subjects))

    def training_facts(self) -> TrainingFacts:
        """Where the weights come from, for a bundle."""
        split = self.split
        _, labels = self._training_windows()
        return TrainingFacts(
            dataset=self.config.dataset,
            task=" / ".join(self.labels),
            protocol=self.protocol,
            train_subjects=len(split.train),
            held_out_subjects=len(split.held_out),
            train_windows=len(labels),
            config=self.config.train.name,
            seed=self.config.seed,
            synthetic=self.synthetic,
        )

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

    def _stages(self) -> StagedProtocol:
        return StagedProtocol(self.folder, self.spec, self.config.train, self.config.seed)

    def _training_windows(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        table = self.part(self.split.train)
        table.require_trainable(self.scaling)
        x, usable = table.scaled(self.scaling)
        return x[usable], table.labels[usable]


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
    is in use, DataError where the data cannot be trained on.
    """
    if (folder / "config.json").exists():
        raise ConfigError(
            f"{folder} holds a run; go on with: edgepain train --resume {folder}, or choose another --out"
        )
    if folder.exists() and any(path.name not in UNFINISHED for path in folder.iterdir()):
        raise ConfigError(f"{folder} is not empty and no run folder; choose another --out")
    dataset = open_dataset(plan.dataset, plan.root, **plan.options)
    modalities = plan.modalities or _first_two(dataset)
    table = cut_table(
        dataset, modalities, spec=plan.train.window_spec, causal=plan.train.causal_spec, progress=progress
    )
    problems = dataset.problems() + table.unscalable(plan.train.scaling)
    _, usable = table.scaled(plan.train.scaling)
    subjects = tuple(str(s) for s in np.unique(table.subjects[usable]))
    split = hold_out(subjects, plan.holdout, dataset.holdouts, plan.seed)
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
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder, config)
    write_atomically(folder / "windows.npz", lambda path: save_table(path, table, dataset.synthetic))
    run._training_windows()
    write_text_atomically(folder / "environment.json", _json(environment()))
    # The configuration is written last: a folder that has one is complete.
    write_text_atomically(folder / "config.json", _json(config))
    return run, problems


def open_run(folder: Path | str) -> Run:
    """Open a run folder. Raises CheckpointError where it is none or its configuration is damaged."""
    folder = Path(folder)
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(
            f"{folder} is no run folder (no config.json); start one with: edgepain train --out {folder}"
        )
    try:
        config = msgspec.json.decode(path.read_bytes(), type=RunConfig)
    except msgspec.DecodeError as error:
        raise CheckpointError(f"{path} is damaged or of another version ({error}); train again") from error
    return Run(folder, config)


def read_results(run: Run) -> Results:
    """The scores that `evaluate` wrote. Raises CheckpointError where the run has none."""
    path = run.folder / "results.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Results)
    except (OSError, msgspec.DecodeError) as error:
        raise CheckpointError(f"{path} cannot be read; finish it with: edgepain train --resume {run.folder}") from error


def environment() -> dict[str, Any]:
    """Versions and machine that numbers depend on."""
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
