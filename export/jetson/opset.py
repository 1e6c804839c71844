"""A graph of opset 18 written for another opset, with operators as that opset defines them.

Changing the number alone gives a file that some parsers read and answer wrongly: TensorRT 8.x ignores the axes of a
ReduceMean that come as an input.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from edgepain.export.jetson.form import attributes, copy_of, replace_nodes

SOURCE_OPSET = 18
IR_VERSION = {13: 8, 17: 8, 19: 9}
# From opset 18 on the axes are an input; before, an attribute. ReduceSum has had the input since 13.
AXES_MOVED = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare")
# d / √(mean(d²) + ε) = (d/8) / √(mean((d/8)²) + ε/64): the same, and in fp16 the square of an artefact stays finite.
NORM_SHRINK = 0.125


def at_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """A copy of `model` (opset 18) at opset 13, 17 or 19. Raises ValueError for what cannot be said there."""
    (imported,) = model.opset_import
    if imported.version != SOURCE_OPSET or opset not in IR_VERSION:
        raise ValueError(f"opset {imported.version} to {opset} is not a step that is known here")
    result = copy_of(model)
    result.opset_import[0].version = opset
    result.ir_version = IR_VERSION[opset]
    if opset < SOURCE_OPSET:
        replace_nodes(result, _Lowered(result, opset).nodes)
    drop_unused(result)
    onnx.checker.check_model(result, full_check=True)
    return result


def drop_unused(model: onnx.ModelProto) -> None:
    """Leave out initializers that no node takes."""
    used = {name for node in model.graph.node for name in node.input}
    kept = [t for t in model.graph.initializer if t.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


class _Lowered:
    """The nodes of a graph in the words of an older opset."""

    def __init__(self, model: onnx.ModelProto, opset: int) -> None:
        self._opset = opset
        self._graph = model.graph
        self._constants = {t.name: t for t in model.graph.initializer}
        source = copy_of(model)
        source.opset_import[0].version = SOURCE_OPSET
        inferred = onnx.shape_inference.infer_shapes(source, strict_mode=True).graph
        self._shapes = {
            v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
            for v in (*inferred.value_info, *inferred.input, *inferred.output)
        }
        self.nodes: list[NodeProto] = []
        for node in model.graph.node:
            self._write(node)

    def _write(self, node: NodeProto) -> None:
        if node.op_type == "LayerNormalization" and self._opset < 17:
            self._layer_norm(node)
        elif node.op_type in AXES_MOVED:
            self._reduce(node)
        elif node.op_type == "Split":
            self._split(node)
        elif self._opset < 14 and node.op_type in ("Reshape", "LSTM"):
            self._without(node, {"Reshape": "allowzero", "LSTM": "layout"}[node.op_type])
        else:
            self.nodes.append(node)

    def _add(self, op: str, inputs: list[str], output: str, **given: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], f"{output}_{op}", **given))
        return output

    def _constant(self, name: str, value: float) -> str:
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.array(value, np.float32), name)
            self._graph.initializer.append(self._constants[name])
        return name

    def _layer_norm(self, node: NodeProto) -> None:
        x, scale, bias = node.input
        (y,) = node.output
        given = attributes(node)
        axis, epsilon = given.get("axis", -1), given.get("epsilon", 1e-5)
        if axis != -1:
            raise ValueError(f"{node.name}: a LayerNormalization over other axes than the last")
        mean = self._add("ReduceMean", [x], f"{y}_mean", axes=[-1], keepdims=1)
        centred = self._add("Sub", [x, mean], f"{y}_centred")
        small = self._add("Mul", [centred, self._constant("norm_shrink", NORM_SHRINK)], f"{y}_small")
        square = self._add("Mul", [small, small], f"{y}_square")
        variance = self._add("ReduceMean", [square], f"{y}_variance", axes=[-1], keepdims=1)
        shrunk = self._constant(f"norm_epsilon_{epsilon:.3g}", epsilon * NORM_SHRINK**2)
        deviation = self._add("Sqrt", [self._add("Add", [variance, shrunk], f"{y}_floored")], f"{y}_deviation")
        normal = self._add("Div", [small, deviation], f"{y}_normal")
        self._add("Add", [self._add("Mul", [normal, scale], f"{y}_scaled"), bias], y)

    def _reduce(self, node: NodeProto) -> None:
        given = attributes(node)
        if given.pop("noop_with_empty_axes", 0):
            raise ValueError(f"{node.name}: noop_with_empty_axes is not known before opset 18")
        if len(node.input) > 1:
            given["axes"] = numpy_helper.to_array(self._constants[node.input[1]]).tolist()
        self._add(node.op_type, [node.input[0]], node.output[0], **given)

    def _split(self, node: NodeProto) -> None:
        given = attributes(node)
        count, axis = given.pop("num_outputs", None), given.get("axis", 0)
        if count is None:
            self.nodes.append(node)
            return
        size, rest = divmod(self._shapes[node.input[0]][axis], count)
        if rest or not size:
            raise ValueError(f"{node.name}: splits into parts that differ")
        sizes = numpy_helper.from_array(np.full(count, size, np.int64), f"{node.name}_sizes")
        self._graph.initializer.append(sizes)
        self.nodes.append(helper.make_node("Split", [node.input[0], sizes.name], node.output, node.name, axis=axis))

    def _without(self, node: NodeProto, attribute: str) -> None:
        """The node without an attribute that opset 13 does not know, where it says nothing."""
        value = attributes(node).get(attribute, 0)
        shape = self._constants.get(node.input[1]) if node.op_type == "Reshape" else None
        zeros = shape is None or 0 in numpy_helper.to_array(shape)
        if value and (node.op_type != "Reshape" or zeros):
            raise ValueError(f"{node.name}: {attribute} is not known before opset 14")
        plain = NodeProto()
        plain.CopyFrom(node)
        del plain.attribute[:]
        plain.attribute.extend(a for a in node.attribute if a.name != attribute)
        self.nodes.append(plain)
