"""One ONNX graph becomes one plan: the same code for TensorRT 8.5 to 11, by the names that a version has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepain.engine.tensorrt.log import logger_of
from edgepain.engine.tensorrt.names import has
from edgepain.engine.tensorrt.recipe import TensorRtGraph
from edgepain.errors import EdgepainError

MIB = 1 << 20


class BuildError(EdgepainError):
    """TensorRT could not make an engine of a graph."""


def build_plan(
    trt: Any, onnx: Path, graph: TensorRtGraph, *, strongly_typed: bool, workspace_mb: int, timing: bytes
) -> tuple[bytes, bytes]:
    """The plan of a graph, and what the builder measured for the next time.

    timing: what an earlier build of the same TensorRT measured, or nothing. Raises BuildError where TensorRT cannot
    parse the graph or finds no implementation.
    """
    log = logger_of(trt)
    builder = trt.Builder(log)
    network = builder.create_network(_creation_flags(trt, strongly_typed))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx)):
        raise BuildError(f"TensorRT cannot parse {onnx.name} ({_parse_errors(parser) or log.last()})")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb * MIB)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not strongly_typed:
        for flag in graph.flags:
            if not has(trt, "BuilderFlag", flag):
                raise BuildError(f"this TensorRT has no flag {flag}; export the bundle with a newer edgepain")
            config.set_flag(getattr(trt.BuilderFlag, flag))
    # One that is not of this TensorRT and GPU is refused by it, and the build starts from nothing.
    cache = config.create_timing_cache(timing)
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(f"TensorRT cannot build {onnx.name} ({log.last()})")
    cache = config.get_timing_cache()
    return bytes(plan), bytes(cache.serialize())


def _creation_flags(trt: Any, strongly_typed: bool) -> int:
    """Flags of the network: each only where this version still has it, for what it lacks it does anyhow."""
    wanted = ["EXPLICIT_BATCH", "STRONGLY_TYPED"] if strongly_typed else ["EXPLICIT_BATCH"]
    present = [name for name in wanted if has(trt, "NetworkDefinitionCreationFlag", name)]
    return sum(1 << int(getattr(trt.NetworkDefinitionCreationFlag, name)) for name in present)


def _parse_errors(parser: Any) -> str:
    complaints = [parser.get_error(index) for index in range(parser.num_errors)]
    return "; ".join(f"node {complaint.node()}: {' '.join(complaint.desc().split())}" for complaint in complaints)[:600]
