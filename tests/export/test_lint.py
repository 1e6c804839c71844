"""`edgepain lint`: each rule names the graph that breaks it, and what we export breaks none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgepain.bundle import Bundle
from edgepain.errors import DataError, VerificationError
from edgepain.export.lint import RULES, Rules, lint, require_clean

Break = Callable[[onnx.ModelProto], None]


@pytest.fixture
def broken(jetson_bundle: Bundle, tmp_path: Path) -> Callable[..., list[str]]:
    """Change a graph of the bundle by hand and give what the lint says, as `rule: where: what`."""

    def changed(
        change: Break, name: str = "opset17.int8.onnx", rules: Rules = "tensorrt-8.6", keep: bool = False
    ) -> list[str]:
        model = onnx.load(jetson_bundle.root / "tensorrt" / name)
        change(model)
        onnx.save(model, tmp_path / name)
        return [str(finding) for finding in lint(tmp_path / name, rules)]

    return changed


def first(model: onnx.ModelProto, op: str, suffix: str = "") -> NodeProto:
    return next(n for n in model.graph.node if n.op_type == op and n.output[0].endswith(suffix))


def tensor(model: onnx.ModelProto, name: str) -> TensorProto:
    return next(t for t in model.graph.initializer if t.name == name)


def put(model: onnx.ModelProto, name: str, values: np.ndarray) -> None:  # type: ignore[type-arg]
    tensor(model, name).CopyFrom(numpy_helper.from_array(values, name))


def quantized_weight(model: onnx.ModelProto, op: str) -> NodeProto:
    """The DequantizeLinear of the weight of a quantized layer."""
    made = {n.output[0]: n for n in model.graph.node if n.op_type == "DequantizeLinear"}
    return next(made[n.input[1]] for n in model.graph.node if n.op_type == op and n.input[1] in made)


def test_what_is_exported_is_clean(jetson_bundle: Bundle) -> None:
    root = jetson_bundle.root
    assert lint(root / "model.onnx", "onnxruntime") == ()
    assert lint(root / "model.int8.onnx", "onnxruntime") == ()
    suited: dict[str, tuple[Rules, ...]] = {
        "opset13": ("tensorrt-8.5", "tensorrt-8.6", "tensorrt-10", "tensorrt-11"),
        "opset17": ("tensorrt-8.6", "tensorrt-10", "tensorrt-11"),
        "opset19": ("tensorrt-10", "tensorrt-11"),
    }
    graphs = sorted((root / "tensorrt").glob("*.onnx"))
    assert len(graphs) == 6
    for path in graphs:
        for rules in RULES[1:]:
            assert (lint(path, rules) == ()) == (rules in suited[path.name.split(".")[0]]), (path.name, rules)


def test_opset_and_operators_of_another_opset(broken: Callable[..., list[str]]) -> None:
    def number_alone(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = 18

    found = broken(number_alone, "opset17.fp32.onnx")
    assert found[0].startswith("opset: opset_import: 18, tensorrt-8.6 takes 13 to 17 (opset 18 is read without a word")
    # And what the file says of itself is wrong, too: axes are an input at 18, num_outputs is needed.
    assert found[1].startswith("schema: ")
    found = broken(lambda model: None, "opset17.fp32.onnx", "tensorrt-8.5")
    assert {line.split(":")[0] for line in found} == {"forbidden-operator"}
    assert "TensorRT 8.5 does not know LayerNormalization" in found[0]

    def axes_as_input(model: onnx.ModelProto) -> None:
        node = first(model, "ReduceMean")
        del node.attribute[:]
        model.graph.initializer.append(numpy_helper.from_array(np.array([-1]), "axes"))
        node.input.append("axes")

    assert broken(axes_as_input)[0].startswith("schema: graph: ")


def test_dynamic_shapes(broken: Callable[..., list[str]]) -> None:
    def batch(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"

    assert "dynamic-shape: window: [N, 2, 40]" in broken(batch)

    def computed(model: onnx.ModelProto) -> None:
        node = first(model, "Reshape")
        node.input[1] = "computed"
        model.graph.node.insert(0, helper.make_node("Shape", ["window"], ["computed"], "shape"))

    assert any(line.startswith("dynamic-shape: ") and "is computed" in line for line in broken(computed))


@pytest.mark.parametrize("op", ["Dropout", "Gemm", "DynamicQuantizeLinear", "NonZero"])
def test_forbidden_operators(broken: Callable[..., list[str]], op: str) -> None:
    def add(model: onnx.ModelProto) -> None:
        outputs = ["a", "b", "c"] if op == "DynamicQuantizeLinear" else ["a"]
        model.graph.node.append(helper.make_node(op, ["logits"] * (2 if op == "Gemm" else 1), outputs, "added"))

    assert f"forbidden-operator: added: {op} has no place in a graph for TensorRT" in broken(add)


def test_operators_of_a_vendor(broken: Callable[..., list[str]]) -> None:
    def foreign(model: onnx.ModelProto) -> None:
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        model.graph.node.append(helper.make_node("Gelu", ["logits"], ["x"], "gelu", domain="com.microsoft"))

    assert "domain: gelu: Gelu of 'com.microsoft'" in broken(foreign)
    assert not [f for f in broken(foreign, "opset17.fp32.onnx", "onnxruntime") if f.startswith("domain")]


def test_zero_points(broken: Callable[..., list[str]]) -> None:
    def shifted(model: onnx.ModelProto) -> None:
        node = first(model, "QuantizeLinear")
        put(model, node.input[2], np.full_like(numpy_helper.to_array(tensor(model, node.input[2])), 3))

    assert any(line.startswith("zero-point: ") and line.endswith("is 3, not 0") for line in broken(shifted))

    def unsigned(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                put(model, node.input[2], numpy_helper.to_array(tensor(model, node.input[2])).astype(np.uint8))

    assert any(line.endswith("is uint8, not int8") for line in broken(unsigned))

    def absent(model: onnx.ModelProto) -> None:
        del first(model, "QuantizeLinear").input[2]

    assert any(line.startswith("zero-point: ") and "not a constant" in line for line in broken(absent))


def test_axes(broken: Callable[..., list[str]]) -> None:
    def other_axis(model: onnx.ModelProto) -> None:
        node = quantized_weight(model, "Conv")
        next(a for a in node.attribute if a.name == "axis").i = 1

    assert any(line.startswith("axis: ") and "Conv needs axis 0" in line for line in broken(other_axis))

    def per_tensor(model: onnx.ModelProto) -> None:
        node = quantized_weight(model, "MatMul")
        put(model, node.input[1], np.array(0.01, np.float32))
        put(model, node.input[2], np.array(0, np.int8))

    assert any(line.startswith("axis: ") and "one scale for all channels" in line for line in broken(per_tensor))


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan, 1e-42])
def test_scales(broken: Callable[..., list[str]], value: float) -> None:
    def wrong(model: onnx.ModelProto) -> None:
        name = first(model, "QuantizeLinear").input[1]
        scale = numpy_helper.to_array(tensor(model, name)).copy()
        scale[...] = value
        put(model, name, scale)

    assert any(line.startswith("scale: ") and "not a normal number above 0" in line for line in broken(wrong))


def test_fp16_scales_need_opset_19(broken: Callable[..., list[str]]) -> None:
    def older(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = 17

    found = broken(older, "opset19.int8.onnx", "tensorrt-11")
    assert any(line.startswith("scale: ") and "is fp16, which needs opset 19" in line for line in found)

    def fp32_scale(model: onnx.ModelProto) -> None:
        name = quantized_weight(model, "MatMul").input[1]
        put(model, name, numpy_helper.to_array(tensor(model, name)).astype(np.float32))

    found = broken(fp32_scale, "opset19.int8.onnx", "tensorrt-11")
    assert any(line.startswith("scale: ") and "is float32, its weight is not" in line for line in found)


def test_placement(broken: Callable[..., list[str]]) -> None:
    def on_a_residual(model: onnx.ModelProto) -> None:
        add = next(n for n in model.graph.node if n.op_type == "Add" and n.output[0] == "add")
        add.input[0] = first(model, "DequantizeLinear").output[0]
        model.graph.node.remove(add)
        model.graph.node.append(add)

    assert any("feeds Add" in line and "stay in float" in line for line in broken(on_a_residual))

    def on_a_softmax(model: onnx.ModelProto) -> None:
        first(model, "Softmax").input[0] = first(model, "DequantizeLinear").output[0]

    assert any("feeds Softmax" in line for line in broken(on_a_softmax))

    def half(model: onnx.ModelProto) -> None:
        matmul = next(n for n in model.graph.node if n.op_type == "MatMul" and n.input[0].endswith("_dequantized"))
        matmul.input[0] = matmul.input[0].removesuffix("_dequantized")

    assert any("input and weight are not both quantized" in line for line in broken(half))

    def int8_weight(model: onnx.ModelProto) -> None:
        node = quantized_weight(model, "MatMul")
        quantize = next(n for n in model.graph.node if n.output[0] == node.input[0])
        shape = numpy_helper.to_array(tensor(model, quantize.input[0])).shape
        model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.int8), "as_int8"))
        node.input[0] = "as_int8"

    assert any("TensorRT 8 refuses INT8 weights" in line for line in broken(int8_weight))

    def alone(model: onnx.ModelProto) -> None:
        quantize = first(model, "QuantizeLinear")
        model.graph.node.append(helper.make_node("Cast", [quantize.output[0]], ["x"], "c", to=TensorProto.FLOAT))

    assert any("is not followed by DequantizeLinear alone" in line for line in broken(alone))


def test_the_last_layer_and_products_of_activations(broken: Callable[..., list[str]]) -> None:
    def quantize(model: onnx.ModelProto, node: NodeProto, index: int, axis: int | None) -> None:
        name = node.input[index]
        count = () if axis is None else (numpy_helper.to_array(tensor(model, name)).shape[axis],)
        model.graph.initializer.append(numpy_helper.from_array(np.full(count, 0.01, np.float32), f"{name}_s"))
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(count, np.int8), f"{name}_z"))
        given = {} if axis is None else {"axis": axis}
        pair = [
            helper.make_node(op, [source, f"{name}_s", f"{name}_z"], [target], target, **given)  # type: ignore[arg-type]
            for op, source, target in (
                ("QuantizeLinear", name, f"{name}_i"),
                ("DequantizeLinear", f"{name}_i", f"{name}_f"),
            )
        ]
        node.input[index] = f"{name}_f"
        at = list(model.graph.node).index(node)
        for each in reversed(pair):
            model.graph.node.insert(at, each)

    def last(model: onnx.ModelProto) -> None:
        weights = {t.name for t in model.graph.initializer}
        node = [n for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in weights][-1]
        quantize(model, node, 1, 1)
        quantize(model, node, 0, None)

    assert any("the last layer is quantized" in line for line in broken(last))

    def product(model: onnx.ModelProto) -> None:
        made = {n.output[0] for n in model.graph.node if n.op_type in ("Transpose", "Softmax")}
        node = next(n for n in model.graph.node if n.op_type == "MatMul" and set(n.input) <= made)
        quantize(model, node, 1, None)
        quantize(model, node, 0, None)

    assert any("a quantized product of activations" in line for line in broken(product))


def test_conv1d_and_what_is_not_folded(broken: Callable[..., list[str]]) -> None:
    def one_dimension(model: onnx.ModelProto) -> None:
        quantize = next(n for n in model.graph.node if n.output[0] == quantized_weight(model, "Conv").input[0])
        put(model, quantize.input[0], numpy_helper.to_array(tensor(model, quantize.input[0]))[:, :, 0])

    assert any(line.startswith("conv1d: ") for line in broken(one_dimension))

    def identity(model: onnx.ModelProto) -> None:
        node = first(model, "LayerNormalization")
        model.graph.node.insert(0, helper.make_node("Identity", [node.input[1]], ["copy"], "identity"))
        node.input[1] = "copy"

    assert "unfolded: identity: Identity of constants alone; compute it at export" in broken(identity)


def test_weights_that_are_no_numbers(broken: Callable[..., list[str]]) -> None:
    def nan(model: onnx.ModelProto) -> None:
        name = first(model, "LayerNormalization").input[1]
        values = numpy_helper.to_array(tensor(model, name)).copy()
        values[0] = np.nan
        put(model, name, values)

    assert any(line.startswith("weights: ") for line in broken(nan))
    assert any(line.startswith("weights: ") for line in broken(nan, "opset17.fp32.onnx", "onnxruntime"))


def test_weights_beside_the_graph(jetson_bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "opset13.fp32.onnx"
    path.write_bytes((jetson_bundle.root / "tensorrt" / path.name).read_bytes())
    assert any(str(f).endswith("weights.bin is missing") for f in lint(path, "tensorrt-8.5"))
    (tmp_path / "weights.bin").write_bytes(b"short")
    assert any("lies beyond the end of weights.bin" in str(f) for f in lint(path, "tensorrt-8.5"))
    model = onnx.load(path, load_external_data=False)
    for each in model.graph.initializer:
        for entry in each.external_data:
            if entry.key == "location":
                entry.value = "../../etc/passwd"
    path.write_bytes(model.SerializeToString())
    assert any("is not a file in the folder of the graph" in str(f) for f in lint(path, "tensorrt-8.5"))


@pytest.mark.parametrize("data", [b"", b"\x00" * 40, b"not a graph", "∂".encode() * 999])
def test_no_onnx_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(data)
    with pytest.raises(DataError, match="is no ONNX file"):
        lint(path, "onnxruntime")
    with pytest.raises(DataError, match="cannot be read"):
        lint(tmp_path / "absent.onnx", "onnxruntime")


def test_a_byte_anywhere_gives_findings_and_no_traceback(jetson_bundle: Bundle, tmp_path: Path) -> None:
    data = bytearray((jetson_bundle.root / "tensorrt" / "opset13.int8.onnx").read_bytes())
    (tmp_path / "weights.bin").write_bytes((jetson_bundle.root / "tensorrt" / "weights.bin").read_bytes())
    path = tmp_path / "x.onnx"
    for position in np.random.default_rng(0).integers(0, len(data), 25).tolist():
        flipped = bytearray(data)
        flipped[position] ^= 0xFF
        path.write_bytes(flipped)
        with suppress(DataError):
            assert not any("\n" in str(finding) for finding in lint(path, "tensorrt-8.5"))


def test_require_clean_names_the_first(jetson_bundle: Bundle) -> None:
    path = jetson_bundle.root / "tensorrt" / "opset19.fp16.onnx"
    with pytest.raises(VerificationError, match=r"opset19\.fp16\.onnx breaks a rule of tensorrt-8\.5: opset"):
        require_clean(path, "tensorrt-8.5")


def test_the_command(jetson_bundle: Bundle) -> None:
    folder = jetson_bundle.root / "tensorrt"
    command = [sys.executable, "-m", "edgepain", "lint", str(folder / "opset13.int8.onnx"), "--for", "tensorrt-8.5"]
    clean = subprocess.run(command, capture_output=True, text=True, check=False)
    assert clean.returncode == 0, clean.stderr
    assert "nothing to complain of by the rules of tensorrt-8.5" in clean.stdout
    broken = subprocess.run([*command, str(folder / "opset19.fp16.onnx")], capture_output=True, text=True, check=False)
    assert broken.returncode == 5
    assert "  opset: opset_import: 19, tensorrt-8.5 takes 13 to 17" in broken.stdout
    assert broken.stderr.strip() == "error: 1 of 2 graphs break rules of tensorrt-8.5; export them again"
