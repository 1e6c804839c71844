"""Graphs for TensorRT: valid for the opset they name, the same function as torch, quantized by the rules."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, numpy_helper
from rich.console import Console

from edgepain.bundle import Bundle, NetworkSpec, open_bundle
from edgepain.cli.tensorrt_table import tensorrt_note, tensorrt_table
from edgepain.engine import softmax
from edgepain.engine.onnx import session_options
from edgepain.engine.tensorrt.recipe import Recipe, graph_sha256, read_recipe, write_recipe
from edgepain.errors import BundleError, BundleMismatchError, VerificationError
from edgepain.export import Limits, export_run
from edgepain.export.jetson.form import tensorrt_form
from edgepain.export.jetson.half import in_fp16
from edgepain.export.jetson.opset import at_opset
from edgepain.export.jetson.qdq import quantizable, with_qdq
from edgepain.export.jetson.quantized import choose_int8, logits
from edgepain.export.jetson.ranges import measure_ranges
from edgepain.export.trace import trace
from edgepain.signal import Modality

HEART = (Modality.EDA, Modality.ECG)


def walks(count: int, steps: int = 40, seed: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(size=(count, 2, steps)), axis=2).astype(np.float32)


@pytest.fixture(scope="module", params=["pooled", "sequence"])
def network(request: pytest.FixtureRequest, small_run: Any) -> Any:
    return small_run(NetworkSpec(HEART, 3, request.param, 40, 32, 4)).network()


@pytest.fixture(scope="module")
def form(network: Any) -> onnx.ModelProto:
    return tensorrt_form(trace(network))


@pytest.fixture(scope="module")
def expected(network: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    with torch.no_grad():
        return network(torch.from_numpy(walks(8))).numpy()


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("opset", [13, 17, 19])
def test_every_opset_is_the_same_function(form: onnx.ModelProto, expected: Any, opset: int) -> None:
    model = at_opset(form, opset)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", opset)]
    assert np.abs(softmax(logits(model, walks(8))) - softmax(expected)).max() < 1e-5
    assert np.ptp(softmax(expected), axis=0).max() > 0.02, "the windows do not tell the answers apart"
    # Every operator is one that this opset really has, with its own attributes and inputs.
    for node in model.graph.node:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
        assert {a.name for a in node.attribute} <= schema.attributes.keys(), node
        assert schema.min_input <= len(node.input) <= schema.max_input, node
    assert operators(model)["LayerNormalization"] == (0 if opset == 13 else 12)
    assert not operators(model).keys() & {"Gemm", "Identity", "Constant", "Dropout", "BatchNormalization"}


def test_convolutions_are_pictures_of_height_one(form: onnx.ModelProto) -> None:
    shapes = {t.name: tuple(t.dims) for t in form.graph.initializer}
    kernels = [shapes[n.input[1]] for n in form.graph.node if n.op_type == "Conv"]
    assert len(kernels) == 6
    assert all(len(k) == 4 and k[2] == 1 for k in kernels)
    # One pair of reshapes a stream, not one a convolution.
    for op, names in (("Unsqueeze", "output"), ("Squeeze", "input")):
        found = [n for n in form.graph.node if n.op_type == op and getattr(n, names)[0].endswith("_picture")]
        assert len(found) == 2, op


def test_an_artefact_does_not_overflow_the_norm_in_fp16(form: onnx.ModelProto) -> None:
    """At opset 13 the builder's FP16 squares what the norm has centred; 255 is the root of fp16's largest number."""
    nodes = [n for n in at_opset(form, 13).graph.node if n.output[0].endswith("_square")]
    assert len(nodes) == 12
    assert all(set(n.input) == {n.output[0].replace("_square", "_small")} for n in nodes)


def test_fp16_is_fp16_throughout_and_near(form: onnx.ModelProto, expected: Any) -> None:
    model = in_fp16(at_opset(form, 19))
    assert {t.data_type for t in model.graph.initializer} <= {TensorProto.FLOAT16, TensorProto.INT64}
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    halves = {v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    assert halves <= {TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BOOL}
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert np.abs(softmax(logits(model, walks(8))) - softmax(expected)).max() < 0.01


def test_how_onnx_runtime_runs_fp16_on_this_cpu(form: onnx.ModelProto, tmp_path: Path) -> None:
    """By casts: fp16 tensors between operators, fp32 inside those that have no kernel of their own, as the LSTM."""
    path = tmp_path / "half.onnx"
    onnx.save(in_fp16(at_opset(form, 19)), path)
    options = session_options()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = onnx.load(tmp_path / "optimized.onnx")
    assert operators(found)["Cast"] > 2
    casts = {name for n in found.graph.node if n.op_type == "Cast" for name in n.output}
    lstm = next(n for n in found.graph.node if n.op_type == "LSTM")
    assert lstm.input[0] in casts


def test_a_weight_beyond_fp16_is_told(form: onnx.ModelProto) -> None:
    model = at_opset(form, 19)
    weight = next(t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + np.float32(1e6), weight.name))
    with pytest.raises(ValueError, match="beyond 65504"):
        in_fp16(model)


@pytest.mark.parametrize("opset", [13, 17, 19])
def test_int8_is_near_and_where_it_belongs(form: onnx.ModelProto, expected: Any, opset: int) -> None:
    layers = quantizable(form)
    ranges = measure_ranges(form, sorted({n.input[0] for n in layers}), walks(32, seed=2), [100.0])[100.0]
    graph = at_opset(form, opset)
    if opset == 19:
        graph = in_fp16(graph)
    model = with_qdq(graph, ranges, [n.name for n in layers])
    assert np.abs(softmax(logits(model, walks(8))) - softmax(expected)).mean() < 0.02
    made = {name: n for n in model.graph.node for name in n.output}
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    takers = [n for n in model.graph.node if any(made[i].op_type == "DequantizeLinear" for i in n.input if i in made)]
    assert Counter(n.op_type for n in takers) == Counter(n.op_type for n in layers)
    assert operators(model)["Conv"] - Counter(n.op_type for n in takers)["Conv"] == 2, "the first ones stay in float"
    for node in takers:
        for index, name in enumerate(node.input[:2]):
            dequantize = made[name]
            assert not weights[dequantize.input[2]].any()
            assert weights[dequantize.input[2]].dtype == np.int8
            scale = weights[dequantize.input[1]]
            channels = (
                weights[made[dequantize.input[0]].input[0]].shape[0 if node.op_type == "Conv" else 1] if index else 0
            )
            assert scale.shape == ((channels,) if index else ())
    # The same input quantized once, however many layers take it; and a residual sum takes what was not quantized.
    quantized = [n.input[0] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert len(quantized) == len(set(quantized))
    for node in model.graph.node:
        if node.op_type in ("Add", "Softmax", "LSTM", "LayerNormalization"):
            assert not any(name in made and made[name].op_type == "DequantizeLinear" for name in node.input)


def test_ranges_are_those_of_the_windows(form: onnx.ModelProto) -> None:
    node = next(n for n in form.graph.node if n.op_type == "LSTM")
    (found,) = measure_ranges(form, [node.input[0]], walks(20), [100.0]).values()
    assert found[node.input[0]] == pytest.approx(float(np.abs(walks(20)[:, 0]).max()), rel=1e-6)
    by_percentile = measure_ranges(form, [node.input[0]], walks(20), [50.0, 99.0])
    for percentile, ranges in by_percentile.items():
        right = float(np.percentile(np.abs(walks(20)[:, 0]), percentile))
        assert ranges[node.input[0]] == pytest.approx(right, rel=0.02)


def test_layers_that_do_not_bear_int8_go_back_to_float(form: onnx.ModelProto, monkeypatch: Any) -> None:
    import edgepain.export.jetson.quantized as quantized

    free = choose_int8(form, walks(32, seed=2), walks(32, seed=3))
    monkeypatch.setattr(quantized, "MAX_DIFFERENCE", free.mean_probability_difference / 3)
    kept = choose_int8(form, walks(32, seed=2), walks(32, seed=3))
    assert len(kept.sensitive) > len(free.sensitive)
    assert kept.mean_probability_difference <= free.mean_probability_difference / 3
    assert not set(kept.sensitive) & set(kept.layers)


def test_the_bundle_carries_it_all(jetson_bundle: Bundle) -> None:
    recipe = read_recipe(jetson_bundle)
    spans = [(v.since, v.below, v.strongly_typed, [g.opset for g in v.graphs]) for v in recipe.variants]
    assert spans == [
        ((8, 5), (8, 6), False, [13, 13]),
        ((8, 6), (10, 13), False, [17, 17]),
        ((10, 13), (12, 0), True, [19, 19]),
    ]
    for version, file in (
        ((8, 5, 2), "opset13"),
        ((8, 6, 2), "opset17"),
        ((10, 3, 0, 26), "opset17"),
        ((11, 4), "opset19"),
    ):
        for precision in ("fp16", "int8"):
            assert recipe.variant(version).graph(precision).file.startswith(f"tensorrt/{file}.")
    with pytest.raises(
        BundleMismatchError, match=r"graphs for TensorRT 8\.5 up to, not including, 12\.0, this is 12\.1"
    ):
        recipe.variant((12, 1))
    for variant in recipe.variants:
        for graph in variant.graphs:
            assert graph.flags == (
                () if variant.strongly_typed else {"fp16": ("FP16",), "int8": ("INT8", "FP16")}[graph.precision]
            )
            assert sum(a.changed_labels for a in graph.answers) <= 2
            if graph.precision == "int8":
                assert graph.quantized_operators["Conv"] == 4
                assert graph.float_operators["LSTM"] == 4
                assert graph.int8_weight_share > 0.8
            exact = graph.precision == "fp16" and not variant.strongly_typed
            assert max(a.max_probability_difference for a in graph.answers) < (1e-4 if exact else 0.05)
    assert (jetson_bundle.root / "model.onnx").is_file()
    assert (jetson_bundle.root / "calibration.npz").is_file()
    assert "tensorrt_int8" in jetson_bundle.golden().logits


def test_the_table_says_what_was_judged(jetson_bundle: Bundle) -> None:
    recipe = read_recipe(jetson_bundle)
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(tensorrt_table(recipe))
    text = console.export_text()
    assert "judged in ONNX Runtime on the CPU; no engine was built" in text
    for variant in recipe.variants:
        for graph in variant.graphs:
            assert graph.file in text
    note = tensorrt_note(recipe)
    kept = recipe.calibration.sensitive_layers
    assert f"percentile {recipe.calibration.percentile:g}" in note
    assert (", ".join(kept) if kept else "no layer had to go back to float") in note


def test_weights_lie_once(jetson_bundle: Bundle) -> None:
    folder = jetson_bundle.root / "tensorrt"
    total = sum(p.stat().st_size for p in folder.iterdir())
    plain = (jetson_bundle.root / "model.onnx").stat().st_size
    assert (folder / "weights.bin").stat().st_size < 1.7 * plain, "fp32 and fp16, not one copy a graph"
    assert total < 3 * plain


def test_the_hash_of_a_graph_covers_its_weights(jetson_bundle: Bundle) -> None:
    graph = read_recipe(jetson_bundle).variants[0].graphs[0]
    files = dict(jetson_bundle.manifest.files)
    files["tensorrt/weights.bin"] = msgspec.structs.replace(files["tensorrt/weights.bin"], sha256="0" * 64)
    other = Bundle(jetson_bundle.root, msgspec.structs.replace(jetson_bundle.manifest, files=files))
    assert graph_sha256(other, graph) != graph_sha256(jetson_bundle, graph)


def test_calibration_is_of_training_subjects(small_run: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Windows of held-out people are marked by a value that none of the calibration may reach."""
    import edgepain.export.jetson.target as target

    seen: list[Any] = []
    real = target.choose_int8
    monkeypatch.setattr(target, "choose_int8", lambda form, *sets: seen.extend(sets) or real(form, *sets))
    marked = small_run(held_out_marker=1e4)
    generous = Limits(1.0, 1.0, 1.0, 1.0)
    bundle = export_run(marked, tmp_path / "b", limits=generous, target="jetson")
    assert len(seen) == 2
    assert max(np.abs(windows).max() for windows in seen) < 100
    assert np.abs(bundle.golden().windows).max() > 100, "the mark is not seen in held-out windows either"


def test_a_graph_past_the_limits_leaves_no_bundle(small_run: Any, tmp_path: Path) -> None:
    expected = r"opset\d+\.(int8|fp16)\.onnx \(for TensorRT\): .* or export --target cpu"
    limits = Limits(1e-4, 1.0, 1.0, 1e-9)
    with pytest.raises(VerificationError, match=expected):
        export_run(small_run(), tmp_path / "b", precisions=("fp32",), target="jetson", limits=limits)
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_without_graphs_for_tensorrt(exported: Bundle) -> None:
    with pytest.raises(BundleMismatchError, match="export it again with --target jetson"):
        read_recipe(exported)


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 99}', '{"schema": 1}', "\x00"])
def test_any_recipe_gives_a_line(jetson_bundle: Bundle, tmp_path: Path, text: str) -> None:
    root = shutil.copytree(jetson_bundle.root, tmp_path / "b")
    (root / "tensorrt" / "recipe.json").write_text(text)
    with pytest.raises(BundleError) as caught:
        read_recipe(Bundle(root, jetson_bundle.manifest))
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match=r"recipe\.json"):
        open_bundle(root)


def test_a_recipe_that_names_other_files(jetson_bundle: Bundle, tmp_path: Path) -> None:
    root = shutil.copytree(jetson_bundle.root, tmp_path / "b")
    recipe = read_recipe(jetson_bundle)
    builtins = msgspec.to_builtins(recipe)
    builtins["variants"][0]["graphs"][0]["file"] = "../../elsewhere.onnx"
    write_recipe(root, msgspec.convert(builtins, Recipe))
    with pytest.raises(BundleError, match="which the bundle does not have"):
        read_recipe(Bundle(root, jetson_bundle.manifest))


def test_a_graph_that_the_manifest_does_not_list_is_refused(jetson_bundle: Bundle, tmp_path: Path) -> None:
    root = shutil.copytree(jetson_bundle.root, tmp_path / "b")
    (root / "tensorrt" / "added.onnx").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"added\.onnx"):
        open_bundle(root)


def test_reading_the_recipe_needs_no_onnx_and_no_torch(jetson_bundle: Bundle) -> None:
    code = (
        "import sys; from edgepain.bundle import open_bundle; from edgepain.engine.tensorrt.recipe import read_recipe\n"
        "import edgepain.engine.tensorrt.build, edgepain.engine.tensorrt.open\n"
        "read_recipe(open_bundle(sys.argv[1]))\n"
        "assert not {'onnx', 'torch', 'tensorrt'} & sys.modules.keys()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(jetson_bundle.root)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
