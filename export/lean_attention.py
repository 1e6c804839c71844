"""Attention blocks in fewer operations, exactly. `edgepain.export.rewrite` says which and why.

Shapes: S and T time steps, D width of a token, H heads, W width of a head, K width of what follows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepain.train.models import Attention, CrossFusion, Encoder

# fp32 holds exp(88) and, with all its digits, exp(-87); between, there is room for sums over thousands of steps.
MAX_EXPONENT = 70.0

Powers: TypeAlias = tuple[Attention, ...]


def fused(fusion: CrossFusion, a_SD: Tensor, b_SD: Tensor, powers: Powers) -> Tensor:
    """`CrossFusion` as it is: [S, 2D]. powers: see `scores_that_fit_exp`."""
    a_SD, b_SD = _encoded(fusion.encoder_a, a_SD, powers), _encoded(fusion.encoder_b, b_SD, powers)
    attended = _attended(fusion.cross_a, a_SD, b_SD, powers), _attended(fusion.cross_b, b_SD, a_SD, powers)
    return torch.cat(attended, dim=1)


def mean_fused(fusion: CrossFusion, a_SD: Tensor, b_SD: Tensor, fc: nn.Sequential, powers: Powers) -> Tensor:
    """`CrossFusion`, the mean over S, and the layers `fc`: [1, K]. powers: see `scores_that_fit_exp`."""
    a_SD, b_SD = _encoded(fusion.encoder_a, a_SD, powers), _encoded(fusion.encoder_b, b_SD, powers)
    cross_a, cross_b = fusion.cross_a, fusion.cross_b
    mixed_a_HD = _mean_weights(cross_a, a_SD, b_SD, powers) @ b_SD
    mixed_b_HD = _mean_weights(cross_b, b_SD, a_SD, powers) @ a_SD
    # Every head's mixture is projected by all heads' weights, and the block of its own head is kept: eight
    # times the work of a batched product, still little, and the weights stay one plain matrix.
    values_HE = torch.cat([cross_a.value(mixed_a_HD), cross_b.value(mixed_b_HD)], dim=1)
    own_head_HE = torch.eye(cross_a.heads).repeat_interleave(a_SD.shape[1] // cross_a.heads, dim=1).repeat(1, 2)
    values_1E = (values_HE * own_head_HE).sum(dim=0, keepdim=True)
    return _through(values_1E, [(cross.out.weight, cross.out.bias) for cross in (cross_a, cross_b)], fc)


def fused_single(fusion: CrossFusion, a_1D: Tensor, b_1D: Tensor, fc: nn.Sequential) -> Tensor:
    """`CrossFusion` of sequences of one token, and the layers `fc`: [1, K]."""
    a_1D, b_1D = _encoded_single(fusion.encoder_a, a_1D), _encoded_single(fusion.encoder_b, b_1D)
    values = [_in_one(cross.value, cross.out) for cross in (fusion.cross_a, fusion.cross_b)]
    return _through(torch.cat([b_1D, a_1D], dim=1), values, fc)


def scores_that_fit_exp(fusion: CrossFusion, *, small_b: bool) -> Powers:
    """Attentions in which no input can make a score so large that its exponential leaves fp32.

    A layer norm gives γn + β with |n| ≤ √D, so a query Q(γn + β) + b is no longer than ‖Qγ‖ √D + |Qβ + b|, nor a key.
    small_b: the second sequence holds nothing beyond ±1, as if it came from a layer norm with γ = 1 and β = 0.
    """
    a, b = fusion.encoder_a.norm2, fusion.encoder_b.norm2
    bounded = [(fusion.cross_a, a, b), (fusion.cross_b, b, a)]
    if small_b:
        plain = nn.LayerNorm(len(b.weight))
        bounded.append((fusion.encoder_b.attention, plain, plain))
    return tuple(attention for attention, *norms in bounded if _largest_score(attention, *norms) <= MAX_EXPONENT)


@torch.no_grad()
def _largest_score(attention: Attention, query_norm: nn.LayerNorm, key_norm: nn.LayerNorm) -> float:
    lengths = []
    for layer, norm in ((attention.query, query_norm), (attention.key, key_norm)):
        weight_HWD = layer.weight.reshape(attention.heads, -1, len(norm.weight))
        shift_HW = layer(norm.bias).reshape(attention.heads, -1)
        stretch_H = torch.linalg.matrix_norm(weight_HWD * norm.weight, 2)
        lengths.append(stretch_H * math.sqrt(len(norm.weight)) + shift_HW.norm(dim=1))
    return float((lengths[0] * lengths[1]).max()) / math.sqrt(len(attention.query.weight) // attention.heads)


def _encoded(encoder: Encoder, x_SD: Tensor, powers: Powers) -> Tensor:
    return _after_attention(encoder, x_SD, _attended(encoder.attention, x_SD, x_SD, powers))


def _encoded_single(encoder: Encoder, x_1D: Tensor) -> Tensor:
    weight, bias = _in_one(encoder.attention.value, encoder.attention.out)
    return _after_attention(encoder, x_1D, functional.linear(x_1D, weight, bias))


def _after_attention(encoder: Encoder, x: Tensor, attended: Tensor) -> Tensor:
    x = encoder.norm1(x + attended)
    encoded: Tensor = encoder.norm2(x + encoder.feed_forward(x))
    return encoded


def _attended(attention: Attention, query_SD: Tensor, memory_TD: Tensor, powers: Powers) -> Tensor:
    scores_HST = _scores(attention, query_SD, memory_TD)
    value_HTW = _split(attention.value(memory_TD), attention.heads).transpose(0, 1)
    if attention in powers:
        powers_HST = scores_HST.exp()
        mixed_HSW = powers_HST @ value_HTW / powers_HST.sum(dim=2, keepdim=True)
    else:
        mixed_HSW = torch.softmax(scores_HST, dim=2) @ value_HTW
    joined_SD: Tensor = attention.out(mixed_HSW.transpose(0, 1).flatten(1))
    return joined_SD


def _mean_weights(attention: Attention, query_SD: Tensor, memory_TD: Tensor, powers: Powers) -> Tensor:
    """The softmax of Eq. 12, averaged over the queries: [H, T]."""
    scores_HST = _scores(attention, query_SD, memory_TD)
    if attention not in powers:
        return torch.softmax(scores_HST, dim=2).mean(dim=1)
    powers_HST = scores_HST.exp()
    shares_HS = torch.tensor(1 / len(query_SD)) / powers_HST.sum(dim=2)
    return (shares_HS.unsqueeze(1) @ powers_HST).squeeze(1)


def _scores(attention: Attention, query_SD: Tensor, memory_TD: Tensor) -> Tensor:
    """Queries times keys, divided by √W, [H, S, T]."""
    query, heads = attention.query, attention.heads
    scale = 1 / math.sqrt(query.out_features // heads)
    query_SHW = _split(functional.linear(query_SD, query.weight * scale, query.bias * scale), heads)
    return query_SHW.transpose(0, 1) @ _split(attention.key(memory_TD), heads).permute(1, 2, 0)


def _split(x_SD: Tensor, heads: int) -> Tensor:
    """[S, H, W]."""
    return x_SD.reshape(len(x_SD), heads, -1)


def _in_one(first: nn.Linear, second: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias of two linear layers, one right after the other."""
    return second.weight @ first.weight, functional.linear(first.bias, second.weight, second.bias)


def _through(x_1E: Tensor, layers: Sequence[tuple[Tensor, Tensor]], fc: nn.Sequential) -> Tensor:
    """A layer (weight, bias) for each part of `x_1E`, side by side, and `fc` behind them, its first layer in theirs."""
    first, rest = fc[0], fc[1:]
    assert isinstance(first, nn.Linear)
    width = first.in_features // len(layers)
    parts = [first.weight[:, i * width : (i + 1) * width] @ weight for i, (weight, _) in enumerate(layers)]
    bias = functional.linear(torch.cat([bias for _, bias in layers]), first.weight, first.bias)
    result: Tensor = rest(functional.linear(x_1E, torch.cat(parts, dim=1), bias))
    return result
