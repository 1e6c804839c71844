"""The network as torch exports it: the graph that the bundle's own are measured against."""

from __future__ import annotations

from pathlib import Path

from edgepain.benchmarks.latency import NotMeasured
from edgepain.bundle import NetworkSpec


def plain_graph(spec: NetworkSpec, weights: Path | None, folder: Path) -> Path | NotMeasured:
    """Write plain.onnx into `folder`, on these weights or on random ones; or why it cannot be made."""
    try:
        from edgepain.export.trace import trace_as_it_is
        from edgepain.train.models import CrossModTransformer
    except ImportError as error:
        return NotMeasured(f"{error.name or error} is not installed; install edgepain[export]")
    import onnx

    network = CrossModTransformer(spec)
    if weights:
        from safetensors.torch import load_file

        network.load_state_dict(load_file(weights))
    path = folder / "plain.onnx"
    onnx.save(trace_as_it_is(network), path)
    return path
