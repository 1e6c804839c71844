"""One Reshape for what only gives axes another name: runtimes copy for a Transpose, whatever it moves."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

RESHAPES = ("Reshape", "Squeeze", "Unsqueeze")


def tidy(model: ir.Model) -> None:
    """Write transpositions of axes of size 1, and reshapes in a row, as one Reshape each, or none."""
    for node in list(model.graph):
        if not _only_renames(node):
            continue
        source, result = node.inputs[0], node.outputs[0]
        assert source is not None
        producer = source.producer()
        while producer is not None and producer.op_type in RESHAPES:
            source = producer.inputs[0]
            assert source is not None
            producer = source.producer()
        if _shape(source) != _shape(result):
            _reshape(model.graph, node, source)
        elif not result.is_graph_output():
            result.replace_all_uses_with(source)
    RemoveUnusedNodesPass()(model)


def _shape(value: ir.Value) -> tuple[int, ...]:
    """A value's shape, which a traced network states of all of them."""
    assert value.shape is not None
    return value.shape.numpy()


def _only_renames(node: ir.Node) -> bool:
    if node.op_type in RESHAPES:
        return True
    if node.op_type != "Transpose":
        return False
    assert node.inputs[0] is not None
    sizes = _shape(node.inputs[0])
    kept = [axis for axis in node.attributes["perm"].as_ints() if sizes[axis] != 1]
    return kept == sorted(kept)


def _reshape(graph: ir.Graph, node: ir.Node, source: ir.Value) -> None:
    """Put a Reshape of `source` in the place of `node`."""
    result = node.outputs[0]
    sizes = _shape(result)
    name = "shape_" + "x".join(map(str, sizes))
    shape = graph.initializers.get(name)
    if shape is None:
        shape = ir.Value(name=name, const_value=ir.tensor(np.array(sizes, np.int64), name=name))
        shape.shape, shape.dtype = ir.Shape([len(sizes)]), ir.DataType.INT64
        graph.register_initializer(shape)
    reshape = ir.Node("", "Reshape", [source, shape], name=node.name)
    reshape.outputs[0].name = result.name
    reshape.outputs[0].shape, reshape.outputs[0].type = result.shape, result.type
    ir.convenience.replace_nodes_and_values(graph, node, [node], [reshape], [result], [reshape.outputs[0]])
