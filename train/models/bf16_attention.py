"""Multi-head attention in bfloat16 on a CPU, a few windows at a time, so that their scores stay in the cache.

torch's own kernel keeps no scores, but its backward pass in bfloat16 takes five times as long as the one in float32.

Shapes: B batch, S and T time steps, D width of a token, H heads, W width of a head, N = B × H, C of them in a chunk,
X = W + 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
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
    def forward(ctx: Any, query_NSW: Tensor, key_NTW: Tensor, value_NTW: Tensor, chunk: int) -> Tensor:
        mixed_NSW = torch.empty_like(query_NSW)
        sums_NS1 = query_NSW.new_empty(*query_NSW.shape[:2], 1, dtype=torch.float32)
        scores = sums_NS1.new_empty(min(chunk, len(query_NSW)), query_NSW.shape[1], key_NTW.shape[1])
        kept = []
        for query, key, value, mixed, sums in _chunks(chunk, query_NSW, key_NTW, value_NTW, mixed_NSW, sums_NS1):
            scores_CST = scores[: len(query)].copy_(torch.bmm(query, key.mT))
            scores_CST.sub_(scores_CST.amax(2, keepdim=True)).exp2_()
            torch.sum(scores_CST, 2, keepdim=True, out=sums)
            powers_CST = scores_CST.to(torch.bfloat16)
            torch.bmm(powers_CST, value, out=mixed)
            kept.append(powers_CST)
        mixed_NSW.div_(sums_NS1)
        ctx.save_for_backward(query_NSW, key_NTW, value_NTW, mixed_NSW, sums_NS1, *kept)
        ctx.chunk = chunk
        return mixed_NSW

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query_NSW, key_NTW, value_NTW, mixed_NSW, sums_NS1, *kept = ctx.saved_tensors
        results = [torch.empty_like(x) for x in (query_NSW, key_NTW, value_NTW)]
        gradient_NSW = (gradients[0] / sums_NS1).to(torch.bfloat16)
        # The mean is subtracted by the product itself, as one more column.
        mean_NS1 = (gradient_NSW * mixed_NSW).sum(2, keepdim=True)
        gradient_NSX = torch.cat([gradient_NSW, -mean_NS1], dim=2)
        value_NTX = torch.cat([value_NTW, torch.ones_like(value_NTW[:, :, :1])], dim=2)
        tensors = (gradient_NSX, value_NTX, gradient_NSW, query_NSW, key_NTW, *results)
        for powers_CST, (left, right, gradient, query, key, *into) in zip(
            kept, _chunks(ctx.chunk, *tensors), strict=True
        ):
            scores_CST = torch.bmm(left, right.mT).mul_(powers_CST)
            torch.bmm(scores_CST, key, out=into[0])
            torch.bmm(scores_CST.mT, query, out=into[1])
            torch.bmm(powers_CST.mT, gradient, out=into[2])
        return results[0].mul_(LN_2), results[1].mul_(LN_2), results[2], None


class _MeanWeights(torch.autograd.Function):
    """The softmax of Eq. 12, averaged over the queries: [N, 1, T] in float32.

    Its backward pass needs no gradient of the scores: with A the softmax, g the gradient and r = A g, the query's is
    (Σ A g k − r Σ A k) / S over t and the key's (g Σ A q − Σ A r q) / S over s, two products of narrow matrices.
    """

    @staticmethod
    def forward(ctx: Any, query_NWS: Tensor, key_NWT: Tensor, chunk: int) -> Tensor:
        count, _, steps = query_NWS.shape
        mean_N1T = query_NWS.new_empty(count, 1, key_NWT.shape[2], dtype=torch.float32)
        shares_NS1 = mean_N1T.new_empty(count, steps, 1)
        scores = mean_N1T.new_empty(min(chunk, count), steps, key_NWT.shape[2])
        kept = []
        for query, key, mean, shares in _chunks(chunk, query_NWS, key_NWT, mean_N1T, shares_NS1):
            scores_CST = scores[: len(query)].copy_(torch.bmm(query.mT, key))
            scores_CST.sub_(scores_CST.amax(2, keepdim=True)).exp2_()
            torch.sum(scores_CST, 2, keepdim=True, out=shares)
            shares.mul_(steps).reciprocal_()
            torch.bmm(shares.mT, scores_CST, out=mean)
            kept.append(scores_CST.to(torch.bfloat16))
        ctx.save_for_backward(query_NWS, key_NWT, shares_NS1.mT, *kept)
        ctx.chunk = chunk
        return mean_N1T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        query_NWS, key_NWT, shares_N1S, *kept = ctx.saved_tensors
        width, steps = query_NWS.shape[1:]
        # A softmax does not feel a constant; without it less is lost to rounding.
        gradient_N1T = gradients[0] - gradients[0].mean(2, keepdim=True)
        results = torch.empty_like(query_NWS), torch.empty_like(key_NWT)
        tensors = (key_NWT, query_NWS, shares_N1S, gradient_N1T, *results)
        for powers_CST, (key, query, shares, gradient, *into) in zip(kept, _chunks(ctx.chunk, *tensors), strict=True):
            keys = torch.cat([key, key * gradient, gradient], dim=1).to(torch.bfloat16)
            key_sums, weighted_sums, means = torch.split(torch.bmm(keys, powers_CST.mT), [width, width, 1], dim=1)
            means = means * shares * steps
            into[0].copy_((weighted_sums - means * key_sums) * shares)
            query = query * shares
            queries = torch.cat([query, query * means], dim=1).to(torch.bfloat16)
            query_sums, weighted_sums = torch.split(torch.bmm(queries, powers_CST), width, dim=1)
            into[1].copy_(gradient * query_sums - weighted_sums)
        return results[0].mul_(LN_2), results[1].mul_(LN_2), None


def _chunks(chunk: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(torch.split(x, chunk) for x in tensors), strict=True)


def attention_in_bf16(query_BSD: Tensor, key_BTD: Tensor, value_BTD: Tensor, heads: int) -> Tensor:
    """The heads' attention over projected bfloat16 tokens, side by side [B, S, D]. The query holds `powers_scale`."""
    batch, steps, width = query_BSD.shape
    split = (_split(x, heads) for x in (query_BSD, key_BTD, value_BTD))
    mixed_NSW: Tensor = _Attention.apply(*split, CHUNK_WINDOWS * heads)  # type: ignore[no-untyped-call]
    return mixed_NSW.view(batch, heads, steps, -1).transpose(1, 2).reshape(batch, steps, width)


def mean_weights_in_bf16(query_BSD: Tensor, key_BTD: Tensor, heads: int) -> Tensor:
    """The heads' attention weights [B, H, T], averaged over S, in float32. The query holds `powers_scale`."""
    batch, _, width = query_BSD.shape
    query_NWS, key_NWT = (x.mT.reshape(batch * heads, width // heads, -1) for x in (query_BSD, key_BTD))
    mean_N1T: Tensor = _MeanWeights.apply(query_NWS, key_NWT, CHUNK_WINDOWS * heads)  # type: ignore[no-untyped-call]
    return mean_N1T.view(batch, heads, -1)


def _split(x_BSD: Tensor, heads: int) -> Tensor:
    batch, steps, width = x_BSD.shape
    return x_BSD.view(batch, steps, heads, width // heads).transpose(1, 2).reshape(batch * heads, steps, -1)
