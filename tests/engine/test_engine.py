"""Engines on real bundles and real damage."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.external_data_helper import set_external_data

from edgepain.bundle import Bundle, open_bundle, write_manifest
from edgepain.engine import open_engine, softmax
from edgepain.engine.onnx import file_to_load
from edgepain.errors import BundleError, BundleMismatchError, VerificationError


def rewritten(bundle: Bundle, **changes: object) -> Bundle:
    """The bundle with new contents or facts, its hashes made right again."""
    return write_manifest(bundle.root, msgspec.structs.replace(bundle.manifest, **changes))


def edit_golden(bundle: Bundle, name: str, add: float) -> Bundle:
    path = bundle.root / "golden.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays[name][0, 0] += add
    np.savez(path, **arrays)
    return rewritten(bundle)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_answers_as_at_export(exported: Bundle, precision: str) -> None:
    engine = open_engine(exported, precision)
    golden = exported.golden()
    assert engine.precision == precision
    assert precision in engine.description
    np.testing.assert_allclose(engine.predict(golden.windows), golden.logits[precision], atol=1e-5)


def test_int8_is_the_default(exported: Bundle) -> None:
    assert open_engine(exported).precision == "int8"


def test_windows_are_answered_one_by_one_in_order(exported: Bundle) -> None:
    engine = open_engine(exported)
    windows = exported.golden().windows[:5]
    single = np.concatenate([engine.predict(w[None]) for w in windows])
    np.testing.assert_array_equal(engine.predict(windows), single)
    assert engine.predict(windows[:0]).shape == (0, 2)


@pytest.mark.parametrize("shape", [(2, 40), (1, 3, 40), (1, 2, 39)])
def test_other_shapes_are_refused(exported: Bundle, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="windows must be float32"):
        open_engine(exported).predict(np.zeros(shape, np.float32))


def test_float64_is_refused(exported: Bundle) -> None:
    with pytest.raises(ValueError, match="float64"):
        open_engine(exported).predict(np.zeros((1, 2, 40)))  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_other_golden_answers_are_an_error(bundle_copy: Bundle, precision: str) -> None:
    bundle = edit_golden(bundle_copy, f"logits_{precision}", 2.0)
    with pytest.raises(VerificationError, match="golden windows"):
        open_engine(bundle, precision)
    open_engine(bundle, precision, check=False)


def test_golden_answers_within_tolerance_pass(bundle_copy: Bundle) -> None:
    open_engine(edit_golden(bundle_copy, "logits_fp32", 1e-4), "fp32")


def test_not_a_number_in_golden_answers_is_an_error(bundle_copy: Bundle) -> None:
    with pytest.raises(VerificationError):
        open_engine(edit_golden(bundle_copy, "logits_fp32", float("nan")), "fp32")


def test_a_clear_label_that_changes_is_an_error_within_the_tolerance_too(bundle_copy: Bundle) -> None:
    path = bundle_copy.root / "golden.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    probabilities = softmax(arrays["logits_fp32"])
    row = int(probabilities.max(axis=1).argmin())
    clear = float(probabilities[row].max())
    assert clear < 0.9, "no golden window to turn round"
    # The other label, clearer: a margin of 0.98, which no probability has to move by to change the label.
    arrays["logits_fp32"][row] = np.where(probabilities[row].argmax() == np.arange(2), np.log(0.01), np.log(0.99))
    np.savez(path, **arrays)
    graphs = tuple(msgspec.structs.replace(g, golden_tolerance=0.95) for g in bundle_copy.manifest.graphs)
    with pytest.raises(VerificationError, match="1 of 32 labels changed"):
        open_engine(rewritten(bundle_copy, graphs=graphs), "fp32")


@pytest.mark.parametrize("content", [b"", b"not onnx", bytes(range(256)) * 50])
def test_what_is_no_graph_is_refused(bundle_copy: Bundle, content: bytes) -> None:
    (bundle_copy.root / "model.onnx").write_bytes(content)
    graphs = tuple(msgspec.structs.replace(g, optimized=None) for g in bundle_copy.manifest.graphs)
    with pytest.raises(BundleError, match=r"model\.onnx"):
        open_engine(rewritten(bundle_copy, graphs=graphs), "fp32")


def test_an_optimized_graph_is_loaded_where_it_fits_and_answers_the_same(bundle_copy: Bundle) -> None:
    windows = bundle_copy.golden().windows
    expected = open_engine(bundle_copy, "int8").predict(windows)
    graph = bundle_copy.graph("int8")
    assert graph.optimized
    assert file_to_load(graph) == "model.int8.ort"
    for other in ({"onnxruntime": "1.0.0"}, {"processor": "riscv64"}):
        elsewhere = msgspec.structs.replace(graph, optimized=msgspec.structs.replace(graph.optimized, **other))
        assert file_to_load(elsewhere) == "model.int8.onnx"
        graphs = tuple(elsewhere if g.precision == "int8" else g for g in bundle_copy.manifest.graphs)
        np.testing.assert_allclose(
            open_engine(rewritten(bundle_copy, graphs=graphs), "int8").predict(windows), expected, atol=1e-5
        )
    (bundle_copy.root / "model.int8.ort").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"model\.int8\.ort cannot be loaded"):
        open_engine(rewritten(bundle_copy), "int8")


def test_truncated_graph_is_refused_even_with_its_hash_made_right(bundle_copy: Bundle) -> None:
    path = bundle_copy.root / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1000])
    graphs = tuple(msgspec.structs.replace(g, optimized=None) for g in bundle_copy.manifest.graphs)
    with pytest.raises(BundleError):
        open_engine(rewritten(bundle_copy, graphs=graphs), "fp32")


def test_graph_of_another_shape_is_refused(bundle_copy: Bundle) -> None:
    network = msgspec.structs.replace(bundle_copy.manifest.network, steps=41)
    window = msgspec.structs.replace(bundle_copy.manifest.window, steps=41)
    with pytest.raises(BundleError, match=r"\[1, 2, 40\].*\[1, 2, 41\]"):
        open_engine(rewritten(bundle_copy, network=network, window=window), "fp32", check=False)


def test_precision_that_is_not_there_is_refused(bundle_copy: Bundle) -> None:
    graphs = tuple(g for g in bundle_copy.manifest.graphs if g.precision == "fp32")
    with pytest.raises(BundleMismatchError, match="no int8 graph"):
        open_engine(rewritten(bundle_copy, graphs=graphs), "int8")


def external_tensor(model: onnx.ModelProto, where: str) -> onnx.TensorProto:
    """A tensor of the model that is loaded with it, in one of the places that hold tensors."""
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "elsewhere")
    if where == "initializer":
        model.graph.initializer.append(tensor)
        return model.graph.initializer[-1]
    if where == "constant":
        model.graph.node.insert(0, helper.make_node("Constant", [], ["elsewhere"], value=tensor))
        return model.graph.node[0].attribute[0].t
    body = helper.make_graph([helper.make_node("Identity", ["elsewhere"], ["out"])], "body", [], [], [tensor])
    model.graph.node.append(helper.make_node("If", ["yes"], ["out"], then_branch=body, else_branch=body))
    return model.graph.node[-1].attribute[0].g.initializer[0]


@pytest.mark.parametrize("where", ["initializer", "constant", "branch"])
@pytest.mark.parametrize(
    ("location", "length", "complaint"),
    [
        ("../outside.bin", 16, "no file of the bundle"),
        ("/etc/hostname", 16, "no file of the bundle"),
        ("sub/../../outside.bin", 16, "no file of the bundle"),
        ("manifest.json", 16, "no file of the bundle"),
        ("*/_ORT_MEM_ADDR_/*", 16, "no file of the bundle"),
        ("golden.npz", 1 << 40, "beyond the end of golden.npz"),
    ],
)
def test_weights_elsewhere_are_refused_before_the_runtime_sees_them(
    bundle_copy: Bundle, where: str, location: str, length: int, complaint: str
) -> None:
    (bundle_copy.root.parent / "outside.bin").write_bytes(bytes(16))
    path = bundle_copy.root / "model.onnx"
    model = onnx.load(path)
    set_external_data(external_tensor(model, where), location, 0, length)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=complaint):
        rewritten(bundle_copy)


def test_weights_in_a_file_of_the_bundle_are_read(bundle_copy: Bundle) -> None:
    path = bundle_copy.root / "model.onnx"
    model = onnx.load(path)
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    (bundle_copy.root / "weights.bin").write_bytes(tensor.raw_data)
    set_external_data(tensor, "weights.bin", 0, len(tensor.raw_data))
    tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    open_engine(rewritten(bundle_copy), "fp32")


def test_opening_imports_no_torch_and_no_onnx(exported: Bundle) -> None:
    code = (
        "import sys; from edgepain.bundle import open_bundle; from edgepain.engine import open_engine;"
        f"open_engine(open_bundle({str(exported.root)!r}));"
        "sys.exit(', '.join({'torch', 'onnx', 'pandas', 'scipy'} & sys.modules.keys()) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_runtime_leaves_no_traces_for_its_maker(exported: Bundle, tmp_path: Path) -> None:
    """ONNX Runtime 1.32 keeps an id of the machine under HOME and reports home, unless it is told not to."""
    code = (
        "from edgepain.bundle import open_bundle; from edgepain.engine import open_engine;"
        f"open_engine(open_bundle({str(exported.root)!r}))"
    )
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment = {**kept, "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert list(tmp_path.iterdir()) == []


def test_softmax_of_large_logits() -> None:
    probabilities = softmax(np.array([[1e4, 0.0], [0.0, 0.0]], np.float32))
    np.testing.assert_allclose(probabilities, [[1.0, 0.0], [0.5, 0.5]])


def test_copies_open_like_the_original(bundle_copy: Bundle) -> None:
    assert open_bundle(bundle_copy.root).manifest == bundle_copy.manifest
