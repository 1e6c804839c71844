"""A run folder: everything that a training is made of and leaves behind.

config.json        what was trained on what, who is held out (RunConfig)
environment.json   versions, processor, threads
windows.npz        the cut windows, so that a run can be resumed, judged and exported without the dataset
stages/<stage>/    state.safetensors (weights, optimiser, history) and epochs.csv
features/          frozen features while training, removed at the end
results.json       scores of every stage on held-out subjects, under both scalings
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from edgepain.bundle import SCALINGS, ModalitySpec, NetworkSpec, Scaling, TrainingFacts
from edgepain.errors import CheckpointError, DataError
from edgepain.signal import Modality, ScalingSpec, WindowSpec
from edgepain.train.config import RunConfig
from edgepain.train.files import only_one_process, write_text_atomically
from edgepain.train.metrics import Scores, score
from edgepain.train.models import CrossModTransformer
from edgepain.train.split import Split
from edgepain.train.staged import Progress, StagedProtocol, TrainedStages
from edgepain.train.table_file import load_table
from edgepain.train.windows import WindowTable

TrainingWindows: TypeAlias = "tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]"
Struct = TypeVar("Struct", bound=msgspec.Struct)


class _Environment(msgspec.Struct, frozen=True):
    """The part of `environment.json` that is read again."""

    threads: Annotated[int, Meta(ge=1)]


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scores of one stage on held-out subjects. left_out: windows that this scaling could not use."""

    stage: str
    scaling: Scaling
    left_out: int
    scores: Scores


class Results(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `results.json` holds. labels: class names, in the order of `Scores.missing_classes`' indices."""

    protocol: str
    labels: tuple[str, ...]
    rows: tuple[Result, ...]


@dataclass(frozen=True)
class Run:
    """A run folder and what it says. Made by `create_run` or `open_run`.

    Whatever reads the windows raises CheckpointError where their file is damaged or of another configuration.
    """

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
    def scaling_spec(self) -> ScalingSpec:
        """How windows are scaled."""
        return self.config.train.scaling_spec

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the network's outputs."""
        return self.table.label_names

    @property
    def threads(self) -> int:
        """Processor threads that the run began with. Sums, and so the weights, differ with another count."""
        return _read(self.folder / "environment.json", _Environment).threads

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
        if (table.modalities, table.spec, table.scaling_spec) != (
            self.config.modalities,
            self.window,
            self.scaling_spec,
        ):
            raise CheckpointError(
                f"{path} was cut with other settings than config.json; train again in a new run folder"
            )
        return table, synthetic

    @cached_property
    def _training_windows(self) -> TrainingWindows:
        return training_windows(self.table, self.split, self.scaling)

    @property
    def protocol(self) -> str:
        """The protocol in words."""
        split = self.split
        return (
            f"hold-out by subject ({self.config.holdout_rule}): {len(split.train)} subjects train, "
            f"{len(split.held_out)} held out; last epoch, nothing chosen on held-out subjects"
        )

    def train(self, progress: Progress, keep_features: bool = False) -> TrainedStages:
        """Train what is not trained yet; see `StagedProtocol.train`."""
        with only_one_process(self.folder):
            return self._stages().train(*self._training_windows, progress, keep_features)

    def trained(self) -> TrainedStages:
        """The trained stages. Raises CheckpointError where the training is not finished."""
        return self._stages().load(*self._training_windows)

    def network(self) -> CrossModTransformer:
        """The trained network in evaluation mode, scaled windows [B, M, S] to logits [B, K]."""
        return self.trained().network()

    def evaluate(self, stages: TrainedStages) -> Results:
        """Score every stage on the held-out subjects and write results.json.

        Both scalings have rows, but for one that can use no held-out window.
        """
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
        results = Results(self.protocol, self.labels, tuple(rows))
        text = msgspec.json.format(msgspec.json.encode(results), indent=2).decode()
        write_text_atomically(self.folder / "results.json", text + "\n")
        return results

    def part(self, subjects: tuple[str, ...]) -> WindowTable:
        """The windows of these subjects."""
        return self.table.select(np.isin(self.table.subjects, subjects))

    def training_facts(self) -> TrainingFacts:
        """Where the weights come from, for a bundle."""
        split = self.split
        return TrainingFacts(
            dataset=self.config.dataset,
            task=" / ".join(self.labels),
            protocol=self.protocol,
            train_subjects=len(split.train),
            held_out_subjects=len(split.held_out),
            train_windows=len(self._training_windows[1]),
            config=self.config.train.name,
            seed=self.config.seed,
            synthetic=self.synthetic,
            held_out=split.held_out,
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


def training_windows(table: WindowTable, split: Split, scaling: Scaling) -> TrainingWindows:
    """All that training sees of a table: usable windows of training subjects, scaled, and their labels.

    Raises DataError where a class is missing among them.
    """
    part = table.select(np.isin(table.subjects, split.train))
    x, usable = part.scaled(scaling)
    labels = part.labels[usable]
    for index, name in enumerate(table.label_names):
        if not np.any(labels == index):
            other = " or use --scaling subject" if scaling == "causal" else ""
            raise DataError(f"no usable window of the training subjects has the class {name!r}; hold others out{other}")
    return x[usable], labels


def open_run(folder: Path | str) -> Run:
    """Open a run folder. Raises CheckpointError where it is none or its configuration is damaged."""
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} is no run folder (no config.json); start one with: edgepain train --out {folder}"
        )
    return Run(folder, _read(folder / "config.json", RunConfig))


def _read(path: Path, kind: type[Struct]) -> Struct:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is missing, damaged or of another version ({error}); train again in a new run folder"
        ) from error
