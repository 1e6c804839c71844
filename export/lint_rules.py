"""The rules of `edgepain.export.lint`, one function each: a graph in, findings out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, external_data_helper

from edgepain.export.lint import Finding, Linted, Rules, is_float

MAX_OPSET: dict[Rules, int] = {
    "onnxruntime": 24,
    "tensorrt-8.5": 17,
    "tensorrt-8.6": 17,
    "tensorrt-10": 20,
    "tensorrt-11": 20,
}
MIN_OPSET_FP16_SCALES = 19
# They work on windows of data, or not at all, in TensorRT; or belong to another way of quantizing.
FOREIGN_TO_TENSORRT = frozenset(
    (
        *("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"),
        *("If", "Scan", "Loop", "NonZero", "Unique", "Optional", "SequenceAt", "StringNormalizer"),
        *("RandomNormal", "RandomUniform", "Multinomial", "Bernoulli", "Dropout", "BatchNormalization"),
        "Gemm",  # Quantized, it becomes a convolution between reshapes; MatMul and Add do not.
    )
)
SLOW_IN_ONNXRUNTIME = {
    "ConvInteger": "dynamic quantization of a convolution is slower than fp32; quantize it statically"
}
LAYERS = {"Conv": 0, "MatMul": 1}
QDQ = ("QuantizeLinear", "DequantizeLinear")
Check = Callable[[Linted], Iterator[Finding]]


def check_external_data(linted: Linted) -> Iterator[Finding]:
    """Weights beside the graph lie in its folder, and all of them are there."""
    for tensor in linted.model.graph.initializer:
        if not external_data_helper.uses_external_data(tensor):
            continue
        info = external_data_helper.ExternalDataInfo(tensor)
        path = linted.folder / info.location
        if "/" in info.location or "\\" in info.location or info.location in ("", ".", "..") or path.is_symlink():
            yield Finding("external-data", tensor.name, f"{info.location!r} is not a file in the folder of the graph")
        elif not path.is_file():
            yield Finding("external-data", tensor.name, f"{info.location} is missing")
        elif (info.offset or 0) + (info.length or 0) > path.stat().st_size:
            yield Finding("external-data", tensor.name, f"lies beyond the end of {info.location}")


def check_opset(linted: Linted) -> Iterator[Finding]:
    """An opset that the runtime reads."""
    limit = MAX_OPSET[linted.rules]
    if not 13 <= linted.opset <= limit:
        wrong = " (opset 18 is read without a word, and its ReduceMean answered wrongly)" if limit == 17 else ""
        yield Finding("opset", "opset_import", f"{linted.opset}, {linted.rules} takes 13 to {limit}{wrong}")


def check_schema(linted: Linted) -> Iterator[Finding]:
    """Valid ONNX of its own opset; types and shapes fit."""
    try:
        onnx.checker.check_model(linted.model, full_check=True)
    except Exception as error:  # The checker and shape inference raise their own, without a common base.
        yield Finding("schema", "graph", " ".join(str(error).split())[:300])


def check_domain(linted: Linted) -> Iterator[Finding]:
    """Standard operators only, for TensorRT; Microsoft's too, for ONNX Runtime."""
    known = ("", "ai.onnx") if linted.for_tensorrt else ("", "ai.onnx", "com.microsoft", "com.microsoft.nchwc")
    for node in linted.model.graph.node:
        if node.domain not in known:
            yield Finding("domain", _name(node), f"{node.op_type} of {node.domain!r}")


def check_weights(linted: Linted) -> Iterator[Finding]:
    """Finite weights."""
    for name, tensor in linted.tensors.items():
        if is_float(tensor) and not np.isfinite(linted.values(name)).all():  # type: ignore[arg-type]
            yield Finding("weights", name, "holds NaN or infinity")


def check_shapes(linted: Linted) -> Iterator[Finding]:
    """Fixed shapes everywhere."""
    graph = linted.model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        dims = value.type.tensor_type.shape.dim
        if any(dim.dim_value < 1 for dim in dims):
            yield Finding(
                "dynamic-shape", value.name, f"[{', '.join(d.dim_param or str(d.dim_value or '?') for d in dims)}]"
            )
    for node in graph.node:
        # A shape that is computed while the graph runs.
        if node.op_type in ("Reshape", "Expand") and len(node.input) > 1 and node.input[1] not in linted.tensors:
            yield Finding("dynamic-shape", _name(node), f"the shape of {node.op_type} is computed, not fixed")


def check_operators(linted: Linted) -> Iterator[Finding]:
    """Nothing that the runtime does not know, or is bad at."""
    for node in linted.model.graph.node:
        if linted.for_tensorrt and node.op_type in FOREIGN_TO_TENSORRT:
            yield Finding("forbidden-operator", _name(node), f"{node.op_type} has no place in a graph for TensorRT")
        elif linted.rules == "tensorrt-8.5" and node.op_type == "LayerNormalization":
            yield Finding(
                "forbidden-operator", _name(node), "TensorRT 8.5 does not know LayerNormalization; use opset 13"
            )
        elif not linted.for_tensorrt and node.op_type in SLOW_IN_ONNXRUNTIME:
            yield Finding("forbidden-operator", _name(node), SLOW_IN_ONNXRUNTIME[node.op_type])


def check_folded(linted: Linted) -> Iterator[Finding]:
    """Weights go into their layers as they are; only quantization may stand between."""
    if not linted.for_tensorrt:
        return
    constant = set(linted.tensors)
    for node in linted.model.graph.node:
        if node.op_type not in QDQ and all(name in constant for name in node.input if name):
            constant.update(node.output)
            yield Finding("unfolded", _name(node), f"{node.op_type} of constants alone; compute it at export")


def check_conv1d(linted: Linted) -> Iterator[Finding]:
    """Quantized convolutions have two dimensions."""
    for node in linted.model.graph.node:
        if linted.for_tensorrt and node.op_type == "Conv" and linted.is_dequantized(node.input[1]):
            weight = linted.values(linted.source(node.input[1]))
            if weight is not None and weight.ndim == 3:
                yield Finding("conv1d", _name(node), "a quantized Conv1d breaks the parser; write it as Conv2d (1, k)")


def check_zero_points(linted: Linted) -> Iterator[Finding]:
    """Symmetric, and int8: of everything for TensorRT, of weights for ONNX Runtime."""
    for node in _qdq(linted):
        of_weight = linted.source(node.output[0]) in linted.tensors
        if not (linted.for_tensorrt or of_weight):
            continue
        zero = linted.values(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if zero is None:
            yield Finding("zero-point", _name(node), "is not a constant that is there")
        elif zero.any():
            yield Finding("zero-point", _name(node), f"is {zero.ravel()[zero.ravel().nonzero()][0]}, not 0")
        elif linted.for_tensorrt and linted.tensors[node.input[2]].data_type != TensorProto.INT8:
            yield Finding("zero-point", _name(node), f"is {zero.dtype}, not int8")


def check_axes(linted: Linted) -> Iterator[Finding]:
    """Weights are quantized per output channel: axis 0 of a convolution, 1 of a matrix."""
    for node in linted.model.graph.node:
        if not linted.for_tensorrt or node.op_type not in LAYERS or not linted.is_dequantized(node.input[1]):
            continue
        weight, dequantize = linted.values(linted.source(node.input[1])), linted.producers[node.input[1]]
        if weight is None:
            continue
        axis = LAYERS[node.op_type]
        for step in (dequantize, linted.producers.get(dequantize.input[0])):
            scale = linted.values(step.input[1]) if step is not None else None
            if step is None or scale is None:
                continue
            given = next((a.i for a in step.attribute if a.name == "axis"), 1)
            if scale.ndim == 0 or scale.size == 1 < weight.shape[axis]:
                yield Finding("axis", _name(step), "one scale for all channels of a weight")
            elif given % weight.ndim != axis or scale.shape != (weight.shape[axis],):
                yield Finding(
                    "axis", _name(step), f"{given} with {scale.size} scales, {node.op_type} needs axis {axis}"
                )


def check_scales(linted: Linted) -> Iterator[Finding]:
    """Scales are constants, finite, above 0, not so small that digits are lost, and of their tensor's type."""
    for node in _qdq(linted):
        scale = linted.values(node.input[1])
        if scale is None:
            yield Finding("scale", _name(node), "is not a constant")
            continue
        if scale.dtype not in (np.float32, np.float16):
            yield Finding("scale", _name(node), f"is {scale.dtype}")
            continue
        with np.errstate(invalid="ignore"):
            sound = np.isfinite(scale).all() and bool((scale >= np.finfo(scale.dtype).tiny).all())  # type: ignore[operator, type-var]
        if not sound:
            yield Finding("scale", _name(node), "is not a normal number above 0")
        if scale.dtype == np.float16 and linted.opset < MIN_OPSET_FP16_SCALES:
            yield Finding("scale", _name(node), f"is fp16, which needs opset {MIN_OPSET_FP16_SCALES}")
        source = linted.tensors.get(linted.source(node.output[0]))
        if source is not None and is_float(source) and linted.values(source.name).dtype != scale.dtype:  # type: ignore[union-attr]
            yield Finding("scale", _name(node), f"is {scale.dtype}, its weight is not")


def check_placement(linted: Linted) -> Iterator[Finding]:
    """Q and DQ in pairs, in front of convolutions and linear layers only, of input and weight alike."""
    if not linted.for_tensorrt:
        return
    outputs = {value.name for value in linted.model.graph.output}
    for node in linted.model.graph.node:
        if node.op_type == "QuantizeLinear":
            takers = {taker.op_type for taker, _ in linted.consumers[node.output[0]]}
            if takers != {"DequantizeLinear"}:
                yield Finding("placement", _name(node), f"is not followed by DequantizeLinear alone ({_list(takers)})")
        elif node.op_type == "DequantizeLinear":
            yield from _dequantize_placement(linted, node, outputs)
        elif node.op_type in LAYERS and {linted.is_dequantized(name) for name in node.input[:2]} == {True, False}:
            yield Finding("placement", _name(node), "input and weight are not both quantized")


def _dequantize_placement(linted: Linted, node: NodeProto, outputs: set[str]) -> Iterator[Finding]:
    before = linted.producers.get(node.input[0])
    if before is None or before.op_type != "QuantizeLinear":
        yield Finding(
            "placement", _name(node), "takes INT8 that no QuantizeLinear made; TensorRT 8 refuses INT8 weights"
        )
    if node.output[0] in outputs:
        yield Finding("placement", _name(node), "gives an output of the graph")
    for taker, index in linted.consumers[node.output[0]]:
        if taker.op_type not in LAYERS:
            yield Finding("placement", _name(node), f"feeds {taker.op_type} {taker.name!r}, which is to stay in float")
        elif index == 2:
            yield Finding("placement", _name(node), f"quantizes the bias of {taker.name!r}, which is to stay in float")
        elif linted.source(taker.input[1]) not in linted.tensors:
            yield Finding("placement", _name(taker), "a quantized product of activations, which is to stay in float")
        elif taker.op_type == "MatMul" and _gives_output(linted, taker, outputs):
            yield Finding("placement", _name(taker), "the last layer is quantized, which is to stay in float")


def _gives_output(linted: Linted, node: NodeProto, outputs: set[str]) -> bool:
    """Whether the node's result, perhaps with a bias and a Cast, is an output of the graph."""
    name = node.output[0]
    while name not in outputs:
        takers = linted.consumers[name]
        if len(takers) != 1 or takers[0][0].op_type not in ("Add", "Cast"):
            return False
        name = takers[0][0].output[0]
    return True


def _qdq(linted: Linted) -> Iterator[NodeProto]:
    return (node for node in linted.model.graph.node if node.op_type in QDQ)


def _name(node: NodeProto) -> str:
    return node.name or f"{node.op_type} that gives {node.output[0]!r}" if node.output else node.op_type


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


CHECKS: tuple[Check, ...] = (
    check_opset,
    check_schema,
    check_domain,
    check_weights,
    check_shapes,
    check_operators,
    check_folded,
    check_conv1d,
    check_zero_points,
    check_axes,
    check_scales,
    check_placement,
)
