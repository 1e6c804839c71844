"""Every name of NVIDIA's `tensorrt` that this project uses, and the versions that have it.

Capability goes by names, never by numbers: enum members change their integers between versions. What a version lacks
is asked for by `has`, so that one code path serves TensorRT 8.5 to 11.
"""

from __future__ import annotations

from typing import Any

from edgepain.errors import EdgepainError

Version = tuple[int, ...]
ALWAYS: tuple[Version, Version] = ((8, 5), (12, 0))

# Class or module attribute → its members → since which version, and below which (the end of what is claimed).
NAMES: dict[str, dict[str, tuple[Version, Version]]] = {
    "ILogger": dict.fromkeys(("ERROR", "INTERNAL_ERROR", "WARNING", "log"), ALWAYS),
    "Builder": dict.fromkeys(("build_serialized_network", "create_builder_config", "create_network"), ALWAYS),
    "NetworkDefinitionCreationFlag": {
        "EXPLICIT_BATCH": ((8, 5), (11, 0)),
        "STRONGLY_TYPED": ((10, 0), (12, 0)),
    },
    "OnnxParser": dict.fromkeys(("get_error", "num_errors", "parse_from_file"), ALWAYS),
    "ParserError": dict.fromkeys(("desc", "node"), ALWAYS),
    "IBuilderConfig": dict.fromkeys(
        (
            "create_timing_cache",
            "get_timing_cache",
            "profiling_verbosity",
            "set_flag",
            "set_memory_pool_limit",
            "set_timing_cache",
        ),
        ALWAYS,
    ),
    "BuilderFlag": dict.fromkeys(("FP16", "INT8"), ((8, 5), (11, 0))),
    "MemoryPoolType": {"WORKSPACE": ALWAYS},
    "ProfilingVerbosity": {"DETAILED": ALWAYS},
    "ITimingCache": {"serialize": ALWAYS},
    "Runtime": {"deserialize_cuda_engine": ALWAYS},
    "ICudaEngine": dict.fromkeys(
        (
            "create_engine_inspector",
            "create_execution_context",
            "get_tensor_dtype",
            "get_tensor_mode",
            "get_tensor_name",
            "get_tensor_shape",
            "num_io_tensors",
        ),
        ALWAYS,
    ),
    "IExecutionContext": dict.fromkeys(("execute_async_v3", "set_tensor_address"), ALWAYS),
    "EngineInspector": {"get_engine_information": ALWAYS},
    "LayerInformationFormat": {"JSON": ALWAYS},
    "DataType": {"FLOAT": ALWAYS},
    "TensorIOMode": {"INPUT": ALWAYS},
}


def exists_in(name: str, member: str, version: Version) -> bool:
    """Whether `name.member` is to be there in a version, by the table."""
    since, below = NAMES[name][member]
    return since <= version < below


def has(trt: Any, name: str, member: str) -> bool:
    """Whether this TensorRT has `name.member`."""
    return hasattr(getattr(trt, name, None), member)


def require_names(trt: Any, version: Version) -> None:
    """Raise EdgepainError where this TensorRT lacks a name that the table says its version has."""
    missing = [
        f"{name}.{member}"
        for name, members in NAMES.items()
        for member in members
        if exists_in(name, member, version) and not has(trt, name, member)
    ]
    if missing:
        raise EdgepainError(
            f"TensorRT {'.'.join(map(str, version))} lacks {', '.join(missing)}, which its version should have; "
            "install its Python package again, or report this"
        )
