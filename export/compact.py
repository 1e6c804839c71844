"""Both precisions of a network in little more than the space of one: weights stored once, as INT8.

The fp32 graph of a compact bundle computes in fp32, on weights rounded to INT8: each large weight is stored as
the INT8 graph stores it, followed by Cast and Mul with the scales (and Transpose for an LSTM), which ONNX Runtime
folds away at load. Large tensors of both graphs lie in one file beside them (ONNX external data), equal ones once.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import helper, numpy_helper
from onnx.external_data_helper import set_external_data

from edgepain.export.quantize import quantized_weights

WEIGHTS_FILE = "weights.bin"
NOTE = (
    "compact bundle: the fp32 graph computes in fp32, but on weights rounded to INT8 (the values of the INT8 "
    "graph), stored once for both graphs in " + WEIGHTS_FILE
)
MIN_SHARED_BYTES = 1024
ALIGNMENT_BYTES = 64


def on_int8_weights(model: onnx.ModelProto, quantized: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the fp32 graph `model` whose large weights are those of the INT8 graph, times their scales."""
    compact = onnx.ModelProto()
    compact.CopyFrom(model)
    graph = compact.graph
    weights = quantized_weights(quantized)
    scales = {t.name: numpy_helper.to_array(t) for t in quantized.graph.initializer if t.name.endswith("_scale")}
    recurrent = {name for node in graph.node if node.op_type == "LSTM" for name in node.input[1:3]}
    nodes = []
    for name, tensor in weights.items():
        scale = scales[f"{name}_scale"]
        # Channels lie first in a Conv's weight [C, D, k] and last in a matrix [D, C]; an LSTM has one scale.
        scale = scale.reshape(-1, 1, 1) if len(tensor.dims) == 3 else scale.reshape(1, -1)
        graph.initializer.append(tensor)
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
        scaled = f"{name}_turned" if name in recurrent else name
        nodes.append(helper.make_node("Cast", [tensor.name], [f"{name}_cast"], to=onnx.TensorProto.FLOAT))
        nodes.append(helper.make_node("Mul", [f"{name}_cast", f"{name}_scale"], [scaled]))
        if name in recurrent:  # As INT8 it is stored [1, D, C].
            nodes.append(helper.make_node("Transpose", [scaled], [name], perm=[0, 2, 1]))
    kept = [t for t in graph.initializer if t.name not in weights]
    nodes += graph.node
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)
    onnx.checker.check_model(compact, full_check=True)
    return compact


def move_weights(models: Iterable[onnx.ModelProto], root: Path) -> None:
    """Move the large tensors of all `models` to `root/weights.bin`; the models must be saved in `root`."""
    offsets: dict[bytes, int] = {}
    with (root / WEIGHTS_FILE).open("wb") as file:
        for model in models:
            for tensor in model.graph.initializer:
                data = numpy_helper.to_array(tensor).tobytes()
                if len(data) < MIN_SHARED_BYTES:
                    continue
                if data not in offsets:
                    file.write(bytes(-file.tell() % ALIGNMENT_BYTES))
                    offsets[data] = file.tell()
                    file.write(data)
                # Where the values lay in a field of their type, they would stay there as well.
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
                set_external_data(tensor, WEIGHTS_FILE, offsets[data], len(data))
                tensor.ClearField("raw_data")
