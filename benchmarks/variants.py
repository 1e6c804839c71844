"""Ways to make INT8 of a graph, side by side on this machine: `python -m edgepain.benchmarks.variants BUNDLE`.

Prints the table of docs/quantization.md. Needs `edgepain[export]` and a bundle with an INT8 graph, and an fp32 graph on
its own weights. Static forms saturate at the percentile that the export chose.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static
from rich import box
from rich.console import Console
from rich.table import Table

from edgepain.benchmarks.machine import this_machine
from edgepain.bundle import open_bundle
from edgepain.engine import softmax
from edgepain.engine.onnx import DISABLED_OPTIMIZERS, INPUT_NAME, session_options
from edgepain.export.quantize import CalibrationWindows, float_nodes, quiet, relus_of_others

LAYERS = ["Conv", "MatMul", "Gemm"]
Windows = npt.NDArray[np.float32]


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--rounds", default=100, show_default=True, help="Times that ten golden windows are answered.")
def main(bundle: Path, rounds: int) -> None:
    """Measure the variants made of the fp32 graph of BUNDLE, in turns, on its golden windows."""
    opened = open_bundle(bundle)
    golden = opened.golden().windows
    with np.load(bundle / "calibration.npz") as archive:
        calibration = archive["windows"]
    with TemporaryDirectory(prefix="edgepain-") as scratch, quiet():
        percentile = opened.graph("int8").activation_percentile or 100.0
        paths = _make(bundle / opened.graph("fp32").file, calibration, percentile, Path(scratch))
        sessions = {name: _session(path) for name, path in paths.items()}
        sessions["fp32, SkipLayerNorm fusion on"] = _session(paths["fp32"], disabled=())
        sizes = {name: path.stat().st_size / 1e6 for name, path in paths.items()}
        times_ms = _measure(sessions, golden[:10], rounds)
    answers = {name: _answers(session, golden) for name, session in sessions.items()}
    table = Table(title=f"{this_machine().processor}, ONNX Runtime {ort.__version__}, 1 thread", box=box.MARKDOWN)
    for heading in ("variant", "p10 ms", "p50 ms", "MB", "largest Δ probability", "changed labels"):
        table.add_column(heading)
    reference = answers["fp32"]
    for name in sorted(sessions, key=lambda name: float(np.median(times_ms[name]))):
        difference = np.abs(softmax(answers[name]) - softmax(reference)).max()
        changed = np.count_nonzero(answers[name].argmax(axis=1) != reference.argmax(axis=1))
        low, median = np.percentile(times_ms[name], (10, 50))
        size = f"{sizes[name]:.2f}" if name in sizes else "same"
        table.add_row(name, f"{low:.2f}", f"{median:.2f}", size, f"{difference:.1e}", f"{changed}/{len(golden)}")
    Console(width=120).print(table)


def _make(fp32: Path, calibration: Windows, percentile: float, scratch: Path) -> dict[str, Path]:
    model = onnx.load(fp32)
    keep_float = float_nodes(model)
    keep_float += relus_of_others(model, keep_float)
    paths = {"fp32": fp32}

    def path_for(name: str) -> Path:
        paths[name] = scratch / f"{len(paths)}.onnx"
        return paths[name]

    def static(source: Path, name: str, layers: Sequence[str], symmetric: bool = False, narrow: bool = False) -> Path:
        quantize_static(
            source,
            path_for(name),
            CalibrationWindows(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*layers, "Relu"],
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=narrow,
            nodes_to_exclude=keep_float,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"ActivationSymmetric": symmetric, "CalibPercentile": percentile},
        )
        return paths[name]

    def dynamic(source: Path, name: str, layers: Sequence[str], narrow: bool = False) -> Path:
        quantize_dynamic(
            source,
            path_for(name),
            op_types_to_quantize=list(layers),
            weight_type=QuantType.QInt8,
            per_channel=layers != ["LSTM"],
            reduce_range=narrow,
            nodes_to_exclude=keep_float,
        )
        return paths[name]

    matrices = LAYERS[1:]
    convolutions = static(fp32, "Conv static", ["Conv"])
    products = dynamic(convolutions, "Conv static, MatMul dynamic", matrices)
    dynamic(products, "Conv static, MatMul and LSTM dynamic", ["LSTM"])
    narrow = static(fp32, "Conv static, 7-bit weights", ["Conv"], narrow=True)
    dynamic(narrow, "Conv static, MatMul dynamic, 7-bit weights", matrices, narrow=True)
    dynamic(fp32, "MatMul dynamic", matrices)
    dynamic(fp32, "Conv and MatMul dynamic", LAYERS)
    static(fp32, "all static", LAYERS)
    static(fp32, "all static, symmetric int8", LAYERS, symmetric=True)
    return paths


def _session(path: Path, disabled: Sequence[str] = DISABLED_OPTIMIZERS) -> ort.InferenceSession:
    return ort.InferenceSession(
        str(path), session_options(), providers=["CPUExecutionProvider"], disabled_optimizers=list(disabled)
    )


def _measure(sessions: dict[str, ort.InferenceSession], windows: Windows, rounds: int) -> dict[str, list[float]]:
    times_ms: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            for window in windows:
                start = time.perf_counter()
                session.run(None, {INPUT_NAME: window[None]})
                times_ms[name].append(1e3 * (time.perf_counter() - start))
    return times_ms


def _answers(session: ort.InferenceSession, windows: Windows) -> Windows:
    return np.concatenate([session.run(None, {INPUT_NAME: window[None]})[0] for window in windows])


if __name__ == "__main__":
    main()
