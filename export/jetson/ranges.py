"""How large the activations are that INT8 has to hold: measured on windows of training subjects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper

from edgepain.engine.onnx import INPUT_NAME, session_options
from edgepain.export.jetson.form import copy_of

BINS = 8192

Ranges = dict[str, float]


def measure_ranges(
    model: onnx.ModelProto, tensors: Sequence[str], windows: npt.NDArray[np.float32], percentiles: Sequence[float]
) -> dict[float, Ranges]:
    """For each percentile and tensor of a graph the magnitude |x| that so many per cent of its values do not exceed.

    windows: [N, M, S], scaled. Percentiles below 100 are read from a histogram of 8192 bins, at the upper edge.
    """
    session = _session_with(model, tensors)
    largest = np.zeros(len(tensors))
    for magnitudes in _magnitudes(session, tensors, windows):
        largest = np.maximum(largest, [m.max() for m in magnitudes])
    counts = np.zeros((len(tensors), BINS), np.int64)
    for magnitudes in _magnitudes(session, tensors, windows):
        for row, magnitude, top in zip(counts, magnitudes, largest, strict=True):
            row += np.histogram(magnitude, BINS, (0.0, top or 1.0))[0]
    shares = 100 * np.cumsum(counts, axis=1) / counts.sum(axis=1, keepdims=True)
    found = {}
    for percentile in percentiles:
        edges = (1 + (shares < percentile - 1e-9).sum(axis=1)) / BINS
        found[percentile] = dict(zip(tensors, (largest * np.minimum(edges, 1)).tolist(), strict=True))
    return found


def _session_with(model: onnx.ModelProto, tensors: Sequence[str]) -> ort.InferenceSession:
    """The graph with `tensors` as its outputs."""
    watched = copy_of(model)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in tensors)
    return ort.InferenceSession(watched.SerializeToString(), session_options(), providers=["CPUExecutionProvider"])


def _magnitudes(
    session: ort.InferenceSession, tensors: Sequence[str], windows: npt.NDArray[np.float32]
) -> Iterator[list[npt.NDArray[np.float32]]]:
    for window in windows:
        yield [np.abs(x) for x in session.run(list(tensors), {INPUT_NAME: window[None]})]
