"""Exports of a small network with random weights: what ONNX Runtime answers, what the bundle says, what is left."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from edgepain.bundle import Bundle, NetworkSpec, open_bundle
from edgepain.engine import open_engine, softmax
from edgepain.engine.onnx import session_options
from edgepain.errors import ConfigError, DataError, EdgepainError, VerificationError
from edgepain.export import Limits, export_run
from edgepain.export.quantize import coverage, quantize
from edgepain.export.rewrite import LeanNetwork
from edgepain.export.trace import trace
from edgepain.export.verify import compare, require_within
from edgepain.export.windows import Condition
from edgepain.signal import Modality

HEART = (Modality.EDA, Modality.ECG)


def windows(count: int, steps: int = 40, seed: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(size=(count, 2, steps)), axis=2).astype(np.float32)


def optimized_operators(path: Path, tmp_path: Path) -> Counter[str]:
    """Operators that ONNX Runtime really runs."""
    options = session_options()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    model = onnx.load(tmp_path / "optimized.onnx", load_external_data=False)
    return Counter(node.op_type for node in model.graph.node)


def shapes_of(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    return [*graph.input, *graph.value_info]


@pytest.mark.parametrize("fusion", ["pooled", "sequence"])
@pytest.mark.parametrize(("classes", "steps", "stride"), [(2, 40, 1), (3, 40, 1), (2, 42, 4)])
def test_lean_network_is_the_same_function(small_run: Any, fusion: str, classes: int, steps: int, stride: int) -> None:
    network = small_run(NetworkSpec(HEART, classes, fusion, steps, 32, 4, stride)).network()
    x = torch.from_numpy(windows(8, steps))
    with torch.no_grad():
        for powers in (False, True):
            lean = LeanNetwork(network, powers=powers)
            found = torch.cat([lean(window) for window in torch.split(x, 1)])
            torch.testing.assert_close(found, network(x), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("artefact", [1e3, 1e6])
@pytest.mark.parametrize(("gain", "exponentials"), [(0.2, 6), (1.0, 6), (40.0, 0)])
def test_a_softmax_needs_its_maximum_only_where_weights_are_large(
    small_run: Any, gain: float, exponentials: int, artefact: float
) -> None:
    network = small_run(NetworkSpec(HEART, 2, "pooled", 40, 32, 4)).network()
    for stream in network.streams.values():
        fusion = stream.transformer.fusion
        for attention in (fusion.cross_a, fusion.cross_b, fusion.encoder_b.attention):
            attention.query.weight.data *= gain
    model = trace(network)
    assert Counter(node.op_type for node in model.graph.node)["Exp"] == exponentials
    session = ort.InferenceSession(model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"])
    x = artefact * windows(8)
    found = np.concatenate([session.run(["logits"], {"window": w[None]})[0] for w in x])
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(softmax(found), softmax(expected), atol=1e-5)


@pytest.mark.parametrize("fusion", ["pooled", "sequence"])
@pytest.mark.parametrize(("steps", "stride"), [(40, 1), (42, 4)])
def test_traced_graph_answers_like_torch(small_run: Any, fusion: str, steps: int, stride: int) -> None:
    network = small_run(NetworkSpec(HEART, 3, fusion, steps, 32, 4, stride)).network()
    model = trace(network)
    session = ort.InferenceSession(model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"])
    x = windows(8, steps)
    found = np.concatenate([session.run(["logits"], {"window": w[None]})[0] for w in x])
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    assert np.abs(softmax(found) - softmax(expected)).max() < 1e-5
    assert np.ptp(softmax(expected), axis=0).max() > 0.02, "the windows do not tell the answers apart"
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators["LSTM"] == 4
    assert operators["Conv"] == 6
    assert not operators.keys() & {"BatchNormalization", "Dropout", "Loop", "Scan"}
    assert operators["Pad"] == (0 if stride == 1 else 2)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in shapes_of(model)}
    for node in model.graph.node:
        if node.op_type == "Transpose":
            (moved,) = ([axis for axis in a.ints if shapes[node.input[0]][axis] != 1] for a in node.attribute)
            assert moved != sorted(moved), f"{node.name} copies {shapes[node.input[0]]} and moves nothing"
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]


def test_graphs_say_nothing_of_the_machine_that_made_them(exported: Bundle) -> None:
    for graph in exported.manifest.graphs:
        data = (exported.root / graph.file).read_bytes()
        for trace_of in (b".py", b"torch.nn", b"/home", b"Traceback", b"namespace"):
            assert trace_of not in data, (graph.file, trace_of)


def test_a_bundle_for_a_pi_holds_nothing_that_only_this_processor_loads(small_run: Any, tmp_path: Path) -> None:
    bundle = export_run(small_run(), tmp_path / "pi", target="rpi")
    assert [graph.optimized for graph in bundle.manifest.graphs] == [None, None]
    assert not list(bundle.root.glob("*.ort"))
    assert open_engine(bundle, "int8").precision == "int8"


def test_manifest_says_what_was_measured(exported: Bundle) -> None:
    rows = {(r.precision, r.scaling): r for r in exported.manifest.accuracy}
    assert rows.keys() == {(p, s) for p in ("torch", "fp32", "int8") for s in ("subject", "causal")}
    for (precision, _), row in rows.items():
        assert row.windows == 68
        assert (row.max_probability_difference == 0) == (precision == "torch")
        assert row.mean_probability_difference <= row.max_probability_difference
        assert (row.mean_probability_difference == 0) == (precision == "torch")
    assert rows["fp32", "causal"].max_probability_difference < 1e-4
    assert rows["fp32", "causal"].changed_labels == 0


def test_int8_graph_runs_in_int8(exported: Bundle, tmp_path: Path) -> None:
    operators = optimized_operators(exported.root / "model.int8.onnx", tmp_path)
    assert operators["QLinearConv"] == 4
    assert operators["DynamicQuantizeMatMul"] + operators["MatMulIntegerToFloat"] >= 40
    assert operators["Gemm"] + operators["FusedGemm"] == 3, "two attention scores and the last layer"
    assert operators["DynamicQuantizeLSTM"] == 4
    assert not operators["LSTM"]
    facts = exported.graph("int8")
    assert facts.quantized_operators["Conv"] == 4
    assert facts.quantized_operators["LSTM"] == 4
    assert facts.float_operators["Conv"] == 2
    assert facts.float_operators["Gemm"] == 3
    assert 0.75 < facts.int8_weight_share < 1
    assert exported.graph("fp32").quantized_operators == {}


def test_share_of_int8_weights_is_that_of_the_graph(exported: Bundle) -> None:
    model = onnx.load(exported.root / "model.int8.onnx")
    sizes = Counter[int]()
    for tensor in model.graph.initializer:
        sizes[tensor.data_type] += int(np.prod(tensor.dims))
    int8 = sizes[onnx.TensorProto.INT8]
    fp32 = onnx.load(exported.root / "model.onnx")
    total = sum(int(np.prod(t.dims)) for t in fp32.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    assert exported.graph("int8").int8_weight_share == pytest.approx(int8 / total, abs=0.02)


def test_golden_windows_are_held_out_ones_scaled_causally(exported: Bundle, small_run: Any) -> None:
    run = small_run()
    x, usable = run.part(run.split.held_out).scaled("causal")
    golden = exported.golden()
    assert len(golden.labels) == 32
    known = {w.tobytes() for w in x[usable]}
    assert all(w.tobytes() in known for w in golden.windows)
    with torch.no_grad():
        expected = run.network()(torch.from_numpy(golden.windows)).numpy()
    np.testing.assert_allclose(golden.logits["torch"], expected, atol=1e-4)


def test_nothing_of_held_out_subjects_reaches_the_quantization(small_run: Any, tmp_path: Path) -> None:
    plain = export_run(small_run(), tmp_path / "plain", precisions=("int8",), limits=Limits(1, 1, 1, 1))
    marked = export_run(
        small_run(held_out_marker=1e6), tmp_path / "marked", precisions=("int8",), limits=Limits(1, 1, 1, 1)
    )
    assert np.abs(marked.golden().windows).max() > 1e4, "the marker is in the held-out windows"
    for name in ("calibration.npz", "model.int8.onnx"):
        assert (plain.root / name).read_bytes() == (marked.root / name).read_bytes()
    with np.load(plain.root / "calibration.npz") as archive:
        calibration = archive["windows"]
    run = small_run()
    x, usable = run.part(run.split.train).scaled(run.scaling)
    assert {w.tobytes() for w in calibration} <= {w.tobytes() for w in x[usable]}
    assert [g.precision for g in plain.manifest.graphs] == ["int8"]


def test_calibration_windows_decide_the_ranges(exported: Bundle) -> None:
    model = onnx.load(exported.root / "model.onnx")
    small, large = (quantize(model, scale * windows(20), windows(10)).model for scale in (1, 10))
    assert small.SerializeToString() != large.SerializeToString()


def test_the_percentile_that_answers_best_is_taken(exported: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.load(exported.root / "model.onnx")
    monkeypatch.setattr("edgepain.export.quantize.PERCENTILES", (60.0, 100.0))
    assert quantize(model, windows(20), windows(10)).percentile == 100.0
    artefacts = windows(20)
    artefacts[0] *= 1e4
    monkeypatch.setattr("edgepain.export.quantize.PERCENTILES", (100.0, 95.0))
    assert quantize(model, artefacts, windows(10)).percentile == 95.0


@pytest.mark.parametrize(("limit", "value"), [("MAX_MEAN_DIFFERENCE", 0.0), ("MAX_CHANGED", -1.0)])
def test_sensitive_convolutions_and_lstm_stay_in_float(
    exported: Bundle, monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    model = onnx.load(exported.root / "model.onnx")
    relaxed = quantize(model, windows(20), windows(10))
    assert not relaxed.sensitive
    assert coverage(model, relaxed.model)[0]["Conv"] == 4
    monkeypatch.setattr(f"edgepain.export.quantize.{limit}", value)
    strict = quantize(model, windows(20), windows(10))
    assert len(strict.sensitive) == 8
    as_int8, as_float, _ = coverage(model, strict.model)
    assert not as_int8.keys() & {"Conv", "LSTM"}
    assert (as_float["Conv"], as_float["LSTM"]) == (6, 4)
    assert as_int8["Gemm"] > 0


def test_compact_bundle_shares_its_weights(small_run: Any, exported: Bundle, tmp_path: Path) -> None:
    bundle = export_run(small_run(), tmp_path / "compact", compact=True, demonstration=True, name="shown")
    assert bundle.manifest.demonstration
    assert bundle.manifest.name == "shown"
    assert any("rounded to INT8" in note for note in bundle.manifest.notes)
    files = bundle.manifest.files
    shared = files["model.onnx"].bytes + files["model.int8.onnx"].bytes + files["weights.bin"].bytes
    separate = exported.manifest.files["model.onnx"].bytes + exported.manifest.files["model.int8.onnx"].bytes
    assert shared < 0.8 * separate
    plain = optimized_operators(exported.root / "model.onnx", tmp_path)
    assert optimized_operators(bundle.root / "model.onnx", tmp_path) == plain, "Cast and Mul are folded at load"
    x = bundle.golden().windows
    difference = softmax(open_engine(bundle, "fp32").predict(x)) - softmax(open_engine(exported, "fp32").predict(x))
    assert 0 < np.abs(difference).max() < 0.1
    assert np.abs(open_engine(bundle, "int8").predict(x) - bundle.golden().logits["int8"]).max() < 1e-3


def judge(limits: Limits, changed: int, windows: int = 100) -> None:
    """Judge an INT8 graph that is sure of the wrong label in the first `changed` windows and like torch in the rest."""
    labels = np.append(np.zeros(windows - 1, np.int64), 1)
    reference = np.eye(2, dtype=np.float32)[labels]
    found = reference.copy()
    found[:changed] = [0.0, 1.0]
    torch_facts = compare("torch", Condition("causal"), labels, reference, reference)
    require_within(
        limits, compare("int8", Condition("causal"), labels, reference, found), torch_facts, exact_weights=False
    )


@pytest.mark.parametrize(
    ("share", "windows", "allowed"), [(0.0, 100, 0), (0.001, 100, 1), (0.02, 100, 2), (0.02, 10, 1), (1.0, 10, 10)]
)
def test_int8_limits(share: float, windows: int, allowed: int) -> None:
    changed_labels, accuracy_drop = Limits(1, share, 1, 1), Limits(1, 1, share, 1)
    for limits, what in ((changed_labels, "labels differ"), (accuracy_drop, "fewer windows")):
        judge(limits, allowed, windows)
        if allowed < windows:
            with pytest.raises(VerificationError, match=what):
                judge(limits, allowed + 1, windows)


def test_int8_probabilities_have_a_limit_on_average() -> None:
    labels = np.repeat([0, 1], 50)
    reference = np.tile(np.array([3.0, 0.0], np.float32), (100, 1))
    torch_facts = compare("torch", Condition("causal"), labels, reference, reference)
    one_swings = reference.copy()
    one_swings[0, 0] = 0.1
    facts = compare("int8", Condition("causal"), labels, reference, one_swings)
    assert facts.mean_probability_difference == pytest.approx(facts.max_probability_difference / 100)
    require_within(Limits(), facts, torch_facts, exact_weights=False)
    all_move = reference - np.array([0.6, 0.0], np.float32)
    facts = compare("int8", Condition("causal"), labels, reference, all_move)
    assert (facts.changed_labels, facts.accuracy) == (0, 0.5)
    with pytest.raises(VerificationError, match=r"differ from torch by 0.03\d on average, allowed is 0.02"):
        require_within(Limits(), facts, torch_facts, exact_weights=False)
    require_within(Limits(mean_probability_difference=0.04), facts, torch_facts, exact_weights=False)


def test_answers_that_are_no_numbers_fail_whatever_the_limits() -> None:
    labels = np.zeros(4, np.int64)
    reference = np.zeros((4, 2), np.float32)
    facts = compare("int8", Condition("causal"), labels, reference, np.full((4, 2), np.nan, np.float32))
    with pytest.raises(VerificationError, match="not finite"):
        require_within(Limits(1, 1, 1, 1), facts, facts, exact_weights=False)


def test_past_a_limit_nothing_changes_and_a_bundle_is_replaced_only_when_told(
    bundle_copy: Bundle, small_run: Any
) -> None:
    before = bundle_copy.manifest
    with pytest.raises(ConfigError, match="--force"):
        export_run(small_run(), bundle_copy.root)
    with pytest.raises(VerificationError, match="a probability differs from torch"):
        export_run(small_run(), bundle_copy.root, precisions=("fp32",), limits=Limits(0), force=True)
    assert open_bundle(bundle_copy.root).manifest == before
    assert {p.name for p in bundle_copy.root.parent.iterdir()} == {"copy"}
    after = export_run(small_run(), bundle_copy.root, precisions=("fp32",), name="other", force=True)
    assert after.manifest.name == "other"
    assert {p.name for p in bundle_copy.root.parent.iterdir()} == {"copy"}


def test_a_folder_of_something_else_is_never_replaced(small_run: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="is no bundle"):
        export_run(small_run(), tmp_path, force=True)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("place", ["file/bundle", "file/deep/bundle", "n" * 300])
def test_where_no_bundle_can_be_made(small_run: Any, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ConfigError, match=r"cannot be made a bundle .*; choose another --out"):
        export_run(small_run(), tmp_path / place)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """No file may grow beyond `limit` bytes meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_folders_made_for_a_bundle_go_with_it(small_run: Any, tmp_path: Path) -> None:
    out = tmp_path / "new" / "newer" / "bundle"
    with full_disk(100_000), pytest.raises(EdgepainError, match=r"cannot be written \(File too large\); make room"):
        export_run(small_run(), out, precisions=("fp32",))
    assert not list(tmp_path.iterdir())
    export_run(small_run(), out, precisions=("fp32",))
    assert [p.name for p in out.parent.iterdir()] == ["bundle"]


def test_a_class_without_held_out_windows_leaves_no_accuracy(small_run: Any, tmp_path: Path) -> None:
    class NoHistory(small_run):  # type: ignore[misc]
        """Held-out windows of class 1 have nothing before them, as in the first minute of a recording."""

        def part(self, subjects: tuple[str, ...]) -> Any:
            table = super().part(subjects)
            early = (subjects == self.split.held_out) & (table.labels == 1)
            return replace(table, history_seconds=np.where(early[:, None], 0.0, table.history_seconds))

    bundle = export_run(NoHistory(), tmp_path / "bundle", precisions=("fp32",))
    for row in bundle.manifest.accuracy:
        if row.scaling == "causal":
            assert (row.missing_classes, row.accuracy, row.balanced_accuracy) == ((1,), None, None)
            assert 0 < row.windows < 40
        else:
            assert row.missing_classes == ()
            assert row.accuracy is not None
            assert row.balanced_accuracy is not None


def test_without_usable_held_out_windows_there_is_no_export(small_run: Any, tmp_path: Path) -> None:
    class NoneUsable(small_run):  # type: ignore[misc]
        def part(self, subjects: tuple[str, ...]) -> Any:
            table = super().part(subjects)
            held_out = subjects == self.split.held_out
            return replace(table, quality_ok=np.zeros(len(table), np.bool_)) if held_out else table

    with pytest.raises(DataError, match="held-out"):
        export_run(NoneUsable(), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
