"""K networks of one kind, each on its own windows, trained together epoch by epoch on one device.

Windows lie on the device. A step of all networks has the same shape, whether or not each has as many windows left:
what is missing is filled up with the network's first window, which counts nowhere. Loss and hits are summed there and
read once an epoch.

Shapes: K networks, T steps of an epoch, B windows of a step, N windows of the longest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from edgepain.train.batched.forward import Forward
from edgepain.train.batched.graph import repeatable
from edgepain.train.batched.layers import Step
from edgepain.train.batched.stack import Stack

Alter = Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Windows:
    """What K networks are trained on. inputs: each [K, N, …]. labels: [K, N]. counts: of each network, at most N."""

    inputs: tuple[Tensor, ...]
    labels_KN: Tensor
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Sums:
    """What an epoch gave a network. loss: mean over its windows."""

    loss: float
    accuracy: float


class Group:
    """Networks and windows on a device.

    products: what layers multiply in; see `Step`. alter: what else happens to the inputs of a step in training.
    """

    def __init__(
        self,
        stack: Stack,
        forward: Forward,
        windows: Windows,
        batch_size: int,
        dropout: float,
        products: torch.dtype,
        alter: Alter | None = None,
    ) -> None:
        self.stack = stack
        self._forward = forward
        self._windows = windows
        self._batch = min(batch_size, max(windows.counts))
        self._dropout = dropout
        self._products = products
        self._alter = alter
        device, networks = stack.flat_KP.device, len(windows.counts)
        # What a step reads, and what it adds to: always the same tensors.
        self._rows_KB = torch.zeros(networks, self._batch, dtype=torch.long, device=device)
        self._mask_KB = torch.zeros(networks, self._batch, dtype=stack.flat_KP.dtype, device=device)
        self._learning_rate = torch.zeros((), dtype=torch.float64, device=device)
        self._sums_K2 = torch.zeros(networks, 2, dtype=torch.float64, device=device)
        # Nothing counts yet, so that no network moves while the step is recorded.
        self._step = repeatable(self._train_step, device)

    def epoch(self, orders: Sequence[Tensor], learning_rate: float, seed: int) -> list[Sums]:
        """Train every network on its windows in its order, a permutation. seed: of the dropout."""
        torch.manual_seed(seed)
        device = self._rows_KB.device
        self._learning_rate.fill_(learning_rate)
        self._sums_K2.zero_()
        rows_TKB, mask_TKB = (x.to(device) for x in self._schedule(orders))
        for rows_KB, mask_KB in zip(rows_TKB, mask_TKB, strict=True):
            self._rows_KB.copy_(rows_KB)
            self._mask_KB.copy_(mask_KB)
            self._step()
        sums = self._sums_K2.tolist()
        return [Sums(loss / n, hits / n) for (loss, hits), n in zip(sums, self._windows.counts, strict=True)]

    def _schedule(self, orders: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Rows [T, K, B] of the windows of all networks, and which of them count."""
        longest = max(self._windows.counts)
        steps = -(-longest // self._batch)
        rows = torch.zeros(len(orders), steps * self._batch, dtype=torch.long)
        mask = torch.zeros(rows.shape, dtype=self._mask_KB.dtype)
        for k, order in enumerate(orders):
            rows[k, : len(order)] = order
            mask[k, : len(order)] = 1
        rows += longest * torch.arange(len(orders)).unsqueeze(1)
        rows_TKB, mask_TKB = (x.view(len(orders), steps, -1).transpose(0, 1).contiguous() for x in (rows, mask))
        return rows_TKB, mask_TKB

    def _train_step(self) -> None:
        mask_KB, shape = self._mask_KB, self._mask_KB.shape
        inputs = tuple(self._picked(x) for x in self._windows.inputs)
        labels = self._picked(self._windows.labels_KN)
        if self._alter:
            inputs = self._alter(inputs)
        step = Step(mask_KB, self._dropout, self._products)
        logits = self._forward(self.stack.weights(), inputs, step).flatten(0, 1).float()
        losses_KB = functional.cross_entropy(logits, labels.flatten(), reduction="none").view(shape) * mask_KB
        loss_K = losses_KB.sum(1) / mask_KB.sum(1).clamp(min=1)
        (gradient_KP,) = torch.autograd.grad(loss_K.sum(), self.stack.flat_KP)
        self.stack.step(gradient_KP, mask_KB.amax(1), self._learning_rate)
        hits_KB = (logits.argmax(dim=1).view(shape) == labels) * mask_KB
        self._sums_K2 += torch.stack([losses_KB.detach().sum(1), hits_KB.sum(1)], dim=1)

    def _picked(self, x_KN: Tensor) -> Tensor:
        return x_KN.flatten(0, 1).index_select(0, self._rows_KB.flatten()).view(*self._rows_KB.shape, *x_KN.shape[2:])
