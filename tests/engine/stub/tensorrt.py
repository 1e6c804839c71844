"""A stand-in for NVIDIA's `tensorrt`, for control flow only: it answers with ONNX Runtime on the CPU.

Its names are those of one real version (surface.json beside it); any other name raises AttributeError. That engines
are right, fast, or can be built at all it cannot show. Knobs: STUB_TRT is `crash`, `no-parse`, `no-build`, `no-int8`,
`wrong`, `wrong-int8`, `slow` or `slow-int8`; STUB_VERSION says another version than it is.
"""

from __future__ import annotations

import ctypes
import enum
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

_FACTS = json.loads((Path(__file__).parent / "surface.json").read_text())
_SURFACE = _FACTS["surface"]
__version__ = os.environ.get("STUB_VERSION", _FACTS["version"])
_CUDA = ctypes.CDLL("libcuda.so.1")
_CUDA.stub_enqueue.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
_WORK = ctypes.CFUNCTYPE(ctypes.c_int)


def _wants(what: str, precision: str = "") -> bool:
    return os.environ.get("STUB_TRT") in (what, f"{what}-{precision}")


def _like(name: str) -> Any:
    """Of a class, keep what the real one has."""

    def kept(cls: type) -> type:
        known = set(_SURFACE[name]["attrs"])
        for member in [m for m in vars(cls) if not m.startswith("_")]:
            assert member in known, f"the stub has {name}.{member}, which TensorRT {_FACTS['version']} has not"
        return cls

    return kept


for _name, _what in _SURFACE.items():
    if isinstance(_what, dict) and "enum" in _what:
        # Other integers than NVIDIA's: code that counts on numbers breaks.
        globals()[_name] = enum.IntEnum(_name, {m: i + 3 for i, m in enumerate(sorted(_what["enum"]))})


@_like("ILogger")
class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def log(self, severity: Any, message: str) -> None:
        raise NotImplementedError


@_like("ITimingCache")
class ITimingCache:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def serialize(self) -> bytes:
        return self._data


@_like("ParserError")
class ParserError:
    def desc(self) -> str:
        return "it is\ntold to refuse"

    def node(self) -> int:
        return 3


class _Network:
    onnx = ""


@_like("OnnxParser")
class OnnxParser:
    def __init__(self, network: _Network, logger: ILogger) -> None:
        assert isinstance(logger, ILogger)
        self._network = network

    def parse_from_file(self, path: str) -> bool:
        self._network.onnx = path
        return not _wants("no-parse")

    @property
    def num_errors(self) -> int:
        return 1

    def get_error(self, index: int) -> ParserError:
        return ParserError()


class _Config:
    def __init__(self) -> None:
        self.__dict__["seen"] = {"flags": [], "pools": {}}

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _SURFACE["IBuilderConfig"]["attrs"]:
            raise AttributeError(name)
        self.__dict__["seen"][name] = value

    def set_flag(self, flag: Any) -> None:
        self.seen["flags"].append(flag.name)

    def set_memory_pool_limit(self, pool: Any, limit: int) -> None:
        self.seen["pools"][pool.name] = limit

    def create_timing_cache(self, data: bytes) -> ITimingCache:
        return ITimingCache(data)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        self.seen["cache"] = cache._data.decode()
        return True

    def get_timing_cache(self) -> ITimingCache:
        return ITimingCache(self.seen["cache"].encode() + b"+")


@_like("Builder")
class Builder:
    def __init__(self, logger: ILogger) -> None:
        self._log = logger

    def create_network(self, flags: int) -> _Network:
        network = _Network()
        network.flags = flags
        return network

    def create_builder_config(self) -> _Config:
        return _Config()

    def build_serialized_network(self, network: _Network, config: _Config) -> bytes | None:
        precision = "int8" if ".int8." in network.onnx else "fp16"
        if _wants("crash", precision):
            os.kill(os.getpid(), signal.SIGSEGV)
        if _wants("hang"):
            time.sleep(60)
        if _wants("no-build") or (_wants("no-int8") and precision == "int8"):
            self._log.log(ILogger.ERROR, "no implementation of\nwhat it is told to refuse")
            return None
        names = {flag.name for flag in globals()["NetworkDefinitionCreationFlag"] if network.flags & (1 << flag)}
        plan = {"onnx": network.onnx, "precision": precision, "network": sorted(names)}
        return json.dumps({**plan, **{k: v for k, v in config.seen.items() if k != "profiling_verbosity"}}).encode()


class _Inspector:
    def get_engine_information(self, form: Any) -> str:
        assert form.name == "JSON"
        inputs = [[{"Format/Datatype": "Row major Int8 format"}], [{"Format/Datatype": "Half"}]]
        return json.dumps({"Layers": [{"Inputs": each} for each in inputs]})


@_like("IExecutionContext")
class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}
        self._work = _WORK(self._run)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        return _CUDA.stub_enqueue(stream, ctypes.cast(self._work, ctypes.c_void_p)) == 0

    def _run(self) -> int:
        engine = self._engine
        (source,), (result,) = engine._session.get_inputs(), engine._session.get_outputs()
        logits = engine._session.run(None, {source.name: self._array(source)})[0]
        if _wants("slow", engine._precision):
            time.sleep(0.003)
        self._array(result)[:] = logits[:, ::-1] if _wants("wrong", engine._precision) else logits
        return 0

    def _array(self, value: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
        pointer = ctypes.cast(self._addresses[value.name], ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, value.shape)


@_like("ICudaEngine")
class ICudaEngine:
    def __init__(self, plan: dict[str, Any]) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._precision = plan["precision"]
        self._session = ort.InferenceSession(plan["onnx"], options, providers=["CPUExecutionProvider"])
        self._values = {v.name: v for v in (*self._session.get_inputs(), *self._session.get_outputs())}

    @property
    def num_io_tensors(self) -> int:
        return len(self._values)

    def get_tensor_name(self, index: int) -> str:
        return list(self._values)[index]

    def get_tensor_shape(self, name: str) -> list[int]:
        return self._values[name].shape

    def get_tensor_dtype(self, name: str) -> Any:
        return globals()["DataType"].FLOAT

    def get_tensor_mode(self, name: str) -> Any:
        mode = globals()["TensorIOMode"]
        return mode.INPUT if name == self._session.get_inputs()[0].name else mode.OUTPUT

    def create_execution_context(self) -> IExecutionContext:
        return IExecutionContext(self)

    def create_engine_inspector(self) -> _Inspector:
        return _Inspector()


@_like("Runtime")
class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._log = logger

    def deserialize_cuda_engine(self, plan: bytes) -> ICudaEngine | None:
        try:
            return ICudaEngine(json.loads(plan))
        except ValueError:
            self._log.log(ILogger.ERROR, "magic tag does not match")
            return None


@_like("EngineInspector")
class EngineInspector:
    get_engine_information = _Inspector.get_engine_information


@_like("IBuilderConfig")
class IBuilderConfig:
    profiling_verbosity = None
    set_flag = _Config.set_flag
    set_memory_pool_limit = _Config.set_memory_pool_limit
    create_timing_cache = _Config.create_timing_cache
    set_timing_cache = _Config.set_timing_cache
    get_timing_cache = _Config.get_timing_cache
