"""A plan that answers: memory from the CUDA driver, one CUDA graph a window, no torch."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepain.bundle import Bundle
from edgepain.engine.folder import EngineError
from edgepain.engine.onnx import INPUT_NAME, OUTPUT_NAME
from edgepain.engine.tensorrt.driver import CudaError, Driver
from edgepain.engine.tensorrt.log import logger_of
from edgepain.engine.tensorrt.recipe import TensorRtGraph, graph_sha256


class TensorRtEngine:
    """An engine on the GPU. `close` gives its memory back; so does the end of a `with`."""

    def __init__(
        self, trt: Any, tensorrt: str, driver: Driver, plan: bytes, bundle: Bundle, graph: TensorRtGraph
    ) -> None:
        """plan: as TensorRT wrote it. Raises EngineError where it cannot be loaded or is for another network."""
        spec = bundle.manifest.network
        self.precision = graph.precision
        self.model_sha256 = graph_sha256(bundle, graph)
        self._driver = driver
        self._shape = (len(spec.modalities), spec.steps)
        self._log = logger_of(trt)
        self._stack = ExitStack()
        driver.use()
        with ExitStack() as stack:  # Gives everything back where the rest fails.
            runtime = trt.Runtime(self._log)
            engine = runtime.deserialize_cuda_engine(plan)
            if engine is None:
                again = "run: edgepain build --rebuild"
                raise EngineError(f"TensorRT {tensorrt} refuses the engine ({self._log.last()}); {again}")
            _require_tensors(trt, engine, (1, *self._shape), (1, spec.classes))
            self._stream = driver.create_stream()
            stack.callback(driver.destroy_stream, self._stream)
            self._window = _host(driver, stack, (1, *self._shape))
            self._logits = _host(driver, stack, (1, spec.classes))
            self._addresses = [_device(driver, stack, array.nbytes) for array in (self._window, self._logits)]
            context = engine.create_execution_context()
            if context is None:
                raise EngineError(f"TensorRT {tensorrt} has no room to run ({self._log.last()}); free GPU memory")
            for name, address in zip((INPUT_NAME, OUTPUT_NAME), self._addresses, strict=True):
                context.set_tensor_address(name, address)
            # A list is cleared from its end: the context goes before its engine, that before the runtime.
            self._objects: list[Any] = [runtime, engine, context]
            stack.callback(self._objects.clear)
            self._graph, self.graph_reason = self._capture()
            if self._graph is not None:
                stack.callback(driver.destroy_graph, self._graph)
            self._stack = stack.pop_all()
        how = "CUDA graph" if self._graph is not None else f"no CUDA graph ({self.graph_reason})"
        self.description = f"TensorRT {tensorrt}, {graph.precision}, {driver.device.name}, {how}"

    def __enter__(self) -> TensorRtEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def uses_cuda_graph(self) -> bool:
        """Whether a window is one launch of a captured graph."""
        return self._graph is not None

    def predict(self, windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Logits [B, K] float32 of scaled windows [B, M, S] float32; the engine takes them one by one."""
        if windows.ndim != 3 or windows.shape[1:] != self._shape or windows.dtype != np.float32:
            raise ValueError(
                f"windows must be float32 [B, {self._shape[0]}, {self._shape[1]}], "
                f"got {windows.dtype} {list(windows.shape)}"
            )
        self._driver.use()
        logits = np.empty((len(windows), self._logits.shape[1]), np.float32)
        for window, answer in zip(windows, logits, strict=True):
            self._window[0] = window
            if self._graph is None:
                self._enqueue()
            else:
                self._driver.launch(self._graph, self._stream)
            self._driver.synchronize(self._stream)
            answer[:] = self._logits[0]
        return logits

    def layers(self, trt: Any) -> tuple[int, int] | tuple[None, None]:
        """How many layers the engine has and how many of them take INT8, as the inspector lists them."""
        engine = self._objects[1]
        inspector = engine.create_engine_inspector()
        try:
            listed = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))["Layers"]
            formats = [[tensor["Format/Datatype"] for tensor in layer["Inputs"]] for layer in listed]
        except (ValueError, KeyError, TypeError):  # An engine without detailed names, or another form of the list.
            return None, None
        return len(formats), sum(any("int8" in each.lower() for each in layer) for layer in formats)

    def close(self) -> None:
        """Give all memory back; the engine must not be used afterwards."""
        self._driver.use()
        self._stack.close()

    def _enqueue(self) -> None:
        self._driver.copy_in(self._addresses[0], self._window, self._stream)
        context = self._objects[2]
        if not context.execute_async_v3(self._stream):
            raise EngineError(f"TensorRT failed to run the engine ({self._log.last()}); run: edgepain build --rebuild")
        self._driver.copy_out(self._logits, self._addresses[1], self._stream)

    def _capture(self) -> tuple[int | None, str]:
        """A window's work as a CUDA graph; or why not, where that cannot be (loops on the host, say)."""
        self._window[:] = 0
        # The first run sets up what a capture must not.
        self._enqueue()
        self._driver.synchronize(self._stream)
        try:
            return self._driver.capture(self._stream, self._enqueue), ""
        except (CudaError, EngineError) as error:
            return None, str(error)


def _host(driver: Driver, stack: ExitStack, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    array = driver.allocate_host(shape)
    stack.callback(driver.free_host, array)
    return array


def _device(driver: Driver, stack: ExitStack, size_bytes: int) -> int:
    address = driver.allocate(size_bytes)
    stack.callback(driver.free, address)
    return address


def _require_tensors(trt: Any, engine: Any, window: tuple[int, ...], logits: tuple[int, ...]) -> None:
    """One float32 input and one float32 output, of these shapes."""
    found = set()
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = tuple(engine.get_tensor_shape(name))
        is_float = engine.get_tensor_dtype(name) == trt.DataType.FLOAT
        found.add((name, engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT, shape, is_float))
    if found != {(INPUT_NAME, True, window, True), (OUTPUT_NAME, False, logits, True)}:
        raise EngineError(
            f"the engine takes and gives {sorted(found)}, not {INPUT_NAME} {list(window)} and {OUTPUT_NAME} "
            f"{list(logits)}; run: edgepain build --rebuild"
        )
