"""Which graph of a bundle this processor answers sooner: measured here once, kept with the user, used by `run`.

INT8 is faster than fp32 on processors with instructions for it, and slower on others. Which of them a board has is
not worth guessing: `edgepain build` measures it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime as ort

from edgepain.bundle import Bundle, Precision, engines_folder
from edgepain.engine.folder import make_folder
from edgepain.engine.onnx import OnnxEngine, open_engine
from edgepain.engine.processor import processor_name
from edgepain.errors import ConfigError, EdgepainError, VerificationError

ROUNDS, ANSWERS, WARM_UP = 30, 10, 20
# INT8 is the less exact of the two: it has to be faster by more than two runs differ.
WORTH_INT8 = 1.05
FILE = Path("onnxruntime", "choice.json")
MAX_FILE_BYTES = 65_536


class Timed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was measured: median ms of an answer by precision, one thread, batch 1. refused: precisions whose answers
    to the golden windows are not those of the export, with the reason. Times belong to this processor and release."""

    processor: str
    onnxruntime: str
    p50_ms: dict[Precision, float]
    refused: dict[Precision, str]
    chosen: Precision
    why: str


def measure(bundle: Bundle, tell: Callable[[str], None] = lambda _: None) -> Timed:
    """Check every graph against the golden windows, time them in turns, and choose.

    Raises VerificationError where none answers as at export.
    """
    engines: dict[Precision, OnnxEngine] = {}
    refused: dict[Precision, str] = {}
    for precision in dict.fromkeys(graph.precision for graph in bundle.manifest.graphs):
        tell(f"checking the {precision} graph")
        try:
            engines[precision] = open_engine(bundle, precision)
        except VerificationError as error:
            refused[precision] = str(error)
    if not engines:
        raise VerificationError("; ".join(refused.values()))
    tell("timing")
    p50_ms = _p50_ms(bundle, engines)
    chosen, why = _choose(p50_ms)
    return Timed(processor_name(), ort.__version__, p50_ms, refused, chosen, why)


def keep(bundle: Bundle, timed: Timed, folder: Path | None = None) -> Path:
    """Write what was measured to the folder of this user's engines, or to `folder`. Raises EdgepainError."""
    path = (folder or engines_folder(bundle.manifest.sha256)) / FILE
    try:
        make_folder(path.parent)
        scratch = path.with_suffix(".new")
        scratch.write_bytes(msgspec.json.format(msgspec.json.encode(timed)))
        scratch.replace(path)
    except OSError as error:
        raise EdgepainError(f"{path} cannot be written ({error.strerror or error}); choose another --out") from error
    return path


def kept(bundle: Bundle, folder: Path | None = None) -> Timed | None:
    """What was measured here for this bundle, on this processor with this ONNX Runtime; None where nothing fits.

    What is damaged counts as nothing: it says no more than which of two checked graphs is sooner ready.
    """
    try:
        path = (folder or engines_folder(bundle.manifest.sha256)) / FILE
        with path.open("rb") as file:
            timed = msgspec.json.decode(file.read(MAX_FILE_BYTES), type=Timed)
    except (ConfigError, OSError, msgspec.DecodeError, RecursionError):
        return None
    has = {graph.precision for graph in bundle.manifest.graphs}
    fits = (timed.processor, timed.onnxruntime) == (processor_name(), ort.__version__)
    return timed if fits and timed.chosen in has else None


def _p50_ms(bundle: Bundle, engines: dict[Precision, OnnxEngine]) -> dict[Precision, float]:
    windows = bundle.golden().windows
    times_ms: dict[Precision, list[float]] = {precision: [] for precision in engines}
    for engine in engines.values():
        for i in range(WARM_UP):
            engine.predict(windows[i % len(windows)][None])
    # In turns, so that whatever else the machine does falls on all alike.
    for turn in range(ROUNDS):
        for precision, engine in engines.items():
            for i in range(ANSWERS):
                window = windows[(turn * ANSWERS + i) % len(windows)][None]
                begin_ns = time.perf_counter_ns()
                engine.predict(window)
                times_ms[precision].append((time.perf_counter_ns() - begin_ns) / 1e6)
    return {precision: float(np.median(times)) for precision, times in times_ms.items()}


def _choose(p50_ms: dict[Precision, float]) -> tuple[Precision, str]:
    if len(p50_ms) == 1:
        (only,) = p50_ms
        return only, "no other graph to choose from"
    times_faster = p50_ms["fp32"] / p50_ms["int8"]
    if times_faster >= WORTH_INT8:
        return "int8", f"{times_faster:.2f} times as fast as fp32"
    return "fp32", f"int8 is not faster by {WORTH_INT8 - 1:.0%} ({times_faster:.2f} times as fast) and less exact"
