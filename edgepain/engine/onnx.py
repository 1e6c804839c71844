"""ONNX Runtime on the CPU, one thread."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from edgepain.bundle import Bundle, GraphFacts, Precision
from edgepain.engine.golden import check_golden
from edgepain.errors import BundleError

INPUT_NAME = "window"
OUTPUT_NAME = "logits"
# Fused, skip connection and layer norm run in one kernel that is slower than the two it replaces.
DISABLED_OPTIMIZERS = ["SkipLayerNormFusion"]


def open_engine(bundle: Bundle, precision: Precision | None = None, *, check: bool = True) -> OnnxEngine:
    """Load a graph of a checked bundle (by default INT8 where it has one) and run its golden windows.

    Raises BundleMismatchError where the bundle has no such graph, BundleError where the graph is no ONNX or is
    not what the manifest says, VerificationError where it does not answer as it did at export (`check`).
    """
    engine = OnnxEngine(bundle, precision)
    if check:
        check_golden(engine, bundle, engine.precision)
    return engine


def file_to_load(facts: GraphFacts) -> str:
    """The optimized form of a graph where it was made by this release of ONNX Runtime for such a processor."""
    fits = facts.optimized and (facts.optimized.onnxruntime, facts.optimized.processor) == (
        ort.__version__,
        platform.machine(),
    )
    return facts.optimized.file if facts.optimized and fits else facts.file


def session_options() -> ort.SessionOptions:
    """One thread that does not spin while it waits: a live window comes once in seconds, on a battery."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Fatal only: what fails is raised, and the rest would land on the screen of a live session.
    options.log_severity_level = 4
    return options


class OnnxEngine:
    """One graph of a bundle in ONNX Runtime."""

    def __init__(self, bundle: Bundle, precision: Precision | None = None) -> None:
        facts = bundle.graph(precision)
        network = bundle.manifest.network
        self._shape = (len(network.modalities), network.steps)
        file = file_to_load(facts)
        shown = f"{bundle}/{file}"
        self._session = _load(bundle.root / file, shown)
        _require_shapes(self._session, shown, ([1, *self._shape], [1, network.classes]))
        self.precision: Precision = facts.precision
        self.model_sha256 = bundle.manifest.files[facts.file].sha256
        self.description = f"ONNX Runtime {ort.__version__}, {facts.precision}, 1 CPU thread"

    def predict(self, windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Logits [B, K] float32 of scaled windows [B, M, S] float32; the graph takes them one by one."""
        if windows.ndim != 3 or windows.shape[1:] != self._shape or windows.dtype != np.float32:
            raise ValueError(
                f"windows must be float32 [B, {self._shape[0]}, {self._shape[1]}], "
                f"got {windows.dtype} {list(windows.shape)}"
            )
        run = self._session.run
        answers = [run([OUTPUT_NAME], {INPUT_NAME: windows[i : i + 1]})[0] for i in range(len(windows))]
        if not answers:
            return np.empty((0, self._session.get_outputs()[0].shape[1]), np.float32)
        logits: npt.NDArray[np.float32] = np.concatenate(answers)
        return logits


def _load(path: Path, shown: str) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(
            str(path),
            session_options(),
            providers=["CPUExecutionProvider"],
            disabled_optimizers=DISABLED_OPTIMIZERS,
        )
    except Exception as error:  # ONNX Runtime's own exceptions have no common base below Exception.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BundleError(f"{shown} cannot be loaded by ONNX Runtime ({reason}); export the bundle again") from error


def _require_shapes(session: ort.InferenceSession, shown: str, expected: tuple[list[int], list[int]]) -> None:
    found = [(v.name, v.type, v.shape) for v in (*session.get_inputs(), *session.get_outputs())]
    wanted = [
        (INPUT_NAME, "tensor(float)", expected[0]),
        (OUTPUT_NAME, "tensor(float)", expected[1]),
    ]
    if found != wanted:
        raise BundleError(
            f"{shown} takes and gives {_describe(found)}, but the manifest needs {_describe(wanted)}; "
            "export the bundle again"
        )


def _describe(values: list[tuple[str, str, list[int]]]) -> str:
    return ", ".join(f"{name} {kind}{list(shape)}" for name, kind, shape in values)
