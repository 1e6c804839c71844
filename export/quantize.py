"""INT8 for ONNX Runtime: convolutions statically, matrix products and LSTM dynamically, the rest in float.

Convolutions are calibrated together with the ReLU behind them (QDQ, unsigned 8-bit activations, signed 8-bit weights
per output channel). Linear layers and LSTM get the range of their input while they run, which costs little and follows
the signal; weights of an LSTM have one scale, because its kernel takes a fifth longer with one a channel. In float
stay: attention products, softmax, layer norm and the last layer; and the first convolution of each stream, because it
is cheap and its input, a signal with rare large artefacts, is what 8 bits suit least.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from edgepain.engine import softmax
from edgepain.engine.onnx import INPUT_NAME, OUTPUT_NAME, session_options
from edgepain.export.trace import strip

# Operators whose arithmetic is worth a line in a coverage report; the others move data or cost next to nothing.
COUNTED_OPERATORS = ("Conv", "MatMul", "Gemm", "LSTM", "Softmax", "LayerNormalization")
PRODUCTS = ["MatMul", "Gemm"]
QUANTIZED_SUFFIX = "_quantized"
# Activations beyond a percentile saturate. Scaled by what came before it, an artefact may be a hundred times the
# signal, and with the full range (100) the signal itself would be left with a few of the 256 levels; in other data
# the largest values are what matters. Which of these suits a network is tried on its training windows.
PERCENTILES = (100.0, 99.99, 99.9, 99.5)
# Convolutions and LSTM stay in float where INT8 would move the probabilities of training windows further on average.
MAX_MEAN_DIFFERENCE = 0.005
# Or would change more than this share of their labels.
MAX_CHANGED = 0.01


@dataclass(frozen=True)
class Quantized:
    """An INT8 graph and how it came about.

    percentile: beyond which activations saturate. mean_probability_difference: to the fp32 graph on the trial
    windows. changed: share of those with another label. sensitive: convolutions and LSTM that stay in float because
    INT8 would have changed the answers too much.
    """

    model: onnx.ModelProto
    percentile: float
    mean_probability_difference: float
    changed: float
    sensitive: tuple[str, ...] = ()

    @property
    def near(self) -> bool:
        """Whether the answers to the trial windows are near enough to those of the fp32 graph."""
        return self.mean_probability_difference <= MAX_MEAN_DIFFERENCE and self.changed <= MAX_CHANGED


def quantize(model: onnx.ModelProto, calibration: npt.NDArray[np.float32], trial: npt.NDArray[np.float32]) -> Quantized:
    """The INT8 form of a traced fp32 graph.

    calibration, trial: scaled windows [N, M, S] of training subjects. Ranges come from `calibration`; of the
    percentiles, the one is taken whose answers to `trial` are nearest to those of the fp32 graph. Where these are
    not near enough, convolutions and LSTM are quantized one by one, and those that move the answers too far stay in
    float.
    """
    expected = _probabilities(model, trial)

    def attempt(percentile: float, sensitive: tuple[str, ...] = ()) -> Quantized:
        candidate = _quantize_at(percentile, model, calibration, sensitive)
        found = _probabilities(candidate, trial)
        difference = float(np.mean(np.abs(found - expected)))
        changed = float(np.mean(found.argmax(axis=1) != expected.argmax(axis=1)))
        return Quantized(candidate, percentile, difference, changed, sensitive)

    best = min(map(attempt, PERCENTILES), key=lambda quantized: quantized.mean_probability_difference)
    if best.near:
        return best
    sensitive = _can_be_sensitive(model)
    kept = attempt(best.percentile, sensitive)
    for name in sensitive:
        bolder = attempt(best.percentile, tuple(other for other in kept.sensitive if other != name))
        if bolder.near:
            kept = bolder
    return kept


def _quantize_at(
    percentile: float, model: onnx.ModelProto, calibration: npt.NDArray[np.float32], sensitive: tuple[str, ...]
) -> onnx.ModelProto:
    keep_float = [*float_nodes(model), *sensitive]
    with TemporaryDirectory(prefix="edgepain-") as scratch, quiet():
        fp32, convolutions, products, everything = (Path(scratch, f"{i}.onnx") for i in range(4))
        onnx.save(model, fp32)
        quantize_static(
            fp32,
            convolutions,
            CalibrationWindows(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Relu"],
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=[*keep_float, *relus_of_others(model, keep_float)],
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": percentile},
        )
        for source, target, layers in ((convolutions, products, PRODUCTS), (products, everything, ["LSTM"])):
            quantize_dynamic(
                source,
                target,
                op_types_to_quantize=layers,
                weight_type=QuantType.QInt8,
                per_channel=layers is PRODUCTS,
                nodes_to_exclude=keep_float,
            )
        quantized = onnx.load(everything)
    strip(quantized)
    onnx.checker.check_model(quantized, full_check=True)
    return quantized


def coverage(model: onnx.ModelProto, quantized: onnx.ModelProto) -> tuple[dict[str, int], dict[str, int], float]:
    """How many operators of each kind became INT8, how many stayed float, and the share of INT8 weights."""
    int8 = quantized_weights(quantized)
    as_int8: dict[str, int] = {}
    as_float: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type in COUNTED_OPERATORS:
            counts = as_int8 if int8.keys() & set(node.input) else as_float
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
    weights = {t.name: int(np.prod(t.dims)) for t in float_weights(model)}
    return as_int8, as_float, sum(weights[name] for name in int8) / sum(weights.values())


def float_weights(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    """The float32 initializers of a graph."""
    return [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]


def quantized_weights(quantized: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The INT8 weights of a quantized graph by the name they had in the fp32 graph."""
    return {
        t.name.removesuffix(QUANTIZED_SUFFIX): t
        for t in quantized.graph.initializer
        if t.name.endswith(QUANTIZED_SUFFIX) and t.data_type == onnx.TensorProto.INT8
    }


def float_nodes(model: onnx.ModelProto) -> list[str]:
    """Names of the layers that stay in float: first convolutions, the attention score, the last layer.

    Each is there again with the name that ONNX Runtime's quantizer gives a Gemm when it writes it as MatMul and Add.
    """
    shapes = {t.name: tuple(t.dims) for t in model.graph.initializer}
    names = [
        node.name
        for node in model.graph.node
        if (node.op_type == "Conv" and shapes[node.input[1]][1] == 1)
        or (node.op_type in PRODUCTS and shapes.get(node.input[1], ())[-1:] == (1,))
        or OUTPUT_NAME in node.output
    ]
    return [*names, *(f"{name}_MatMul" for name in names)]


def relus_of_others(model: onnx.ModelProto, keep_float: Collection[str]) -> list[str]:
    """Names of every ReLU but those right behind a convolution that becomes INT8."""
    int8 = {n.output[0] for n in model.graph.node if n.op_type == "Conv" and n.name not in keep_float}
    return [n.name for n in model.graph.node if n.op_type == "Relu" and n.input[0] not in int8]


def _can_be_sensitive(model: onnx.ModelProto) -> tuple[str, ...]:
    keep_float = float_nodes(model)
    return tuple(n.name for n in model.graph.node if n.op_type in ("Conv", "LSTM") and n.name not in keep_float)


def _probabilities(model: onnx.ModelProto, windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    session = ort.InferenceSession(model.SerializeToString(), session_options())
    return softmax(np.concatenate([session.run([OUTPUT_NAME], {INPUT_NAME: window[None]})[0] for window in windows]))


class CalibrationWindows(CalibrationDataReader):  # type: ignore[misc]
    """Windows [N, M, S], one by one, as ONNX Runtime's calibration asks for them."""

    def __init__(self, windows: npt.NDArray[np.float32]) -> None:
        self._next = iter(windows)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """The next window by input name, None after the last."""
        window = next(self._next, None)
        return None if window is None else {INPUT_NAME: window[None]}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back the quantizer's chatter, and its advice to preprocess: the traced graph is folded already."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
