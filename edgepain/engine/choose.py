"""Which engine answers: TensorRT where this user built one of the bundle for this device, else ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgepain.bundle import Bundle, Precision
from edgepain.engine.base import Engine
from edgepain.engine.onnx import OnnxEngine, open_engine
from edgepain.engine.timed import kept
from edgepain.errors import ConfigError, EdgepainError

Kind = Literal["auto", "onnx", "tensorrt"]


def choose_engine(
    bundle: Bundle, kind: Kind = "auto", precision: Precision | None = None, folder: Path | None = None
) -> tuple[Engine, str]:
    """An engine that has answered its golden windows rightly, and a remark for the user, perhaps empty.

    folder: of engines, by default the one where this user's `edgepain build` puts them. `auto` takes ONNX Runtime where
    no engine fits, and says why. In ONNX Runtime, a `precision` of None is the one that `build` found faster here, and
    INT8 where nothing was measured.
    Engines are not signed: of a bundle that must be (`trusted`), `auto` takes none.

    Raises what `open_engine` and `open_tensorrt` raise; ConfigError for TensorRT in fp32.
    """
    if kind == "onnx":
        return _onnx(bundle, precision, folder), ""
    if precision == "fp32" and kind == "tensorrt":
        raise ConfigError("--engine tensorrt answers in fp16 or int8; leave --precision fp32 out, or use --engine onnx")
    # Where nothing was built nothing of TensorRT is touched, and no time spent.
    from edgepain.engine.tensorrt.open import has_engines, open_tensorrt

    if kind == "tensorrt":
        return open_tensorrt(bundle, precision, folder), ""
    if precision == "fp32" or not has_engines(bundle, folder):
        return _onnx(bundle, precision, folder), ""
    if bundle.trusted:
        remark = "its engines are not covered by the signature; --engine tensorrt uses them all the same"
        return _onnx(bundle, precision, folder), f"ONNX Runtime on the CPU: {remark}"
    try:
        return open_tensorrt(bundle, precision, folder), ""
    except EdgepainError as error:
        return _onnx(bundle, precision, folder), f"ONNX Runtime on the CPU: {error}"


def _onnx(bundle: Bundle, precision: Precision | None, folder: Path | None) -> OnnxEngine:
    timed = None if precision else kept(bundle, folder)
    return open_engine(bundle, timed.chosen if timed else precision)
