"""Held-out accuracy of the same staged training in float32 and as it is trained here, over several seeds.

On simulated people: it shows whether the arithmetic costs accuracy, and nothing about real pain.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn import metrics

from edgepain.bundle import NetworkSpec
from edgepain.signal import Modality
from edgepain.train.config import Precision, TrainConfig, load_config
from edgepain.train.datasets.base import open_dataset
from edgepain.train.datasets.synth import write_e4
from edgepain.train.stage import EpochMetrics
from edgepain.train.staged import FINAL, StagedProtocol
from edgepain.train.windows import WindowTable, cut_table

PEOPLE, TRIALS = 20, 8
MODALITIES = (Modality.EDA, Modality.BVP)
EPOCHS = {"fcn": 10, "alstm": 6, "transformer": 3, "crossmod": 10}
Progress = Callable[[str], None]


class Accuracy(msgspec.Struct, frozen=True):
    """Of one precision: accuracy and area under the ROC curve on held-out simulated people, one each a seed."""

    precision: str
    accuracy: tuple[float, ...]
    auc: tuple[float, ...]


class Comparison(msgspec.Struct, frozen=True):
    """The same splits, initial weights and settings in each precision."""

    people: int
    held_out_people: int
    windows: int
    held_out_windows: int
    epochs: dict[str, int]
    rows: tuple[Accuracy, ...]


class _Quiet:
    def stage(self, name: str, epochs: int, done: int) -> None:
        pass

    def epoch(self, name: str, metrics: EpochMetrics) -> None:
        pass


def compare_accuracy(seeds: int, progress: Progress) -> Comparison:
    """Train the whole protocol, shortened, once a seed in float32 and once in what `auto` means here."""
    quick = load_config("quick")
    shortened = {
        kind: msgspec.structs.replace(getattr(quick, kind), epochs=epochs, milestones=())
        for kind, epochs in EPOCHS.items()
    }
    config = msgspec.structs.replace(quick, scaling="subject", **shortened)
    table = _simulated(config)
    x, usable = table.scaled(config.scaling)
    x, labels, people = x[usable], table.labels[usable], table.subjects[usable]
    names = np.unique(people)
    held_out = np.isin(people, names[::2])
    found: dict[Precision, list[tuple[float, float]]] = {"fp32": [], "auto": []}
    for seed in range(seeds):
        for precision, results in found.items():
            progress(f"accuracy, seed {seed + 1} of {seeds}, {precision}")
            trained_in = msgspec.structs.replace(config, precision=precision)
            results.append(_train(trained_in, table, x, labels, held_out, seed))
    return Comparison(
        people=len(names),
        held_out_people=len(names[::2]),
        windows=int((~held_out).sum()),
        held_out_windows=int(held_out.sum()),
        epochs=EPOCHS,
        rows=tuple(
            Accuracy("fp32" if name == "fp32" else "ours", tuple(a for a, _ in rows), tuple(u for _, u in rows))
            for name, rows in found.items()
        ),
    )


def _simulated(config: TrainConfig) -> WindowTable:
    with TemporaryDirectory(prefix="edgepain-") as scratch:
        root = Path(scratch) / "people"
        write_e4(root, PEOPLE, seed=0, trials=TRIALS)
        dataset = open_dataset("e4", root)
        return cut_table(dataset, MODALITIES, spec=config.window_spec, scaling_spec=config.scaling_spec)


def _train(
    config: TrainConfig,
    table: WindowTable,
    x: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    held_out: npt.NDArray[np.bool_],
    seed: int,
) -> tuple[float, float]:
    spec = NetworkSpec(table.modalities, len(table.label_names), steps=config.window.steps)
    with TemporaryDirectory(prefix="edgepain-") as scratch:
        stages = StagedProtocol(Path(scratch), spec, config, seed).train(x[~held_out], labels[~held_out], _Quiet())
        probabilities = stages.predict(x[held_out])[FINAL]
    accuracy = metrics.accuracy_score(labels[held_out], probabilities.argmax(axis=1))
    return float(accuracy), float(metrics.roc_auc_score(labels[held_out], probabilities[:, 1]))
