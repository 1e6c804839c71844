"""One stage of many folds at once, with the checkpoints that each would leave if it were trained alone.

As `edgepain.train.stage`: the same first weights, order of windows and arithmetic of a step, so that without dropout
the same weights come out, to rounding. What dropout leaves out is drawn for all folds together: it is the same again
for the same folds in the same order.

Checkpoints of all folds are written every minute and at the end, so that a kill costs a minute. Folds that are behind
after one are brought up to the others first.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn

from edgepain.errors import ConfigError, EdgepainError
from edgepain.train.batched.device import Device, float32_products
from edgepain.train.batched.forward import forward_of
from edgepain.train.batched.group import Alter, Group, Windows
from edgepain.train.batched.stack import Stack
from edgepain.train.files import make_folder
from edgepain.train.precision import Arithmetic
from edgepain.train.stage import EpochMetrics, Stage, epochs_done, load_checkpoint, save_checkpoint, stage_arithmetic
from edgepain.train.staged import Progress

SAVE_EVERY_S = 60.0


@dataclass(frozen=True)
class Member:
    """A fold's part in a stage.

    build: the untrained model, called after seeding. inputs: each [N, …], asked for when they go to the device.
    labels: [N]. modality_dropout: chance that a window is shown without one of its inputs, which is then as in absent,
    each [1, …].
    """

    stage: Stage
    folder: Path
    build: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Tensor, ...]]
    labels: Tensor
    modality_dropout: float = 0.0
    absent: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class _Begun:
    """A member as its checkpoint left it."""

    member: Member
    model: nn.Module
    adam: dict[int, dict[str, Tensor]]
    history: list[EpochMetrics]


def train_together(
    members: Sequence[Member],
    device: Device,
    progress: Progress,
    save_every_s: float = SAVE_EVERY_S,
) -> dict[int, EdgepainError]:
    """Train every member's stage to its end; the errors of those where that cannot be, by their number.

    The stages differ in nothing but seed and fingerprint. `progress` is told the mean over the folds.
    """
    name, epochs = members[0].stage.name, members[0].stage.config.epochs
    told = False
    failed: dict[int, EdgepainError] = {}
    while True:
        begun: dict[int, tuple[int, Arithmetic]] = {}
        for index, member in enumerate(members):
            if index not in failed:
                try:
                    begun[index] = _begun_in(member, device)
                except EdgepainError as error:
                    failed[index] = error
        left = {index: state for index, state in begun.items() if state[0] < epochs}
        first = min(left.values(), default=(epochs, "fp32"))
        if not told:
            progress.stage(name, epochs, first[0])
            told = True
        if not left:
            return failed
        until = min((done for done, _ in left.values() if done > first[0]), default=epochs)
        chosen = [index for index, state in left.items() if state == first]
        with float32_products(first[1]):
            training = _Training([members[index] for index in chosen], device, first[1])
            diverged = training.run(until, partial(progress.epoch, name), save_every_s)
        del training  # What it holds on the device, before the next one is there.
        failed |= {chosen[position]: error for position, error in diverged.items()}


def _begun_in(member: Member, device: Device) -> tuple[int, Arithmetic]:
    """How many epochs of a member are done, and in what arithmetic it goes on."""
    make_folder(member.folder)
    return epochs_done(member.stage, member.folder), stage_arithmetic(member.stage, member.folder, device.has_bf16)


class _Training:
    """Members at the same epoch, in the same arithmetic, on the device."""

    def __init__(self, members: Sequence[Member], device: Device, arithmetic: Arithmetic) -> None:
        self._arithmetic = arithmetic
        self._begun = [_begin(member) for member in members]
        self._stages = [member.stage for member in members]
        model = self._begun[0].model
        self._group = Group(
            Stack([each.model for each in self._begun], [each.adam for each in self._begun], device.torch),
            forward_of(model),
            stacked_windows([m.inputs for m in members], [m.labels for m in members], device.torch),
            self._stages[0].batch_size,
            self._stages[0].config.dropout,
            torch.bfloat16 if arithmetic == "bf16" else next(model.parameters()).dtype,
            _modality_dropout(members, device.torch) if members[0].modality_dropout else None,
        )

    def run(
        self, until: int, on_epoch: Callable[[EpochMetrics], None], save_every_s: float
    ) -> dict[int, EdgepainError]:
        """Train up to this epoch, or the first one in which a loss is no number; whose, by position."""
        saved_s = time.monotonic()
        for epoch in range(len(self._begun[0].history), until):
            metrics = self._epoch(epoch)
            diverged: dict[int, EdgepainError] = {
                k: ConfigError(
                    f"stage {stage.name}: the loss is {found.loss} in epoch {epoch + 1}; lower its learning_rate"
                )
                for k, (stage, found) in enumerate(zip(self._stages, metrics, strict=True))
                if not math.isfinite(found.loss)
            }
            for begun, found in zip(self._begun, metrics, strict=True):
                begun.history.append(found)
            if diverged or epoch + 1 == until or time.monotonic() - saved_s >= save_every_s:
                self._save(without=diverged)
                saved_s = time.monotonic()
            if diverged:
                return diverged
            loss, accuracy = fmean(m.loss for m in metrics), fmean(m.accuracy for m in metrics)
            on_epoch(EpochMetrics(epoch, metrics[0].learning_rate, loss, accuracy))
        return {}

    def _epoch(self, epoch: int) -> list[EpochMetrics]:
        rate = self._stages[0].config.learning_rate_at(epoch)
        orders = [
            torch.randperm(len(begun.member.labels), generator=torch.Generator().manual_seed(stage.epoch_seed(epoch)))
            for begun, stage in zip(self._begun, self._stages, strict=True)
        ]
        seeds = ",".join(str(stage.epoch_seed(epoch)) for stage in self._stages)
        seed = int.from_bytes(hashlib.sha256(seeds.encode()).digest()[:7], "big")
        return [EpochMetrics(epoch, rate, each.loss, each.accuracy) for each in self._group.epoch(orders, rate, seed)]

    def _save(self, without: Mapping[int, EdgepainError]) -> None:
        for k, (begun, network) in enumerate(zip(self._begun, self._group.stack.networks(), strict=True)):
            if k not in without:
                save_checkpoint(
                    begun.member.folder,
                    begun.member.stage,
                    self._arithmetic,
                    network.weights,
                    network.adam,
                    begun.history,
                    {},
                )


def _begin(member: Member) -> _Begun:
    torch.manual_seed(member.stage.epoch_seed(-1))
    model = member.build()
    optimizer = torch.optim.Adam(model.parameters())
    history, _ = load_checkpoint(member.folder, member.stage, model, optimizer)
    return _Begun(member, model, optimizer.state_dict()["state"], history)


def stacked_windows(
    inputs: Sequence[Callable[[], tuple[Tensor, ...]]], labels: Sequence[Tensor], device: torch.device
) -> Windows:
    """The windows of all networks on the device, one after the other; shorter ones are filled up with zeros."""
    longest = max(len(each) for each in labels)
    stacked: list[Tensor] = []
    for k, (of_network, labels_N) in enumerate(zip(inputs, labels, strict=True)):
        tensors = (*of_network(), labels_N)
        if k == 0:
            stacked = [x.new_zeros(len(labels), longest, *x.shape[1:], device=device) for x in tensors]
        for into, x in zip(stacked, tensors, strict=True):
            into[k, : len(x)] = x
    *inputs_KN, labels_KN = stacked
    return Windows(tuple(inputs_KN), labels_KN, tuple(len(each) for each in labels))


def _modality_dropout(members: Sequence[Member], device: torch.device) -> Alter:
    share = members[0].modality_dropout
    absent = [torch.stack([m.absent[i] for m in members]).to(device) for i in range(len(members[0].absent))]

    def alter(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        shape = inputs[0].shape[:2]
        drawn_KB = torch.randint(len(inputs), shape, device=device)
        dropped_KB = torch.where(torch.rand(shape, device=device) < share, drawn_KB, -1)
        return tuple(
            torch.where((dropped_KB == index).view(*shape, *[1] * (x.ndim - 2)), nothing, x)
            for index, (x, nothing) in enumerate(zip(inputs, absent, strict=True))
        )

    return alter
