"""A graph that computes in fp16 throughout, for a strongly typed TensorRT network; windows and logits stay fp32."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgepain.export.jetson.form import copy_of, replace_nodes


def in_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of an fp32 graph in fp16. Raises ValueError where a weight is beyond what fp16 holds."""
    half = copy_of(model)
    for tensor in half.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            with np.errstate(over="ignore"):
                values = numpy_helper.to_array(tensor).astype(np.float16)
            if not np.isfinite(values).all():
                raise ValueError(f"{tensor.name}: a weight is beyond {np.finfo(np.float16).max}, the largest of fp16")
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    (source,), (result,) = half.graph.input, half.graph.output
    renamed = {source.name: f"{source.name}_half", result.name: f"{result.name}_half"}
    nodes = [helper.make_node("Cast", [source.name], [renamed[source.name]], "to_half", to=TensorProto.FLOAT16)]
    for node in half.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = renamed.get(name, name)
        nodes.append(node)
    nodes.append(helper.make_node("Cast", [renamed[result.name]], [result.name], "to_float", to=TensorProto.FLOAT))
    replace_nodes(half, nodes)
    onnx.checker.check_model(half, full_check=True)
    return half
