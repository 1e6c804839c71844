"""The CUDA driver by ctypes: which GPU there is, memory on it, streams and graphs. No other CUDA library is needed.

`libcuda.so.1` comes with the NVIDIA driver. Names end in _v2 where the driver has kept an older form beside them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepain.errors import EdgepainError

LIBRARY = "libcuda.so.1"
MAJOR_ATTRIBUTE, MINOR_ATTRIBUTE = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
CAPTURE_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
STREAM_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_HANDLE = POINTER(c_void_p)

_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDevicePrimaryCtxRetain": (_HANDLE, c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemHostAlloc": (_HANDLE, c_size_t, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuStreamCreate": (_HANDLE, c_uint),
    "cuStreamDestroy_v2": (c_void_p,),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, _HANDLE),
    "cuGraphInstantiateWithFlags": (_HANDLE, c_void_p, c_uint64),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphDestroy": (c_void_p,),
    "cuGraphExecDestroy": (c_void_p,),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
}


class NoDriverError(EdgepainError):
    """There is no NVIDIA driver here, or no GPU that it drives."""


class CudaError(EdgepainError):
    """A call of the CUDA driver failed."""


@dataclass(frozen=True)
class Device:
    """The GPU. sm: its compute capability, 87 for 8.7. driver: highest CUDA version that the driver knows."""

    name: str
    sm: int
    driver: str


class Driver:
    """The driver, initialised, with the first GPU's primary context: the one that TensorRT works in, too."""

    def __init__(self) -> None:
        """Raises NoDriverError where there is no driver or no GPU, CudaError where the driver is too old."""
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise NoDriverError(
                f"no NVIDIA driver here ({LIBRARY} is not found); do this on the Jetson itself, or without a GPU use "
                "edgepain run --engine onnx"
            ) from error
        for name, arguments in _SIGNATURES.items():
            try:
                function = getattr(self._library, name)
            except AttributeError as error:
                raise CudaError(f"the NVIDIA driver has no {name}; install one for CUDA 11.4 or newer") from error
            function.argtypes, function.restype = arguments, c_int
        code = self._library.cuInit(0)
        if code:
            raise NoDriverError(
                f"the NVIDIA driver finds no GPU that it can use ({self._words(code)}); check nvidia-smi, or on a "
                "Jetson /dev/nvhost-*"
            )
        count, self._ordinal = c_int(), c_int()
        self._call("cuDeviceGetCount", byref(count))
        if not count.value:
            raise NoDriverError("the NVIDIA driver finds no GPU; check nvidia-smi")
        self._call("cuDeviceGet", byref(self._ordinal), 0)
        self.device = self._device()
        self._context = c_void_p()
        self._call("cuDevicePrimaryCtxRetain", byref(self._context), self._ordinal)
        self.use()

    def use(self) -> None:
        """Make the context that of the calling thread."""
        self._call("cuCtxSetCurrent", self._context)

    def close(self) -> None:
        """Let the context go; everything made in it must be gone."""
        if self._context:
            self._call("cuDevicePrimaryCtxRelease_v2", self._ordinal)
            self._context = c_void_p()

    def allocate(self, size_bytes: int) -> int:
        """Address of so many bytes on the GPU."""
        address = c_uint64()
        self._call("cuMemAlloc_v2", byref(address), size_bytes)
        return address.value

    def free(self, address: int) -> None:
        """Give back what `allocate` gave."""
        self._call("cuMemFree_v2", address)

    def allocate_host(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """A float32 array in memory that the GPU copies from and to by itself. Free it with `free_host`."""
        size_bytes = 4 * int(np.prod(shape))
        address = c_void_p()
        self._call("cuMemHostAlloc", byref(address), size_bytes, 0)
        assert address.value is not None
        buffer = (ctypes.c_float * (size_bytes // 4)).from_address(address.value)
        array: npt.NDArray[np.float32] = np.ctypeslib.as_array(buffer).reshape(shape)
        return array

    def free_host(self, array: npt.NDArray[np.float32]) -> None:
        """Give back what `allocate_host` gave; the array must not be used afterwards."""
        self._call("cuMemFreeHost", array.ctypes.data)

    def copy_in(self, address: int, array: npt.NDArray[np.float32], stream: int) -> None:
        """Queue a copy of a host array to the GPU."""
        self._call("cuMemcpyHtoDAsync_v2", address, array.ctypes.data, array.nbytes, stream)

    def copy_out(self, array: npt.NDArray[np.float32], address: int, stream: int) -> None:
        """Queue a copy from the GPU to a host array."""
        self._call("cuMemcpyDtoHAsync_v2", array.ctypes.data, address, array.nbytes, stream)

    def create_stream(self) -> int:
        """A queue of work."""
        return self._create("cuStreamCreate", STREAM_NON_BLOCKING)

    def destroy_stream(self, stream: int) -> None:
        """Give back what `create_stream` gave."""
        self._call("cuStreamDestroy_v2", stream)

    def synchronize(self, stream: int) -> None:
        """Wait until the queue is empty. Raises CudaError where something in it failed."""
        self._call("cuStreamSynchronize", stream)

    def capture(self, stream: int, enqueue: Callable[[], None]) -> int:
        """What `enqueue` queues, as a graph that `launch` starts at once.

        Raises CudaError where it cannot be captured, and whatever `enqueue` raises; the stream is then as before.
        """
        self._call("cuStreamBeginCapture_v2", stream, CAPTURE_THREAD_LOCAL)
        graph = c_void_p()
        try:
            enqueue()
        except BaseException:
            # The capture must be ended even so, and what it gives says nothing that the first error does not.
            self._library.cuStreamEndCapture(stream, byref(graph))
            self._destroy(graph)
            raise
        self._call("cuStreamEndCapture", stream, byref(graph))
        try:
            return self._create("cuGraphInstantiateWithFlags", graph, 0)
        finally:
            self._destroy(graph)

    def launch(self, graph: int, stream: int) -> None:
        """Queue all of a graph."""
        self._call("cuGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        """Give back what `capture` gave."""
        self._call("cuGraphExecDestroy", graph)

    def _destroy(self, graph: c_void_p) -> None:
        if graph.value:
            self._library.cuGraphDestroy(graph)

    def _create(self, name: str, *arguments: Any) -> int:
        handle = c_void_p()
        self._call(name, byref(handle), *arguments)
        assert handle.value is not None
        return handle.value

    def _device(self) -> Device:
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, len(name), self._ordinal)
        major, minor, version = c_int(), c_int(), c_int()
        self._call("cuDeviceGetAttribute", byref(major), MAJOR_ATTRIBUTE, self._ordinal)
        self._call("cuDeviceGetAttribute", byref(minor), MINOR_ATTRIBUTE, self._ordinal)
        self._call("cuDriverGetVersion", byref(version))
        words = f"{version.value // 1000}.{version.value % 1000 // 10}"
        return Device(name.value.decode(errors="replace"), 10 * major.value + minor.value, words)

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._library, name)(*arguments)
        if code:
            raise CudaError(f"the CUDA driver failed in {name} ({self._words(code)}); try again, then look into dmesg")

    def _words(self, code: int) -> str:
        name = c_char_p()
        self._library.cuGetErrorName(code, byref(name))
        return name.value.decode() if name.value else f"error {code}"
