"""The traced graph in the form that TensorRT's parser handles best. The same function, at the opset of the trace.

- A convolution over time becomes one over a picture of height 1, [B, C, 1, S]: the parser's own reshapes break on
  quantized weights of Conv1d.
- Gemm becomes MatMul and Add, so that all linear layers are quantized by one pattern.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model again, to be changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def replace_nodes(model: onnx.ModelProto, nodes: list[NodeProto]) -> None:
    """Make `nodes`, in topological order, the nodes of the graph."""
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def attributes(node: NodeProto) -> dict[str, Any]:
    """Attributes of a node by name."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def tensorrt_form(model: onnx.ModelProto) -> onnx.ModelProto:
    """A traced fp32 graph rewritten as the module says; names of weights and activations stay."""
    form = copy_of(model)
    replace_nodes(form, _linear(form))
    replace_nodes(form, _flat_pictures(form))
    del form.graph.value_info[:]
    onnx.checker.check_model(form, full_check=True)
    return form


def _linear(model: onnx.ModelProto) -> list[NodeProto]:
    nodes = []
    for node in model.graph.node:
        if node.op_type != "Gemm":
            nodes.append(node)
            continue
        given = attributes(node)
        plain = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
        if any(given.get(name, value) != value for name, value in plain.items()):
            raise ValueError(f"{node.name}: a Gemm with other attributes than a traced layer has")
        if len(node.input) == 2:
            nodes.append(helper.make_node("MatMul", node.input, node.output, node.name))
            continue
        product = f"{node.output[0]}_product"
        nodes.append(helper.make_node("MatMul", node.input[:2], [product], f"{node.name}_MatMul"))
        nodes.append(helper.make_node("Add", [product, node.input[2]], node.output, f"{node.name}_Add"))
    return nodes


def _flat_pictures(model: onnx.ModelProto) -> list[NodeProto]:
    """Convolutions, and what is elementwise between them, on [B, C, 1, S]."""
    weights = {t.name: t for t in model.graph.initializer}
    height = numpy_helper.from_array(np.array([2], np.int64), "height_axis")
    model.graph.initializer.append(height)
    nodes: list[NodeProto] = []
    pictures: dict[str, str] = {}
    flat: set[str] = set()

    def picture(name: str) -> str:
        if name not in pictures:
            pictures[name] = f"{name}_picture"
            nodes.append(helper.make_node("Unsqueeze", [name, height.name], [pictures[name]], f"{name}_unsqueeze"))
            flat.add(name)
        return pictures[name]

    for node in model.graph.node:
        if node.op_type == "Conv" and len(weights[node.input[1]].dims) == 3:
            nodes.append(_picture_convolution(node, picture(node.input[0]), weights[node.input[1]]))
        elif node.op_type == "Relu" and node.input[0] in pictures.keys() - flat:
            nodes.append(helper.make_node("Relu", [picture(node.input[0])], [f"{node.output[0]}_picture"], node.name))
        else:
            for name in node.input:
                if name in pictures.keys() - flat:
                    nodes.append(helper.make_node("Squeeze", [pictures[name], height.name], [name], f"{name}_squeeze"))
                    flat.add(name)
            nodes.append(node)
            continue
        pictures[node.output[0]] = f"{node.output[0]}_picture"
    return nodes


def _picture_convolution(node: NodeProto, source: str, weight: onnx.TensorProto) -> NodeProto:
    """`node` with a kernel of (1, k); its weight [O, I, k] becomes [O, I, 1, k] in place."""
    given = attributes(node)
    if given.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise ValueError(f"{node.name}: auto_pad is not explicit padding")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight)[:, :, None], weight.name))
    (left, right), (kernel,) = given.get("pads", [0, 0]), given["kernel_shape"]
    (stride,), (dilation,) = given.get("strides", [1]), given.get("dilations", [1])
    return helper.make_node(
        "Conv",
        [source, *node.input[1:]],
        [f"{node.output[0]}_picture"],
        node.name,
        kernel_shape=[1, kernel],
        pads=[0, left, 0, right],
        strides=[1, stride],
        dilations=[1, dilation],
        group=given.get("group", 1),
    )
