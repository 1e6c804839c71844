"""Which INT8 for TensorRT: the percentile and the layers whose answers stay nearest to the float graph's."""

from __future__ import annotations

from collections.abc import Collection
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
from edgepain.export.quantize import MAX_CHANGED, MAX_MEAN_DIFFERENCE, PERCENTILES

TRIAL_WINDOWS = 128
# Mean difference of a probability on training windows: half of what the CPU's INT8 may have, whose matrix products
# follow the range of every window and err less.
MAX_DIFFERENCE = MAX_MEAN_DIFFERENCE / 2


@dataclass(frozen=True)
class Int8Choice:
    """Ranges and layers of the INT8 graphs, and how they were chosen (see `quantize.Quantized`)."""

    ranges: Ranges
    layers: tuple[str, ...]
    percentile: float
    mean_probability_difference: float
    sensitive: tuple[str, ...]


def choose_int8(
    form: onnx.ModelProto, calibration: npt.NDArray[np.float32], trial: npt.NDArray[np.float32]
) -> Int8Choice:
    """Measure ranges on `calibration` [N, M, S], try percentiles on `trial`, keep in float what does not bear INT8.

    Where the best percentile moves the probabilities of the trial windows too far, or changes too many of their
    labels, layers go back to float, the one that hurts most on its own first, until it does not.
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

    def too_far(found: tuple[float, float]) -> bool:
        return found[0] > MAX_DIFFERENCE or found[1] > MAX_CHANGED

    tried = {percentile: moved(percentile, names) for percentile in PERCENTILES}
    percentile = min(tried, key=tried.__getitem__)
    found, sensitive = tried[percentile], list[str]()
    if too_far(found):
        alone = {name: moved(percentile, [name]) for name in names}
        for name in sorted(names, key=alone.__getitem__, reverse=True):
            sensitive.append(name)
            found = moved(percentile, set(names) - set(sensitive))
            if not too_far(found):
                break
    layers = tuple(name for name in names if name not in sensitive)
    return Int8Choice(measured[percentile], layers, percentile, found[0], tuple(sensitive))


def probabilities(model: onnx.ModelProto, windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Probabilities [N, K] of a graph in ONNX Runtime on the CPU."""
    return softmax(logits(model, windows))


def logits(model: onnx.ModelProto | Path, windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Logits [N, K] of a graph in ONNX Runtime on the CPU; where that has no fp16 kernel it runs fp32 between casts."""
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = ort.InferenceSession(source, session_options(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run([OUTPUT_NAME], {INPUT_NAME: window[None]})[0] for window in windows])
