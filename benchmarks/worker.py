"""One engine in a process of its own: `python -m edgepain.benchmarks.worker ENGINE BUNDLE [WEIGHTS]`.

Speaks JSON lines. It loads the engine and answers {"import_ms", "load_ms", "first_ms"}; then for every line with a
number N it runs N windows and answers {"times_ms": [...]}; at the end of its input it answers {"peak_mb",
"labels"} and ends. What goes wrong is answered as {"error": "..."}.
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


def main(engine: str, root: str, weights: str | None = None) -> None:
    """Serve one engine until standard input ends."""
    bundle = open_bundle(root)
    windows = bundle.golden().windows
    try:
        start = time.perf_counter()
        opener = _torch_opener(weights) if engine == "torch" else _onnx_opener("int8" if engine == "int8" else "fp32")
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
    _answer(import_ms=1e3 * (imported - start), load_ms=1e3 * (loaded - imported), first_ms=1e3 * (first - loaded))
    done = 0
    for line in sys.stdin:
        times_ms = []
        for index in range(done, done + int(line)):
            window = windows[index % len(windows)][None]
            start = time.perf_counter()
            predict(window)
            times_ms.append(1e3 * (time.perf_counter() - start))
        done += len(times_ms)
        _answer(times_ms=times_ms)
    labels = [int(predict(w[None]).argmax()) for w in windows]
    _answer(peak_mb=_peak_mb(), labels=labels)


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
