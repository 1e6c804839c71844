"""Multi-head attention in bfloat16 on a CPU, a few windows at a time, so that their scores stay in the cache.

torch's own kernel keeps no scores, but its backward pass in bfloat16 takes five times as long as the one in float32.

Shapes: B batch, S and T time steps, D width of a token, H heads, W width of a head, N = windows of a chunk × H.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

CHUNK_WINDOWS = 4
LN_2 = math.log(2)


def powers_scale(head_width: int) -> float:
    """What turns query times key into exponents of 2, for which the softmax of Eq. 12 asks."""
    return math.log2(math.e) / math.sqrt(head_width)


class _Attention(torch.autograd.Function):
    """Softmax of Eq. 12 times the values. Powers of 2 take a quarter of the time of powers of e."""

    @staticmethod
    def forward(ctx: Any, query_BSD: Tensor, key_BTD: Tensor, value_BTD: Tensor, heads: int) -> Tensor:
        joined_BSD = torch.empty_like(query_BSD)
        kept = []
        scores = query_BSD.new_empty(
            min(CHUNK_WINDOWS, len(query_BSD)) * heads, query_BSD.shape[1], key_BTD.shape[1], dtype=torch.float32
        )
        chunks = [torch.split(x, CHUNK_WINDOWS) for x in (query_BSD, key_BTD, value_BTD, joined_BSD)]
        for query, key, value, joined in zip(*chunks, strict=True):
            query_NSW, key_NTW, value_NTW = (_split(x, heads) for x in (query, key, value))
            scores_NST = scores[: len(query_NSW)].copy_(torch.bmm(query_NSW, key_NTW.mT))
            scores_NST.sub_(scores_NST.amax(2, keepdim=True)).exp2_()
            sums_NS1 = scores_NST.sum(2, keepdim=True)
            powers_NST = scores_NST.to(torch.bfloat16)
            _join(torch.bmm(powers_NST, value_NTW) / sums_NS1, joined, heads)
            kept += [powers_NST, sums_NS1]
        ctx.save_for_backward(query_BSD, key_BTD, value_BTD, joined_BSD, *kept)
        ctx.heads = heads
        return joined_BSD

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query_BSD, key_BTD, value_BTD, joined_BSD, *kept = ctx.saved_tensors
        heads = ctx.heads
        results = [torch.empty_like(x) for x in (query_BSD, key_BTD, value_BTD)]
        tensors = (gradients[0], joined_BSD, query_BSD, key_BTD, value_BTD, *results)
        chunks = [torch.split(x, CHUNK_WINDOWS) for x in tensors]
        for powers_NST, sums_NS1, *parts in zip(kept[::2], kept[1::2], *chunks, strict=True):
            gradient_NSW, joined_NSW, query_NSW, key_NTW, value_NTW = (_split(x, heads) for x in parts[:5])
            gradient_NSW = (gradient_NSW / sums_NS1).to(torch.bfloat16)
            mean_NS1 = (gradient_NSW * joined_NSW).sum(2, keepdim=True)
            # The mean is subtracted by the product itself, as one more column.
            ones_NT1 = torch.ones_like(value_NTW[:, :, :1])
            scores_NST = torch.bmm(
                torch.cat([gradient_NSW, -mean_NS1], dim=2), torch.cat([value_NTW, ones_NT1], dim=2).mT
            ).mul_(powers_NST)
            _join(torch.bmm(scores_NST, key_NTW).mul_(LN_2), parts[5], heads)
            _join(torch.bmm(scores_NST.mT, query_NSW).mul_(LN_2), parts[6], heads)
            _join(torch.bmm(powers_NST.mT, gradient_NSW), parts[7], heads)
        return results[0], results[1], results[2], None


def attention_in_bf16(query_BSD: Tensor, key_BTD: Tensor, value_BTD: Tensor, heads: int) -> Tensor:
    """The heads' attention over projected bfloat16 tokens, side by side [B, S, D]. The query holds `powers_scale`."""
    joined_BSD: Tensor = _Attention.apply(query_BSD, key_BTD, value_BTD, heads)  # type: ignore[no-untyped-call]
    return joined_BSD


def _split(x_BSD: Tensor, heads: int) -> Tensor:
    batch, steps, width = x_BSD.shape
    return x_BSD.view(batch, steps, heads, width // heads).transpose(1, 2).reshape(batch * heads, steps, -1)


def _join(x_NSW: Tensor, into_BSD: Tensor, heads: int) -> None:
    batch, steps, _ = into_BSD.shape
    into_BSD.view(batch, steps, heads, -1).copy_(x_NSW.view(batch, heads, steps, -1).transpose(1, 2))
