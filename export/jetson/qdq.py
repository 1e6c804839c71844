"""Explicit INT8 for TensorRT: QuantizeLinear and DequantizeLinear in front of convolutions and linear layers.

All of it symmetric (zero points 0), activations per tensor, weights per output channel. The weights themselves stay
floats with a Quantize behind them: parsers of TensorRT 8 refuse INT8 constants. In float stay what `quantize.py` keeps
in float for the CPU (first convolutions, attention score, last layer) and all that has no weights: attention products,
softmax, LSTM, layer norm, residual sums. A sum takes its input from before the Quantize, so nothing is rounded twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, helper, numpy_helper

from edgepain.engine.onnx import OUTPUT_NAME
from edgepain.export.jetson.form import copy_of, replace_nodes

LEVELS = 127
CHANNEL_AXIS = {"Conv": 0, "MatMul": 1}


def quantizable(model: onnx.ModelProto) -> tuple[NodeProto, ...]:
    """Convolutions and linear layers of a graph in TensorRT's form that can be INT8."""
    shapes = {t.name: tuple(t.dims) for t in model.graph.initializer}
    last = {name for node in model.graph.node if OUTPUT_NAME in node.output for name in (*node.input, OUTPUT_NAME)}

    def fits(node: NodeProto) -> bool:
        if node.op_type not in CHANNEL_AXIS or node.input[1] not in shapes or node.output[0] in last:
            return False
        shape = shapes[node.input[1]]
        return shape[1] > 1 and len(shape) == {"Conv": 4, "MatMul": 2}[node.op_type]

    return tuple(node for node in model.graph.node if fits(node))


def with_qdq(model: onnx.ModelProto, ranges: Mapping[str, float], layers: Collection[str]) -> onnx.ModelProto:
    """A copy of an fp32 or fp16 graph with Q and DQ in front of these `layers` (names of nodes, see `quantizable`).

    ranges: the largest magnitude of each input of such a layer that INT8 is to hold.
    """
    result = copy_of(model)
    writer = _Writer(result, ranges)
    for node in result.graph.node:
        if node.name in layers:
            weight = writer.weight(node.input[1], CHANNEL_AXIS[node.op_type])
            node.input[0] = writer.activation(node.input[0])
            node.input[1] = weight
        writer.nodes.append(node)
    replace_nodes(result, writer.nodes)
    onnx.checker.check_model(result, full_check=True)
    return result


class _Writer:
    """Writes each Quantize and its Dequantize once, where they are first needed."""

    def __init__(self, model: onnx.ModelProto, ranges: Mapping[str, float]) -> None:
        self._graph = model.graph
        self._ranges = ranges
        self._weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self._written: dict[str, str] = {}
        self.nodes: list[NodeProto] = []

    def activation(self, name: str) -> str:
        # fp16 graphs have the names of the fp32 graph: `in_fp16` renames only what enters and leaves.
        dtype = next(w.dtype for w in self._weights.values() if w.dtype in (np.float16, np.float32))
        return self._pair(name, np.array(self._ranges[name]), dtype, {})

    def weight(self, name: str, axis: int) -> str:
        values = self._weights[name]
        others = tuple(i for i in range(values.ndim) if i != axis)
        largest = np.abs(values.astype(np.float64)).max(axis=others)
        return self._pair(name, largest, values.dtype, {"axis": axis})

    def _pair(self, name: str, largest: npt.NDArray[np.float64], dtype: np.dtype[Any], given: dict[str, Any]) -> str:
        if name in self._written:
            return self._written[name]
        # A channel of zeros has a scale too, and none is so small that its type holds it with fewer digits.
        scale = np.maximum(largest / LEVELS, float(np.finfo(dtype).tiny)).astype(dtype)
        scale_name, zero_name = f"{name}_scale", f"{name}_zero_point"
        self._graph.initializer.append(numpy_helper.from_array(scale, scale_name))
        self._graph.initializer.append(numpy_helper.from_array(np.zeros(scale.shape, np.int8), zero_name))
        quantized, result = f"{name}_quantized", f"{name}_dequantized"
        for op, source, target in (("QuantizeLinear", name, quantized), ("DequantizeLinear", quantized, result)):
            self.nodes.append(helper.make_node(op, [source, scale_name, zero_name], [target], target, **given))
        self._written[name] = result
        return result
