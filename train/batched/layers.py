"""Layers of K networks of one kind at once: every weight has K in front, every product is one batched product.

The mathematics of `edgepain.train.models` in training mode, where folds need not be equally long: a window that is
only there to fill the batch up counts in no statistic, and where a fold has no window left in an epoch, its
statistics stay. A grouped convolution would be the same; as a batched product over unfolded pieces it takes the same
fast path as everything else.

Shapes: K networks, B windows of each, S and T time steps, C and D features, I inputs, O outputs, N = anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

NORM = nn.BatchNorm1d(1)


@dataclass(frozen=True)
class Weights:
    """Stacked weights and buffers [K, …] by the names of a state dict, those of one layer or block."""

    tensors: Mapping[str, Tensor]
    prefix: str = ""

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[self.prefix + name]

    def part(self, name: str) -> Weights:
        """Those of a layer within."""
        return Weights(self.tensors, f"{self.prefix}{name}.")


@dataclass(frozen=True)
class Step:
    """What layers need to know of a training step.

    mask_KB: 1 for windows that count, else 0. products: what convolutions, linear layers and attention multiply in.
    """

    mask_KB: Tensor
    dropout: float
    products: torch.dtype

    def drop(self, x: Tensor) -> Tensor:
        """Dropout."""
        return functional.dropout(x, self.dropout)


def product(x_KNI: Tensor, weight_KOI: Tensor, bias_KO: Tensor, dtype: torch.dtype) -> Tensor:
    """Each network's linear layer, [K, N, O], in `dtype`."""
    return torch.baddbmm(bias_KO.unsqueeze(1).to(dtype), x_KNI.to(dtype), weight_KOI.mT.to(dtype))


def linear(weights: Weights, x: Tensor, step: Step) -> Tensor:
    """`nn.Linear` of [K, …, I]."""
    result = product(x.flatten(1, -2), weights["weight"], weights["bias"], step.products)
    return result.view(*x.shape[:-1], -1)


def convolution(weights: Weights, x_KBSI: Tensor, padding: tuple[int, int], step: Step) -> Tensor:
    """`nn.Conv1d` over S, padded by zeros on both sides: [K, B, S, O]."""
    kernel = weights["weight"]
    padded = functional.pad(x_KBSI.to(step.products), (0, 0, *padding))
    pieces_KNI = padded.unfold(2, kernel.shape[3], 1).reshape(len(x_KBSI), -1, kernel.shape[2] * kernel.shape[3])
    result = product(pieces_KNI, kernel.flatten(2), weights["bias"], step.products)
    return result.view(*x_KBSI.shape[:3], -1)


def batch_norm(weights: Weights, x_KBSC: Tensor, step: Step) -> Tensor:
    """`nn.BatchNorm1d` over B and S, each network for itself; moves its running statistics.

    A window's own statistics are put together, so that the mask meets small tensors only.
    """
    x_KBSC = x_KBSC.to(weights["weight"].dtype)
    mask_KB1 = step.mask_KB.unsqueeze(2)
    windows_K1 = step.mask_KB.sum(1, keepdim=True).clamp(min=1)
    variances_KBC, means_KBC = torch.var_mean(x_KBSC, dim=2, correction=0)
    mean_KC = (means_KBC * mask_KB1).sum(1) / windows_K1
    spread_KBC = variances_KBC + (means_KBC - mean_KC.unsqueeze(1)).square()
    variance_KC = (spread_KBC * mask_KB1).sum(1) / windows_K1
    _move_running(weights, mean_KC, variance_KC, windows_K1 * x_KBSC.shape[2], step)
    scale_KC = weights["weight"] * torch.rsqrt(variance_KC + NORM.eps)
    shift_KC = weights["bias"] - mean_KC * scale_KC
    return torch.addcmul(shift_KC[:, None, None], x_KBSC, scale_KC[:, None, None])


@torch.no_grad()
def _move_running(weights: Weights, mean_KC: Tensor, variance_KC: Tensor, count_K1: Tensor, step: Step) -> None:
    assert NORM.momentum is not None
    taking_part_K1 = step.mask_KB.amax(1, keepdim=True)
    unbiased_KC = variance_KC * (count_K1 / (count_K1 - 1).clamp(min=1))
    weights["running_mean"].lerp_(mean_KC, NORM.momentum * taking_part_K1)
    weights["running_var"].lerp_(unbiased_KC, NORM.momentum * taking_part_K1)
    weights["num_batches_tracked"].add_(taking_part_K1[:, 0].long())


def layer_norm(weights: Weights, x_KBSD: Tensor) -> Tensor:
    """`nn.LayerNorm` over D."""
    normalised = functional.layer_norm(x_KBSD, x_KBSD.shape[-1:])
    return torch.addcmul(weights["bias"][:, None, None], normalised, weights["weight"][:, None, None])


def attention(
    weights: Weights, query_KBSD: Tensor, memory_KBTD: Tensor, heads: int, step: Step, mean: bool = False
) -> Tensor:
    """`Attention` of the models, [K, B, S, D]. mean: over S, [K, B, D]; the output projection is linear."""

    def split(name: str, x_KBSD: Tensor) -> Tensor:
        projected_NSD = linear(weights.part(name), x_KBSD, step).flatten(0, 1)
        return projected_NSD.view(*projected_NSD.shape[:2], heads, -1).transpose(1, 2)

    mixed_NHSW = functional.scaled_dot_product_attention(
        split("query", query_KBSD), split("key", memory_KBTD), split("value", memory_KBTD)
    )
    mixed_KBSD = mixed_NHSW.transpose(1, 2).reshape(query_KBSD.shape)
    return linear(weights.part("out"), mixed_KBSD.mean(dim=2) if mean else mixed_KBSD, step)
