"""Which windows of a run calibrate, judge and accompany a bundle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgepain.bundle import SCALINGS, Scaling
from edgepain.errors import DataError
from edgepain.export.run import ExportableRun
from edgepain.signal import Modality


@dataclass(frozen=True)
class Labelled:
    """Scaled windows [N, M, S] float32 and their true labels [N] int64."""

    windows: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


def calibration_windows(run: ExportableRun, count: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Windows of training subjects, scaled as in training, drawn by the run's seed.

    Returns at most `count` to calibrate on and at most `count` others to try the result on (the same where there is
    only one).
    """
    x, usable = run.part(run.split.train).scaled(run.scaling)
    x = x[usable]
    if not len(x):
        raise DataError(f"no window of the training subjects is usable with {run.scaling} scaling; train again")
    drawn = np.random.default_rng(run.training_facts().seed).permutation(len(x))[: 2 * count]
    half = (len(drawn) + 1) // 2
    return x[np.sort(drawn[:half])], x[np.sort(drawn[half:] if len(drawn) > 1 else drawn)]


def with_missing(run: ExportableRun, windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """`windows` [N, M, S] and, where the network answers without a modality, every other one again without each."""
    if not run.training_facts().modality_dropout:
        return windows
    parts = [windows]
    for index in range(windows.shape[1]):
        parts.append(windows[::2].copy())
        parts[-1][:, index] = 0.0
    return np.concatenate(parts)


@dataclass(frozen=True)
class Condition:
    """How windows are shown to the network. without: a modality that is taken away, as live use does it."""

    scaling: Scaling
    without: Modality | None = None

    def __str__(self) -> str:
        return f"{self.scaling} scaling" + (f" without {self.without}" if self.without else "")


def held_out_windows(run: ExportableRun) -> dict[Condition, Labelled]:
    """The windows of held-out subjects under every scaling that can use some of them.

    Each is there again without one of its modalities, where the network was trained to answer without.
    """
    table = run.part(run.split.held_out)
    modalities = run.spec.modalities if run.training_facts().modality_dropout else ()
    parts: dict[Condition, Labelled] = {}
    for scaling in SCALINGS:
        x, usable = table.scaled(scaling)
        if not usable.any():
            continue
        for index, modality in enumerate((None, *modalities), -1):
            windows = x[usable]
            if modality:
                windows[:, index] = 0.0
            parts[Condition(scaling, modality)] = Labelled(windows, table.labels[usable])
    if not parts:
        raise DataError("no window of the held-out subjects is usable, so an export cannot be verified; train again")
    return parts


def golden_windows(parts: dict[Condition, Labelled], count: int) -> Labelled:
    """At most `count` held-out windows spread evenly over all, scaled causally, as live, where that is usable."""
    part = parts.get(Condition("causal")) or parts[Condition("subject")]
    rows = np.unique(np.linspace(0, len(part.labels) - 1, count).astype(np.intp))
    return Labelled(part.windows[rows], part.labels[rows])
