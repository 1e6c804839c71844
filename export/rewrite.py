"""The network in fewer operations: the same function, rearranged before it is traced. Nothing is approximated.

- The mean over S after cross-attention (Eq. 17) commutes with the output projection and with the weighted sum
  of values, so the attention weights are averaged over the queries and values are projected for one vector a head.
- With one token a softmax is 1: attention of the pooled fusion is its value and output projections.
- Linear layers that share an input become one, and the 1/√W of attention moves into the query weights.

Shapes: B batch, S and T time steps, D width of a token, H heads, W width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepain.train.models import Attention, CrossFusion, CrossModTransformer, Encoder, UnimodalStream


class LeanNetwork(nn.Module):
    """Scaled windows [B, M, S] to logits [B, K], equal to `network` up to rounding. Shares its weights."""

    def __init__(self, network: CrossModTransformer) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_BMS: Tensor) -> Tensor:
        crossmod = self.network.crossmod
        features = []
        for m, stream in enumerate(self.network.streams.values()):
            assert isinstance(stream, UnimodalStream)
            x_B1S = x_BMS[:, m : m + 1]
            tokens_fcn, _ = stream.fcn(x_B1S)
            tokens_alstm, _ = stream.alstm(x_B1S)
            block = stream.transformer
            if crossmod.pooled:
                features.append(block.fc(_mean_fused(block.fusion, tokens_fcn, tokens_alstm)))
            else:
                features.append(_fused(block.fusion, tokens_fcn, tokens_alstm))
        fused = (_fused_single if crossmod.pooled else _mean_fused)(crossmod.fusion, *features)
        logits_BK: Tensor = crossmod.classify(crossmod.fc(fused))
        return logits_BK


def _fused(fusion: CrossFusion, a_BSD: Tensor, b_BSD: Tensor) -> Tensor:
    """`CrossFusion` as it is: [B, S, 2D]."""
    a_BSD, b_BSD = _encoded(fusion.encoder_a, a_BSD), _encoded(fusion.encoder_b, b_BSD)
    cross_a, cross_b = fusion.cross_a, fusion.cross_b
    query_a, key_b, value_b = _joined(cross_a, [cross_b.key, cross_b.value], a_BSD)
    query_b, key_a, value_a = _joined(cross_b, [cross_a.key, cross_a.value], b_BSD)
    return torch.cat([_attended(cross_a, query_a, key_a, value_a), _attended(cross_b, query_b, key_b, value_b)], dim=2)


def _mean_fused(fusion: CrossFusion, a_BSD: Tensor, b_BSD: Tensor) -> Tensor:
    """`CrossFusion` and the mean over S after it: [B, 2D]."""
    a_BSD, b_BSD = _encoded(fusion.encoder_a, a_BSD), _encoded(fusion.encoder_b, b_BSD)
    cross_a, cross_b = fusion.cross_a, fusion.cross_b
    query_a, key_b = _joined(cross_a, [cross_b.key], a_BSD)
    query_b, key_a = _joined(cross_b, [cross_a.key], b_BSD)
    return torch.cat(
        [_mean_attended(cross_a, query_a, key_a, b_BSD), _mean_attended(cross_b, query_b, key_b, a_BSD)], dim=1
    )


def _fused_single(fusion: CrossFusion, a_BD: Tensor, b_BD: Tensor) -> Tensor:
    """`CrossFusion` of sequences of one token: [B, 2D]."""

    def attended(attention: Attention, memory: Tensor) -> Tensor:
        result: Tensor = attention.out(attention.value(memory))
        return result

    a_BD = _after_attention(fusion.encoder_a, a_BD, attended(fusion.encoder_a.attention, a_BD))
    b_BD = _after_attention(fusion.encoder_b, b_BD, attended(fusion.encoder_b.attention, b_BD))
    return torch.cat([attended(fusion.cross_a, b_BD), attended(fusion.cross_b, a_BD)], dim=1)


def _encoded(encoder: Encoder, x_BSD: Tensor) -> Tensor:
    attention = encoder.attention
    query, key, value = _joined(attention, [attention.key, attention.value], x_BSD)
    return _after_attention(encoder, x_BSD, _attended(attention, query, key, value))


def _after_attention(encoder: Encoder, x: Tensor, attended: Tensor) -> Tensor:
    x = encoder.norm1(x + attended)
    encoded: Tensor = encoder.norm2(x + encoder.feed_forward(x))
    return encoded


def _attended(attention: Attention, query_BSD: Tensor, key_BTD: Tensor, value_BTD: Tensor) -> Tensor:
    heads = attention.heads
    weights_BHST = torch.softmax(_split(query_BSD, heads) @ _split(key_BTD, heads).transpose(2, 3), dim=3)
    mixed_BHSW = weights_BHST @ _split(value_BTD, heads)
    joined_BSD: Tensor = attention.out(mixed_BHSW.transpose(1, 2).flatten(2))
    return joined_BSD


def _mean_attended(attention: Attention, query_BSD: Tensor, key_BTD: Tensor, memory_BTD: Tensor) -> Tensor:
    heads = attention.heads
    weights_BHST = torch.softmax(_split(query_BSD, heads) @ _split(key_BTD, heads).transpose(2, 3), dim=3)
    mixed_BHD = weights_BHST.mean(dim=2) @ memory_BTD
    # Every head's mixture is projected by all heads' weights, and the block of its own head is kept: eight
    # times the work of a batched product, still little, and the weights stay one plain matrix.
    values_BHHW = attention.value(mixed_BHD).unflatten(2, (heads, -1))
    own_head = torch.eye(heads, dtype=values_BHHW.dtype)[None, :, :, None]
    joined_BD: Tensor = attention.out((values_BHHW * own_head).sum(dim=1).flatten(1))
    return joined_BD


def _split(x_BSD: Tensor, heads: int) -> Tensor:
    batch, steps, width = x_BSD.shape
    return x_BSD.reshape(batch, steps, heads, width // heads).transpose(1, 2)


def _joined(attention: Attention, others: Sequence[nn.Linear], x: Tensor) -> tuple[Tensor, ...]:
    """The queries of `attention`, divided by √W, and what `others` make of the same input."""
    scale = 1 / math.sqrt(attention.query.out_features // attention.heads)
    weight = torch.cat([attention.query.weight * scale, *(layer.weight for layer in others)])
    bias = torch.cat([attention.query.bias * scale, *(layer.bias for layer in others)])
    return functional.linear(x, weight, bias).chunk(1 + len(others), dim=-1)
