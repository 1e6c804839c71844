"""The graphs of a bundle: one a precision, with what a manifest says of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from edgepain.bundle import GraphFacts, Precision
from edgepain.export.compact import on_int8_weights
from edgepain.export.quantize import Quantized, coverage, quantize
from edgepain.export.trace import OPSET, trace
from edgepain.train.models import CrossModTransformer

FILES: dict[Precision, str] = {"fp32": "model.onnx", "int8": "model.int8.onnx"}
# fp32 sums in another order on another CPU. INT8 rounds activations to 1 part in 255: a difference in the last
# float digit may move one by a whole step, and CPUs without VNNI add pairs of products in 16 bits.
GOLDEN_TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "int8": 0.05}

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Graph:
    """A graph and its facts. exact_weights: it computes on the trained weights, not on rounded ones."""

    facts: GraphFacts
    model: onnx.ModelProto
    exact_weights: bool


def make_graphs(
    network: CrossModTransformer,
    calibration: npt.NDArray[np.float32],
    trial: npt.NDArray[np.float32],
    precisions: Sequence[Precision],
    compact: bool,
    tell: Progress,
) -> list[Graph]:
    """Trace the network, and quantize it on windows [N, M, S] of training subjects where that is asked for.

    compact: the fp32 graph is put on the weights of the INT8 graph. `tell` is told what is done next.
    """
    tell("tracing the network to ONNX")
    fp32 = trace(network)
    if "int8" not in precisions and not compact:
        return [Graph(_graph_facts("fp32", {}, coverage(fp32, fp32)[1], 0.0), fp32, exact_weights=True)]
    tell(f"quantizing on {len(calibration) + len(trial)} windows of training subjects")
    quantized = quantize(fp32, calibration, trial)
    int8 = quantized.model
    graphs = []
    if "fp32" in precisions:
        stored = on_int8_weights(fp32, int8) if compact else fp32
        facts = _graph_facts("fp32", {}, coverage(fp32, fp32)[1], 0.0)
        graphs.append(Graph(facts, stored, exact_weights=not compact))
    if "int8" in precisions:
        facts = _graph_facts("int8", *coverage(fp32, int8), quantized)
        graphs.append(Graph(facts, int8, exact_weights=False))
    return graphs


def _graph_facts(
    precision: Precision,
    as_int8: dict[str, int],
    as_float: dict[str, int],
    share: float,
    quantized: Quantized | None = None,
) -> GraphFacts:
    return GraphFacts(
        precision=precision,
        file=FILES[precision],
        opset=OPSET,
        quantized_operators=as_int8,
        float_operators=as_float,
        int8_weight_share=round(share, 4),
        golden_tolerance=GOLDEN_TOLERANCE[precision],
        activation_percentile=quantized.percentile if quantized else None,
        sensitive_operators=quantized.sensitive if quantized else (),
    )
