"""One engine in a process of its own: `python -m edgepain.benchmarks.worker ENGINE BUNDLE [FILE]`.

FILE: weights for torch, the graph for `plain` and `openvino-int8`. Speaks JSON lines. It loads the engine and answers
{"import_ms", "load_ms", "first_ms", "batched"}; then for every line with a number N it runs N windows, for `batch N`
N windows at once (one after the other where it is not `batched`), and answers {"times_ms": [...]}; at the end of its
input it answers {"peak_mb", "labels"} and ends. What goes wrong is answered as {"error": "..."}.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepain.bundle import Bundle, Precision, open_bundle
from edgepain.errors import EdgepainError

Predict = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


def main(engine: str, root: str, file: str | None = None) -> None:
    """Serve one engine until standard input ends."""
    bundle = open_bundle(root)
    windows = bundle.golden().windows
    try:
        start = time.perf_counter()
        opener = _opener(engine, file)
        imported = time.perf_counter()
        predict = opener(bundle)
        loaded = time.perf_counter()
        predict(windows[:1])
        first = time.perf_counter()
    except ImportError as error:
        _answer(error=f"{error.name or error} is not installed; install edgepain[bench]")
        return
    except EdgepainError as error:
        _answer(error=str(error))
        return
    _answer(
        import_ms=1e3 * (imported - start),
        load_ms=1e3 * (loaded - imported),
        first_ms=1e3 * (first - loaded),
        batched=engine == "torch",
    )
    done, peak_mb = 0, None
    for line in sys.stdin:
        command, _, number = line.rpartition(" ")
        count = int(number)
        if command == "batch":
            # Many at once take more memory than one window, for which alone the peak is stated.
            peak_mb = peak_mb or _peak_mb()
            batch = windows[np.arange(count) % len(windows)]
            _answer(times_ms=[_timed(predict, *([batch] if engine == "torch" else np.split(batch, count)))])
            continue
        _answer(times_ms=[_timed(predict, windows[i % len(windows)][None]) for i in range(done, done + count)])
        done += count
    labels = [int(predict(w[None]).argmax()) for w in windows]
    _answer(peak_mb=peak_mb or _peak_mb(), labels=labels)


def _timed(predict: Predict, *batches: npt.NDArray[np.float32]) -> float:
    start = time.perf_counter()
    for batch in batches:
        predict(batch)
    return 1e3 * (time.perf_counter() - start)


def _opener(engine: str, file: str | None) -> Callable[[Bundle], Predict]:
    if engine == "torch":
        return _torch_opener(file)
    if engine == "plain":
        return _plain_opener(file or "")
    if engine.startswith("openvino-"):
        return _openvino_opener(engine.removeprefix("openvino-"), file)
    return _onnx_opener("int8" if engine == "int8" else "fp32")


def _plain_opener(file: str) -> Callable[[Bundle], Predict]:
    """ONNX Runtime as it comes, on one thread."""
    import onnxruntime as ort

    def opened(_: Bundle) -> Predict:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name

        def predict(windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            logits: npt.NDArray[np.float32] = session.run(None, {name: windows})[0]
            return logits

        return predict

    return opened


def _openvino_opener(precision: str, file: str | None) -> Callable[[Bundle], Predict]:
    """OpenVINO set to answer one window soon, on the bundle's fp32 graph or on `file`."""
    import openvino  # type: ignore[import-untyped]

    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
    }

    def opened(bundle: Bundle) -> Predict:
        path = file or str(bundle.root / bundle.graph("fp32").file)
        try:
            request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
        except RuntimeError as error:
            raise EdgepainError(f"OpenVINO does not take {Path(path).name}: {str(error).strip()[:120]}") from error

        def predict(windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            request.infer({0: windows})
            logits: npt.NDArray[np.float32] = request.get_output_tensor(0).data.copy()
            return logits

        return predict

    return opened


def _onnx_opener(precision: Precision) -> Callable[[Bundle], Predict]:
    from edgepain.engine import open_engine

    return lambda bundle: open_engine(bundle, precision, check=False).predict


def _torch_opener(weights: str | None) -> Callable[[Bundle], Predict]:
    import torch

    from edgepain.train.models import CrossModTransformer

    torch.set_num_threads(1)

    def opened(bundle: Bundle) -> Predict:
        network = CrossModTransformer(bundle.manifest.network)
        if weights:
            from safetensors.torch import load_file

            network.load_state_dict(load_file(weights))
        network.eval()

        def predict(windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            with torch.inference_mode():
                logits: npt.NDArray[np.float32] = network(torch.from_numpy(windows)).numpy()
            return logits

        return predict

    return opened


def _peak_mb() -> float | None:
    """Largest resident memory of this process since it started; None where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return None


def _answer(**fields: Any) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
