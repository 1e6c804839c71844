"""`export --target jetson`: the graphs for TensorRT of a bundle, judged, linted and written with their recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from edgepain.bundle import TargetFacts
from edgepain.engine.tensorrt.recipe import (
    FILE,
    FOLDER,
    SCHEMA,
    CalibrationFacts,
    EnginePrecision,
    GraphAnswers,
    Recipe,
    TensorRtGraph,
    Variant,
    write_recipe,
)
from edgepain.errors import VerificationError
from edgepain.export.compact import move_weights
from edgepain.export.graphs import Progress
from edgepain.export.jetson.form import tensorrt_form
from edgepain.export.jetson.half import in_fp16
from edgepain.export.jetson.opset import at_opset
from edgepain.export.jetson.qdq import with_qdq
from edgepain.export.jetson.quantized import Int8Choice, choose_int8, logits
from edgepain.export.lint import Rules, require_clean
from edgepain.export.quantize import COUNTED_OPERATORS, float_weights
from edgepain.export.trace import trace
from edgepain.export.verify import Limits, compare, require_within, torch_logits
from edgepain.export.windows import Condition, Labelled
from edgepain.train.models import CrossModTransformer

WORKSPACE_MB = 512
JUDGED_WINDOWS = 512
GOLDEN_INT8 = "tensorrt_int8"
# fp16 keeps 11 bits, and a GPU sums in an order of its own; INT8 as on the CPU (`graphs.GOLDEN_TOLERANCE`).
TOLERANCE: dict[EnginePrecision, float] = {"fp16": 0.02, "int8": 0.05}


@dataclass(frozen=True)
class _Versions:
    """A range of TensorRT versions, the opset that suits it, and what its parser and builder refuse."""

    since: tuple[int, int]
    below: tuple[int, int]
    opset: int
    strongly_typed: bool
    rules: Rules


# 8.5 does not know LayerNormalization, which came with opset 17; 10.13 deprecates the flags that 11 lacks.
VERSIONS = (
    _Versions((8, 5), (8, 6), 13, False, "tensorrt-8.5"),
    _Versions((8, 6), (10, 13), 17, False, "tensorrt-8.6"),
    _Versions((10, 13), (12, 0), 19, True, "tensorrt-11"),
)


@dataclass(frozen=True)
class Jetson:
    """What the bundle has to know of the graphs. golden: further answers [G, K] to its golden windows, by name."""

    facts: TargetFacts
    golden: Mapping[str, npt.NDArray[np.float32]]


def add_jetson(
    root: Path,
    network: CrossModTransformer,
    calibration: npt.NDArray[np.float32],
    trial: npt.NDArray[np.float32],
    held_out: Mapping[Condition, Labelled],
    golden: npt.NDArray[np.float32],
    limits: Limits,
    tell: Progress,
) -> Jetson:
    """Write graphs, weights and recipe to `root/tensorrt`.

    calibration, trial: windows [N, M, S] of training subjects; golden: windows [G, M, S]. Every graph is judged in
    ONNX Runtime on at most 512 windows of each condition of `held_out`. Raises VerificationError where one is
    further from torch than `limits`, or breaks a rule of the TensorRT it is for.
    """
    tell("tracing the network for TensorRT")
    form = tensorrt_form(trace(network, powers=False))
    tell(f"choosing INT8 for TensorRT on {len(calibration) + len(trial)} windows of training subjects")
    sample = {condition: _sample(part) for condition, part in held_out.items()}
    expected = {condition: torch_logits(network, part.windows) for condition, part in sample.items()}
    choice = choose_int8(form, calibration, trial)
    folder = root / FOLDER
    folder.mkdir()
    models = {(v, p): model for v in VERSIONS for p, model in _graphs(form, v, choice)}
    files = {(v, p): f"{FOLDER}/opset{v.opset}.{_written_in(v, p)}.onnx" for v, p in models}
    answers = {GOLDEN_INT8: logits(models[VERSIONS[1], "int8"], golden)}
    move_weights(models.values(), folder)
    for key, model in models.items():
        onnx.save(model, root / files[key])
    variants = []
    for versions in VERSIONS:
        graphs = []
        for precision in ("fp16", "int8"):
            file = files[versions, precision]
            tell(f"judging {file}")
            require_clean(root / file, versions.rules)
            exact = precision == "fp16" and not versions.strongly_typed
            judged = _judge(root / file, sample, expected, limits, exact)
            graphs.append(_facts(form, choice, file, precision, versions, judged))
        variants.append(Variant(versions.since, versions.below, versions.strongly_typed, tuple(graphs)))
    calibrated = CalibrationFacts(
        len(calibration), choice.percentile, choice.mean_probability_difference, choice.sensitive
    )
    write_recipe(root, Recipe(SCHEMA, WORKSPACE_MB, calibrated, tuple(variants)))
    return Jetson(TargetFacts("jetson", FILE), answers)


def _written_in(versions: _Versions, precision: EnginePrecision) -> str:
    return precision if versions.strongly_typed or precision == "int8" else "fp32"


def _graphs(
    form: onnx.ModelProto, versions: _Versions, choice: Int8Choice
) -> Iterator[tuple[EnginePrecision, onnx.ModelProto]]:
    """The graph of an fp16 engine and that of an INT8 engine. Weakly typed, fp32 becomes fp16 by the builder's flag."""
    graph = at_opset(form, versions.opset)
    if versions.strongly_typed:
        graph = in_fp16(graph)
    yield "fp16", graph
    yield "int8", with_qdq(graph, choice.ranges, choice.layers)


def _sample(part: Labelled) -> Labelled:
    rows = np.unique(np.linspace(0, len(part.labels) - 1, JUDGED_WINDOWS).astype(np.intp))
    return Labelled(part.windows[rows], part.labels[rows])


def _judge(
    path: Path,
    sample: Mapping[Condition, Labelled],
    expected: Mapping[Condition, npt.NDArray[np.float32]],
    limits: Limits,
    exact_weights: bool,
) -> tuple[GraphAnswers, ...]:
    rows = []
    for condition, part in sample.items():
        reference = expected[condition]
        torch = compare("torch", condition, part.labels, reference, reference)
        found = compare("int8", condition, part.labels, reference, logits(path, part.windows))
        try:
            require_within(limits, found, torch, exact_weights=exact_weights, instead="export --target cpu")
        except VerificationError as error:
            raise VerificationError(f"{path.name} (for TensorRT): {error}") from error
        rows.append(
            GraphAnswers(
                scaling=condition.scaling,
                without=condition.without,
                windows=found.windows,
                accuracy=found.accuracy,
                changed_labels=found.changed_labels,
                max_probability_difference=found.max_probability_difference,
                mean_probability_difference=found.mean_probability_difference,
            )
        )
    return tuple(rows)


def _facts(
    form: onnx.ModelProto,
    choice: Int8Choice,
    file: str,
    precision: EnginePrecision,
    versions: _Versions,
    answers: tuple[GraphAnswers, ...],
) -> TensorRtGraph:
    as_int8: dict[str, int] = {}
    as_float: dict[str, int] = {}
    quantized = 0
    sizes = {t.name: int(np.prod(t.dims)) for t in float_weights(form)}
    for node in form.graph.node:
        is_int8 = precision == "int8" and node.name in choice.layers
        counts = as_int8 if is_int8 else as_float
        if node.op_type in COUNTED_OPERATORS:
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
        quantized += sizes[node.input[1]] if is_int8 else 0
    flags = () if versions.strongly_typed else {"fp16": ("FP16",), "int8": ("INT8", "FP16")}[precision]
    return TensorRtGraph(
        file=file,
        precision=precision,
        opset=versions.opset,
        flags=flags,  # type: ignore[arg-type]
        golden="torch" if precision == "fp16" else GOLDEN_INT8,
        golden_tolerance=TOLERANCE[precision],
        quantized_operators=as_int8,
        float_operators=as_float,
        int8_weight_share=round(quantized / sum(sizes.values()), 4),
        answers=answers,
    )
