"""The same counts by fvcore, operator by operator, with handlers for the operators that it does not know."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edgepain.bundle import NetworkSpec
from edgepain.errors import MissingExtraError

# Not multiply-adds of layers, and left out of the analytic count too.
NOT_COUNTED = ("batch_norm", "layer_norm")
OPERATIONS = {
    "conv": "convolution",
    "linear": "linear",
    "lstm": "LSTM",
    "scaled_dot_product_attention": "attention products",
}


def fvcore_counts(spec: NetworkSpec) -> dict[str, dict[str, int]]:
    """Multiply-adds of each sub-network by operation, as fvcore counts them in the traced modules.

    Raises MissingExtraError where torch or fvcore is not installed.
    """
    try:
        import torch

        with _quiet():
            from fvcore.nn import FlopCountAnalysis
    except ImportError as error:
        raise MissingExtraError(error.name or "fvcore", "bench") from error
    from edgepain.train.models import ALSTM, FCN, CrossModFusion, TransformerBlock

    signal = torch.zeros(1, 1, spec.steps)
    tokens = torch.zeros(1, spec.tokens, spec.width)
    fused = torch.zeros(1, spec.width) if spec.fusion == "pooled" else torch.zeros(1, spec.tokens, 2 * spec.width)
    modules: dict[str, tuple[torch.nn.Module, tuple[torch.Tensor, ...]]] = {
        "FCN": (FCN(spec.width, stride=spec.stride), (signal,)),
        "ALSTM": (ALSTM(spec.width, stride=spec.stride), (signal,)),
        "Transformer block": (TransformerBlock(spec.width, spec.heads), (tokens, tokens)),
        "CrossMod": (CrossModFusion(spec), (fused, fused)),
    }
    counts = {}
    with _quiet():
        for name, (module, inputs) in modules.items():
            analysis = FlopCountAnalysis(module.eval(), inputs)
            analysis.set_op_handle("aten::lstm", _lstm)
            analysis.set_op_handle("aten::scaled_dot_product_attention", _attention)
            by_operator = analysis.by_operator()
            counts[name] = {
                OPERATIONS.get(operator, operator): int(count)
                for operator, count in by_operator.items()
                if operator not in NOT_COUNTED and count
            }
    return counts


def _shape(value: Any) -> list[int]:
    sizes: list[int] = value.type().sizes()
    return sizes


def _lstm(inputs: list[Any], outputs: list[Any]) -> int:
    """aten::lstm(input [B, S, D], states, weights, …): each weight matrix is applied once a step."""
    batch, steps, _ = _shape(inputs[0])
    weights = [_shape(v) for v in inputs[2].node().inputs()]
    return batch * steps * sum(math.prod(shape) for shape in weights if len(shape) == 2)


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """aten::scaled_dot_product_attention(query [B, H, S, W], key [B, H, T, W], …): the two products."""
    batch, heads, steps, width = _shape(inputs[0])
    return 2 * batch * heads * steps * _shape(inputs[1])[2] * width


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back fvcore's list of operators without a count, and torch's word on the tracer that fvcore uses."""
    logger = logging.getLogger("fvcore.nn.jit_analysis")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*torch\.jit\S* is (deprecated|not supported)", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
