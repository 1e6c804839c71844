"""What an export needs of a training run."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgepain.bundle import ModalitySpec, NetworkSpec, Scaling, TrainingFacts
from edgepain.signal import ScalingSpec, WindowSpec
from edgepain.train.models import CrossModTransformer


class Subjects(Protocol):
    """Who trains and who is held out; `edgepain.train.split.Split` is one."""

    @property
    def train(self) -> tuple[str, ...]: ...
    @property
    def held_out(self) -> tuple[str, ...]: ...


class Windows(Protocol):
    """Cut windows with their true labels [N]; `edgepain.train.windows.WindowTable` is one."""

    @property
    def labels(self) -> npt.NDArray[np.int64]: ...

    def scaled(self, scaling: Scaling) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Windows [N, M, S], scaled, and which of them are usable [N]."""


class ExportableRun(Protocol):
    """A finished training run; `edgepain.train.fold.Fold` is one."""

    @property
    def spec(self) -> NetworkSpec: ...
    @property
    def window(self) -> WindowSpec: ...
    @property
    def scaling_spec(self) -> ScalingSpec: ...
    @property
    def scaling(self) -> Scaling: ...
    @property
    def labels(self) -> tuple[str, ...]: ...
    @property
    def split(self) -> Subjects: ...

    def network(self) -> CrossModTransformer: ...
    def part(self, subjects: tuple[str, ...]) -> Windows: ...
    def training_facts(self) -> TrainingFacts: ...
    def modality_specs(self) -> tuple[ModalitySpec, ...]: ...
