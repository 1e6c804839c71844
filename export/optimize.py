"""A graph as ONNX Runtime rearranges it at load, saved: loading then takes less time."""

from __future__ import annotations

import platform
from pathlib import Path

import onnxruntime as ort

from edgepain.bundle import OptimizedFacts
from edgepain.engine.onnx import DISABLED_OPTIMIZERS, session_options


def save_optimized(path: Path) -> OptimizedFacts:
    """Write the graph `path` (.onnx) beside itself as .ort."""
    options = session_options()
    # The layouts of the next level belong to one processor, not to a kind of them.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    optimized = path.with_suffix(".ort")
    options.optimized_model_filepath = str(optimized)
    options.add_session_config_entry("session.save_model_format", "ORT")
    ort.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=DISABLED_OPTIMIZERS
    )
    return OptimizedFacts(optimized.name, ort.__version__, platform.machine())
