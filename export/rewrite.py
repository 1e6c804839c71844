"""The network in fewer operations: the same function, rearranged before it is traced. Nothing is approximated.

- The mean over S after cross-attention (Eq. 17) commutes with the output projection and with the weighted sum
  of values, so the attention weights are averaged over the queries and values are projected for one vector a head.
- With one token a softmax is 1: attention of the pooled fusion is its value and output projections.
- Linear layers that share an input become one, and the 1/√W of attention moves into the query weights.
- One window at a time: without the axis of the batch, runtimes fold the transpositions of heads into the products.

Shapes: S and T time steps, D width of a token, H heads, W width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepain.train.models import Attention, CrossFusion, CrossModTransformer, Encoder, UnimodalStream


class LeanNetwork(nn.Module):
    """A scaled window [1, M, S] to logits [1, K], equal to `network` up to rounding. Shares its weights."""

    def __init__(self, network: CrossModTransformer) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_1MS: Tensor) -> Tensor:
        crossmod = self.network.crossmod
        features = []
        for m, stream in enumerate(self.network.streams.values()):
            assert isinstance(stream, UnimodalStream)
            x_11S = x_1MS[:, m : m + 1]
            tokens_fcn, _ = stream.fcn(x_11S)
            tokens_alstm, _ = stream.alstm(x_11S)
            block, tokens = stream.transformer, (tokens_fcn.squeeze(0), tokens_alstm.squeeze(0))
            features.append(
                block.fc(_mean_fused(block.fusion, *tokens)) if crossmod.pooled else _fused(block.fusion, *tokens)
            )
        fused_1E = (_fused_single if crossmod.pooled else _mean_fused)(crossmod.fusion, *features)
        logits_1K: Tensor = crossmod.classify(crossmod.fc(fused_1E))
        return logits_1K


def _fused(fusion: CrossFusion, a_SD: Tensor, b_SD: Tensor) -> Tensor:
    """`CrossFusion` as it is: [S, 2D]."""
    a_SD, b_SD = _encoded(fusion.encoder_a, a_SD), _encoded(fusion.encoder_b, b_SD)
    cross_a, cross_b = fusion.cross_a, fusion.cross_b
    query_a, key_b, value_b = _joined(cross_a, [cross_b.key, cross_b.value], a_SD)
    query_b, key_a, value_a = _joined(cross_b, [cross_a.key, cross_a.value], b_SD)
    return torch.cat([_attended(cross_a, query_a, key_a, value_a), _attended(cross_b, query_b, key_b, value_b)], dim=1)


def _mean_fused(fusion: CrossFusion, a_SD: Tensor, b_SD: Tensor) -> Tensor:
    """`CrossFusion` and the mean over S after it: [1, 2D]."""
    a_SD, b_SD = _encoded(fusion.encoder_a, a_SD), _encoded(fusion.encoder_b, b_SD)
    cross_a, cross_b = fusion.cross_a, fusion.cross_b
    query_a, key_b = _joined(cross_a, [cross_b.key], a_SD)
    query_b, key_a = _joined(cross_b, [cross_a.key], b_SD)
    return torch.cat(
        [_mean_attended(cross_a, query_a, key_a, b_SD), _mean_attended(cross_b, query_b, key_b, a_SD)], dim=1
    )


def _fused_single(fusion: CrossFusion, a_1D: Tensor, b_1D: Tensor) -> Tensor:
    """`CrossFusion` of sequences of one token: [1, 2D]."""

    def attended(attention: Attention, memory: Tensor) -> Tensor:
        result: Tensor = attention.out(attention.value(memory))
        return result

    a_1D = _after_attention(fusion.encoder_a, a_1D, attended(fusion.encoder_a.attention, a_1D))
    b_1D = _after_attention(fusion.encoder_b, b_1D, attended(fusion.encoder_b.attention, b_1D))
    return torch.cat([attended(fusion.cross_a, b_1D), attended(fusion.cross_b, a_1D)], dim=1)


def _encoded(encoder: Encoder, x_SD: Tensor) -> Tensor:
    attention = encoder.attention
    query, key, value = _joined(attention, [attention.key, attention.value], x_SD)
    return _after_attention(encoder, x_SD, _attended(attention, query, key, value))


def _after_attention(encoder: Encoder, x: Tensor, attended: Tensor) -> Tensor:
    x = encoder.norm1(x + attended)
    encoded: Tensor = encoder.norm2(x + encoder.feed_forward(x))
    return encoded


def _attended(attention: Attention, query_SD: Tensor, key_TD: Tensor, value_TD: Tensor) -> Tensor:
    mixed_HSW = _weights(attention, query_SD, key_TD) @ _split(value_TD, attention.heads)
    joined_SD: Tensor = attention.out(mixed_HSW.transpose(0, 1).flatten(1))
    return joined_SD


def _mean_attended(attention: Attention, query_SD: Tensor, key_TD: Tensor, memory_TD: Tensor) -> Tensor:
    heads = attention.heads
    mixed_HD = _weights(attention, query_SD, key_TD).mean(dim=1) @ memory_TD
    # Every head's mixture is projected by all heads' weights, and the block of its own head is kept: eight
    # times the work of a batched product, still little, and the weights stay one plain matrix.
    values_HHW = attention.value(mixed_HD).unflatten(1, (heads, -1))
    own_head = torch.eye(heads, dtype=values_HHW.dtype)[:, :, None]
    joined_1D: Tensor = attention.out((values_HHW * own_head).sum(dim=0, keepdim=True).flatten(1))
    return joined_1D


def _weights(attention: Attention, query_SD: Tensor, key_TD: Tensor) -> Tensor:
    """The softmax of Eq. 12, [H, S, T]."""
    return torch.softmax(_split(query_SD, attention.heads) @ _split(key_TD, attention.heads).transpose(1, 2), dim=2)


def _split(x_SD: Tensor, heads: int) -> Tensor:
    return x_SD.reshape(len(x_SD), heads, -1).transpose(0, 1)


def _joined(attention: Attention, others: Sequence[nn.Linear], x: Tensor) -> tuple[Tensor, ...]:
    """The queries of `attention`, divided by √W, and what `others` make of the same input."""
    scale = 1 / math.sqrt(attention.query.out_features // attention.heads)
    weight = torch.cat([attention.query.weight * scale, *(layer.weight for layer in others)])
    bias = torch.cat([attention.query.bias * scale, *(layer.bias for layer in others)])
    return functional.linear(x, weight, bias).chunk(1 + len(others), dim=-1)
