"""References of ONNX graphs to other files: found wherever they are, and nothing else raised for what is no graph."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from onnx.external_data_helper import set_external_data

from edgepain.bundle import FileFacts
from edgepain.bundle.onnx_files import require_own_files
from edgepain.errors import BundleError

FILES = {"weights.bin": FileFacts(100, ""), "sub/weights.bin": FileFacts(100, "")}


def external(location: str, offset: int = 0, length: int = 16) -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "w")
    set_external_data(tensor, location, offset, length)
    tensor.ClearField("raw_data")
    return tensor


def nested(tensor: onnx.TensorProto, way: list[str]) -> bytes:
    """A model that holds the tensor at the end of a way through its fields."""
    model = onnx.ModelProto(ir_version=8)
    graph = model.graph
    if way and way[0] == "function":
        node = model.functions.add().node.add()
        graph = node.attribute.add().g
    elif way and way[0] == "training":
        graph = model.training_info.add().algorithm
    for step in way:
        if step == "branch":
            graph = graph.node.add().attribute.add().g
        elif step == "branches":
            graph = graph.node.add().attribute.add().graphs.add()
    last = way[-1] if way else ""
    if last == "sparse":
        graph.sparse_initializer.add().values.CopyFrom(tensor)
    elif last == "attribute":
        graph.node.add().attribute.add().t.CopyFrom(tensor)
    elif last == "attributes":
        graph.node.add().attribute.add().tensors.add().CopyFrom(tensor)
    elif last == "sparse attribute":
        graph.node.add().attribute.add().sparse_tensor.indices.CopyFrom(tensor)
    else:
        graph.initializer.add().CopyFrom(tensor)
    return bytes(model.SerializeToString())


STEPS = ("branch", "branches", "function", "training", "sparse", "attribute", "attributes", "sparse attribute")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(STEPS), max_size=6))
def test_a_reference_is_found_wherever_it_is(way: list[str]) -> None:
    require_own_files("model.onnx", nested(external("weights.bin"), way), FILES, "model.onnx")
    with pytest.raises(BundleError, match=r"'\.\./weights\.bin', no file of the bundle"):
        require_own_files("model.onnx", nested(external("../weights.bin"), way), FILES, "model.onnx")


def test_a_reference_is_beside_its_graph() -> None:
    graph = nested(external("weights.bin"), [])
    require_own_files("sub/model.onnx", graph, FILES, "sub/model.onnx")
    with pytest.raises(BundleError, match="no file of the bundle"):
        require_own_files("other/model.onnx", graph, FILES, "other/model.onnx")


@pytest.mark.parametrize(("offset", "length"), [(0, 101), (90, 11), (-1, 16), (1 << 64, 16)])
def test_bytes_beyond_the_file_are_refused(offset: int, length: int) -> None:
    graph = nested(external("weights.bin", offset, length), [])
    with pytest.raises(BundleError, match=r"beyond the end of weights\.bin"):
        require_own_files("model.onnx", graph, FILES, "model.onnx")


def test_a_location_said_twice_is_refused() -> None:
    tensor = external("weights.bin")
    tensor.external_data.add(key="location", value="/etc/hostname")
    with pytest.raises(BundleError, match="no ONNX graph"):
        require_own_files("model.onnx", nested(tensor, []), FILES, "model.onnx")


def field(number: int, contents: bytes) -> bytes:
    """A field with a length, as protobuf writes it."""
    size, length = len(contents), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + contents


def test_a_thousand_branches_in_branches_are_walked() -> None:
    graph = field(5, external("/etc/hostname").SerializeToString())
    for _ in range(1000):
        graph = field(1, field(5, field(6, graph)))  # graph.node.attribute.g
    with pytest.raises(BundleError, match="'/etc/hostname', no file of the bundle"):
        require_own_files("model.onnx", field(7, graph), FILES, "model.onnx")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_mangled_graphs_raise_nothing_else(data: st.DataObject) -> None:
    good = nested(external("weights.bin"), ["branch", "attribute"])
    at = data.draw(st.integers(0, len(good)))
    cut = data.draw(st.integers(0, 8))
    mangled = good[:at] + data.draw(st.binary(max_size=12)) + good[at + cut :]
    try:
        require_own_files("model.onnx", mangled, FILES, "model.onnx")
    except BundleError:
        return
    # What passes names no other file to the reader that ONNX itself has.
    try:
        model = onnx.load_from_string(mangled)
    except Exception:
        return
    for tensor in onnx.external_data_helper._get_all_tensors(model):
        for entry in tensor.external_data:
            assert entry.key != "location" or entry.value == "weights.bin"
