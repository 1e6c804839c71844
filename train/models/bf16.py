"""What the blocks do otherwise while they train in bfloat16 on a CPU: the same mathematics, laid out for its kernels.

A block trains so inside `torch.autocast("cpu", torch.bfloat16)`; weights, statistics, loss and optimizer stay float32.
Dropout draws 16 random bits an element where torch draws a float: what is kept is kept with a probability that is
a multiple of 1/65536 (0.8 becomes 52429/65536), and divided by exactly that one.

Shapes: B batch, C channels, 1 height, S time steps, K kernel; kept in memory as [B, 1, S, C] (channels last).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


def trains_in_bf16(module: nn.Module) -> bool:
    """Whether this module is in training mode, inside bfloat16 autocast on a CPU."""
    return module.training and torch.is_autocast_enabled("cpu")


def factor(module: nn.Module, x: Tensor) -> Tensor:
    """What goes into several products, rounded once, where autocast would round it for each of them."""
    return x.bfloat16() if trains_in_bf16(module) else x


def keep_probability(dropout: float) -> float:
    """1 − dropout as a multiple of 1/65536, and never 0."""
    return float(max(1, round((1 - dropout) * 65536)) / 65536)


def keep_bits(shape: torch.Size, keep: float) -> Tensor:
    """int16 of this shape: all bits set with probability `keep` (of `keep_probability`), else none."""
    count = math.prod(shape)
    if keep == 1:
        return torch.full(shape, -1, dtype=torch.int16)
    seed = int(torch.randint(2**63 - 1, ()))
    words = np.random.SFC64(seed).random_raw(-(-count // 4))
    bits = torch.from_numpy(words).view(torch.int16)[:count]
    first_dropped = round(keep * 65536) - 32768
    return bits.clamp_(first_dropped - 1, first_dropped).sub_(first_dropped).view(shape)


class _ReluDropout(torch.autograd.Function):
    """ReLU, then dropout without its scale, in place. The result itself says which elements pass gradients."""

    @staticmethod
    def forward(ctx: Any, x_BC1S: Tensor, keep: float) -> Tensor:
        bits_B1SC = keep_bits(x_BC1S.permute(0, 2, 3, 1).shape, keep)
        x_BC1S.relu_().view(torch.int16).bitwise_and_(bits_B1SC.permute(0, 3, 1, 2))
        ctx.mark_dirty(x_BC1S)
        ctx.save_for_backward(x_BC1S)
        return x_BC1S

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (y_BC1S,) = ctx.saved_tensors
        # The bits of a float above 0 are an integer above 0: −1 there, else 0.
        passing_BC1S = y_BC1S.view(torch.int16).clamp(0, 1).neg_()
        return passing_BC1S.bitwise_and_(gradients[0].view(torch.int16)).view(torch.bfloat16), None


class _Dropout(torch.autograd.Function):
    """Dropout of bfloat16."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: float) -> Tensor:
        bits = keep_bits(x.shape, keep)
        ctx.save_for_backward(bits)
        ctx.keep = keep
        return _kept(x, bits, keep)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _kept(gradients[0], ctx.saved_tensors[0], ctx.keep), None


def _kept(x: Tensor, bits: Tensor, keep: float) -> Tensor:
    result = x / keep
    result.view(torch.int16).bitwise_and_(bits)
    return result


class Dropout(nn.Dropout):
    """torch's dropout, and a faster one for bfloat16 in training."""

    def forward(self, x: Tensor) -> Tensor:
        if trains_in_bf16(self) and x.dtype == torch.bfloat16:
            dropped: Tensor = _Dropout.apply(x, keep_probability(self.p))  # type: ignore[no-untyped-call]
            return dropped
        return super().forward(x)


def normalised(x_BC1S: Tensor, norm: nn.BatchNorm1d, dropout: float) -> Tensor:
    """Batch norm over B and S, ReLU and dropout, of bfloat16. The scale of the dropout goes into the norm."""
    keep = keep_probability(dropout)
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    norm.num_batches_tracked.add_(1)
    scaled_BC1S = functional.batch_norm(
        x_BC1S,
        norm.running_mean,
        norm.running_var,
        norm.weight / keep,
        norm.bias / keep,
        training=True,
        momentum=norm.momentum,
        eps=norm.eps,
    )
    y_BC1S: Tensor = _ReluDropout.apply(scaled_BC1S, keep)  # type: ignore[no-untyped-call]
    return y_BC1S


def convolved(x_BC1S: Tensor, convolution: nn.Conv1d) -> Tensor:
    """A convolution that gives channels last. Batch norm follows, so its bias has no gradient."""
    bias = None if convolution.bias is None else convolution.bias.detach()
    if convolution.in_channels == 1:
        # Channels last means nothing to the kernels with one channel: a product of all pieces with the weights.
        pieces_B1SK = x_BC1S[:, 0].unfold(2, convolution.kernel_size[0], convolution.stride[0])
        return functional.linear(pieces_B1SK, convolution.weight[:, 0], bias).permute(0, 3, 1, 2)
    padding = convolution.padding[0]
    assert isinstance(padding, int)
    weight = convolution.weight.unsqueeze(2).contiguous(memory_format=torch.channels_last)
    return functional.conv2d(x_BC1S, weight, bias, padding=(0, padding))
