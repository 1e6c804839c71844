"""LSTM layers of K networks at once: cuDNN's has no axis of networks.

A step in time is one batched product and six small kernels, and backwards one and four. What need not wait for the
step before is worked out for all of them at once.

Shapes: K networks, S time steps, B windows, I inputs, H hidden width, G = 4 H gates in the order cell, input,
forget, output (torch: input, forget, cell, output): what shares a function or a gradient lies side by side.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edgepain.train.batched.layers import Weights, product


def lstm(weights: Weights, x_KBSI: Tensor, layers: int) -> Tensor:
    """Hidden states [K, B, S, H] of the last layer of `nn.LSTM`, from a state of zeros."""
    x_KSBI = x_KBSI.transpose(1, 2)
    for layer in range(layers):
        names = (f"{name}_l{layer}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        weight_KGI, weight_KGH, *biases_KG = (_reordered(weights[name]) for name in names)
        gates_KNG = product(x_KSBI.flatten(1, 2), weight_KGI, biases_KG[0] + biases_KG[1], x_KSBI.dtype)
        gates_KSBG = gates_KNG.view(*x_KSBI.shape[:3], -1)
        x_KSBI = _Recurrence.apply(gates_KSBG, weight_KGH)  # type: ignore[no-untyped-call]
    return x_KSBI.transpose(1, 2)


def _reordered(x_KG: Tensor) -> Tensor:
    enter, forget, cell, output = x_KG.chunk(4, dim=1)
    return torch.cat([cell, enter, forget, output], dim=1)


class _Recurrence(torch.autograd.Function):
    """Hidden states [K, S, B, H] from what the gates are given by the inputs, before their functions."""

    @staticmethod
    def forward(ctx: Any, gates_KSBG: Tensor, weight_KGH: Tensor) -> Tensor:
        networks, steps, batch, width = gates_KSBG.shape
        opened_KSBG = torch.empty_like(gates_KSBG)
        cells_KSBH, hidden_KSBH = (gates_KSBG.new_zeros(networks, steps, batch, width // 4) for _ in range(2))
        opened = opened_KSBG.view(networks, steps, batch, 4, -1)
        for t in range(steps):
            if t:
                torch.baddbmm(gates_KSBG[:, t], hidden_KSBH[:, t - 1], weight_KGH.mT, out=opened_KSBG[:, t])
            else:
                opened_KSBG[:, 0] = gates_KSBG[:, 0]
            opened[:, t, :, 0].tanh_()
            opened[:, t, :, 1:].sigmoid_()
            if t:
                torch.mul(cells_KSBH[:, t - 1], opened[:, t, :, 2], out=cells_KSBH[:, t])
            cells_KSBH[:, t].addcmul_(opened[:, t, :, 0], opened[:, t, :, 1])
            torch.mul(opened[:, t, :, 3], cells_KSBH[:, t].tanh(), out=hidden_KSBH[:, t])
        ctx.save_for_backward(opened_KSBG, cells_KSBH, hidden_KSBH, weight_KGH)
        return hidden_KSBH

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        opened_KSBG, cells_KSBH, hidden_KSBH, weight_KGH = ctx.saved_tensors
        by_hidden_KSBH = gradients[0].contiguous()
        cell, enter, forget, output = opened_KSBG.chunk(4, dim=3)
        before = torch.cat([torch.zeros_like(cells_KSBH[:, :1]), cells_KSBH[:, :-1]], dim=1)
        tanh = cells_KSBH.tanh()
        to_cell_KSBH = output * (1 - tanh * tanh)
        slopes = torch.stack(
            [
                enter * (1 - cell * cell),
                cell * enter * (1 - enter),
                before * forget * (1 - forget),
                tanh * output * (1 - output),
            ],
            dim=3,
        )
        by_gates_KSBG = torch.empty_like(opened_KSBG)
        by_gates = by_gates_KSBG.view(*by_gates_KSBG.shape[:3], 4, -1)
        steps = cells_KSBH.shape[1]
        by_cell = torch.zeros_like(cells_KSBH[:, 0])
        for t in reversed(range(steps)):
            by_output = by_hidden_KSBH[:, t]
            if t + 1 < steps:
                by_output = torch.baddbmm(by_output, by_gates_KSBG[:, t + 1], weight_KGH)
                by_cell.mul_(forget[:, t + 1])
            by_cell.addcmul_(by_output, to_cell_KSBH[:, t])
            torch.mul(by_cell.unsqueeze(2), slopes[:, t, :, :3], out=by_gates[:, t, :, :3])
            torch.mul(by_output, slopes[:, t, :, 3], out=by_gates[:, t, :, 3])
        later_KNG, earlier_KNH = by_gates_KSBG[:, 1:].flatten(1, 2), hidden_KSBH[:, :-1].flatten(1, 2)
        return by_gates_KSBG, torch.bmm(later_KNG.mT, earlier_KNH)
