"""The network of a run's folds, trained in groups, stage by stage; everything else is left to another engine."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgepain.errors import EdgepainError
from edgepain.train.batched.device import Device, enough_memory, float32_products
from edgepain.train.batched.stage import Member, train_together
from edgepain.train.files import make_folder, only_one_process
from edgepain.train.fold import Fold
from edgepain.train.run import NETWORK, Run, Task
from edgepain.train.staged import FINAL, TRAINING, Inputs, Progress, StagedProtocol, Steps, stage_configs
from edgepain.train.workers import Engine, Outcome, Silent

DEFAULT_FOLDS = 29
FEATURES_BATCH = 1024


@dataclass(frozen=True)
class FoldsTogether:
    """Trains up to `folds` folds at once on a device, then lets another engine do what is left.

    progress: of a group of so many folds, told the mean over them.
    """

    device: Device
    folds: int
    progress: Callable[[int], Progress]
    then: Engine

    def run(self, run: Run, tasks: Sequence[Task], on_tick: Callable[[], None]) -> Iterator[Outcome]:
        """See `Engine.run`. Raises ConfigError where the device has too little memory for so many folds."""
        torch.set_num_threads(run.threads)
        failed: list[Task] = []
        for group in self._groups(run, [task for task in tasks if task.method == NETWORK]):
            for name, error in _FoldGroup(group, self.device).train(self.progress(len(group))).items():
                failed.append(Task(name, NETWORK))
                yield Outcome(failed[-1], str(error))
            on_tick()
        yield from self.then.run(run, [task for task in tasks if task not in failed], on_tick)

    def _groups(self, run: Run, tasks: Sequence[Task]) -> Iterator[list[Fold]]:
        """Folds with the same settings, in as few groups as may be, and these of one size where they can be."""
        alike: dict[bytes, list[Fold]] = {}
        for fold in (run.fold(task.fold) for task in tasks):
            try:
                configs = stage_configs(fold.spec.modalities, fold.train_config)
            except EdgepainError:  # The other engine meets it too, and says it.
                continue
            alike.setdefault(msgspec.json.encode(configs), []).append(fold)
        for folds in alike.values():
            groups = -(-len(folds) // self.folds)
            for rows in np.array_split(np.arange(len(folds)), groups):
                yield [folds[row] for row in rows]


class _FoldGroup:
    """Folds with the same settings. What goes wrong with one of them is kept, and the others go on."""

    def __init__(self, folds: Sequence[Fold], device: Device) -> None:
        self._folds = {fold.name: fold for fold in folds}
        self._device = device
        self._steps: dict[str, DeviceSteps] = {}
        self._failed: dict[str, EdgepainError] = {}

    def train(self, progress: Progress) -> dict[str, EdgepainError]:
        """Train every stage to its end; what went wrong, by the name of the fold."""
        first = next(iter(self._folds.values()))
        with ExitStack() as locks:
            self._each(lambda name, fold: self._begin(name, fold, locks))
            for stage in stage_configs(first.spec.modalities, first.train_config):
                self._train_stage(stage, progress)
        return self._failed

    def _begin(self, name: str, fold: Fold, locks: ExitStack) -> None:
        make_folder(fold.folder)
        locks.enter_context(only_one_process(fold.folder, NETWORK))
        self._steps[name] = DeviceSteps(fold.staged, *fold.training_windows, self._device)

    def _train_stage(self, stage: str, progress: Progress) -> None:
        members: dict[str, Member] = {}
        self._each(lambda name, _: members.update({name: self._steps[name].member(stage)}))
        if not members:
            return
        with enough_memory(self._device, len(members)):
            failed = train_together(list(members.values()), self._device, progress)
        self._failed |= {list(members)[index]: error for index, error in failed.items()}
        if stage != FINAL:
            self._each(lambda name, _: self._steps[name].block(stage))

    def _each(self, do: Callable[[str, Fold], object]) -> None:
        for name, fold in self._folds.items():
            if name not in self._failed:
                try:
                    do(name, fold)
                except EdgepainError as error:
                    self._failed[name] = error


class DeviceSteps(Steps):
    """The stages of a fold, trained elsewhere; features of frozen blocks are worked out on the device, and not kept.

    x, y: scaled training windows [N, M, S] and their labels [N].
    """

    def __init__(
        self, protocol: StagedProtocol, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], device: Device
    ) -> None:
        super().__init__(protocol, {TRAINING: torch.from_numpy(x)}, {TRAINING: torch.from_numpy(y)}, Silent())
        self._device = device.torch

    def member(self, name: str) -> Member:
        """What the fold gives to a group that trains this stage."""
        stage, dropout = self._stages[name], self.protocol.config.modality_dropout
        final = name == FINAL
        return Member(
            stage=stage,
            folder=self.protocol.stage_folder(stage),
            build=partial(self.protocol.fusion if final else self.protocol.headed, stage),
            inputs=lambda: self.inputs(name)[TRAINING],
            labels=self.labels[TRAINING],
            modality_dropout=dropout if final else 0.0,
            absent=tuple(self._absent(m) for m in self.protocol.spec.modalities) if final and dropout else (),
        )

    def inputs(self, name: str) -> Inputs:
        """As in `Steps`, but worked out anew each time: those of all folds together would fill the memory."""
        return self._fusion_inputs() if name == FINAL else self._block_inputs(name)

    def _frozen(self, names: Sequence[str], index: int) -> Inputs:
        return {
            TRAINING: tuple(
                features_on(self._device, self.block(name).block, self.inputs(name)[TRAINING], index) for name in names
            )
        }


def features_on(device: torch.device, block: nn.Module, inputs: tuple[Tensor, ...], index: int) -> Tensor:
    """What the frozen block gives for inputs [N, …], on the device, in float32 as everywhere. index: of its results."""
    block = copy.deepcopy(block).to(device).eval()
    rows = torch.split(torch.arange(len(inputs[0])), FEATURES_BATCH)
    with torch.no_grad(), float32_products("fp32"), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return torch.cat([block(*(x[part[0] : part[-1] + 1].to(device) for x in inputs))[index] for part in rows])
