"""Which INT8 for TensorRT: the percentile and the layers whose answers stay nearest to the float graph's."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from edgepain.engine import softmax
from edgepain.engine.onnx import INPUT_NAME, OUTPUT_NAME, session_options
from edgepain.export.jetson.qdq import quantizable, with_qdq
from edgepain.export.jetson.ranges import Ranges, measure_ranges
from edgepain.export.quantize import MAX_MEAN_DIFFERENCE, PERCENTILES

TRIAL_WINDOWS = 128
# Mean difference of a probability on training windows, from the boldest choice to the most careful one.
LIMITS = (MAX_MEAN_DIFFERENCE, MAX_MEAN_DIFFERENCE / 2, MAX_MEAN_DIFFERENCE / 5, MAX_MEAN_DIFFERENCE / 10)
# Share of the labels of training windows that INT8 may change.
MAX_CHANGED = 0.01


@dataclass(frozen=True)
class Int8Choice:
    """Ranges and layers of the INT8 graphs, and how they were chosen (see `quantize.Quantized`)."""

    ranges: Ranges
    layers: tuple[str, ...]
    percentile: float
    mean_probability_difference: float
    sensitive: tuple[str, ...]


def choices_of_int8(
    form: onnx.ModelProto, calibration: npt.NDArray[np.float32], trial: npt.NDArray[np.float32]
) -> Iterator[Int8Choice]:
    """Ways to INT8, each nearer to the float graph than the one before, with fewer layers in INT8.

    Ranges are measured on `calibration` [N, M, S]; of the percentiles, the one is taken whose answers to `trial` are
    nearest. Where they are not as near as the first of LIMITS asks, layers go back to float, the one that hurts most on
    its own first; so for every further limit.
    """
    trial = trial[np.unique(np.linspace(0, len(trial) - 1, TRIAL_WINDOWS).astype(np.intp))]
    expected = probabilities(form, trial)
    candidates = quantizable(form)
    names = tuple(node.name for node in candidates)
    measured = measure_ranges(form, sorted({node.input[0] for node in candidates}), calibration, PERCENTILES)

    def moved(percentile: float, layers: Collection[str]) -> tuple[float, float]:
        answers = probabilities(with_qdq(form, measured[percentile], layers), trial)
        changed = np.mean(answers.argmax(axis=1) != expected.argmax(axis=1))
        return float(np.mean(np.abs(answers - expected))), float(changed)

    tried = {percentile: moved(percentile, names) for percentile in PERCENTILES}
    percentile = min(tried, key=tried.__getitem__)
    found, sensitive, waiting = tried[percentile], list[str](), list[str]()
    offered: int | None = None
    for limit in LIMITS:
        while found[0] > limit or found[1] > MAX_CHANGED:
            if not sensitive:
                alone = {name: moved(percentile, [name]) for name in names}
                waiting = sorted(names, key=alone.__getitem__)
            if not waiting:
                return
            sensitive.append(waiting.pop())
            found = moved(percentile, set(names) - set(sensitive))
        if len(sensitive) != offered:
            offered = len(sensitive)
            layers = tuple(name for name in names if name not in sensitive)
            yield Int8Choice(measured[percentile], layers, percentile, found[0], tuple(sensitive))


def probabilities(model: onnx.ModelProto, windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Probabilities [N, K] of a graph in ONNX Runtime on the CPU."""
    return softmax(logits(model, windows))


def logits(model: onnx.ModelProto | Path, windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Logits [N, K] of a graph in ONNX Runtime on the CPU; where that has no fp16 kernel it runs fp32 between casts."""
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = ort.InferenceSession(source, session_options(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run([OUTPUT_NAME], {INPUT_NAME: window[None]})[0] for window in windows])
