"""The report as a person reads it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from edgepain.benchmarks import flops, paper
from edgepain.benchmarks.latency import Latency
from edgepain.benchmarks.machine import Machine
from edgepain.benchmarks.report import EngineRow, Operations, Report


def show(report: Report, console: Console) -> None:
    """Print `report`."""
    network = report.network
    what = "demonstration bundle" if report.demonstration else "bundle"
    console.print(f"{what} {report.bundle!r}: {' + '.join(network.modalities)}, {network.fusion} fusion")
    console.print(_machine(report.machine), highlight=False)
    console.print(_operations_table(report))
    console.print(_why_different(report), highlight=False)
    console.print(_engine_table(report))
    console.print(
        f"Paper: {report.paper.ms:g} ms per sample ({report.paper.machine}). Another machine and another runtime: "
        "a comparison of orders of magnitude, no more.",
        highlight=False,
    )
    for note in report.notes:
        console.print(f"Note: {note}", highlight=False)


def _machine(machine: Machine) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    int8 = ", ".join(machine.int8_instructions) or "none found"
    return (
        f"{machine.processor}, {machine.logical_cpus} CPUs, {machine.memory_gb:g} GB, "
        f"governor {machine.governor or 'n/a (not readable)'}, INT8 instructions {int8}, "
        f"load {_or_na(machine.load_average, '.2f')}\n{machine.system}, Python {machine.python}, {packages}"
    )


def _operations_table(report: Report) -> Table:
    table = Table(title="Operations for one window (millions; FLOPs = 2 × multiply-adds)")
    for heading in ("sub-network", "fusion"):
        table.add_column(heading)
    for heading in ("multiply-adds", "FLOPs", "fvcore multiply-adds", "paper MFLOPS"):
        table.add_column(heading, justify="right")
    fused = {"CrossMod", "sum of all sub-networks"}
    for row in report.operations:
        table.add_row(
            row.name,
            row.fusion if row.name in fused else "either",
            f"{row.multiply_adds / 1e6:.2f}",
            f"{row.mflops:.2f}",
            _fvcore(row, report.fvcore),
            _or_na(row.paper_mflops, "g", "not printed"),
        )
    return table


def _fvcore(row: Operations, reason: str) -> str:
    if row.fvcore_multiply_adds is None:
        return f"n/a ({reason or 'not counted'})"
    return f"{row.fvcore_multiply_adds / 1e6:.2f}"


def _why_different(report: Report) -> str:
    steps, width = report.network.steps, report.network.width
    wide = 2 * flops.lstm_multiply_adds(steps, width) / 1e6
    lines = [
        "FCN, ALSTM and Transformer block are needed once a modality; the sum counts them so.",
        "Paper: 2 FLOPs a multiply-add explains FCN (its 0.9 % more is what bias, batch norm and ReLU cost) and the "
        "sequence fusion of CrossMod.",
        f"ALSTM: the LSTM of its Table 2, 64 wide, has {flops.alstm(report.network).mflops:.1f} MFLOPs; "
        f"one {width} wide would have {wide:.1f}.",
    ]
    for row in report.operations:
        lines += [
            f"{row.name}: {name} is {value:+,} multiply-adds here against fvcore, which does not see it."
            for name, value in row.difference.items()
        ]
    return "\n".join(lines)


def _engine_table(report: Report) -> Table:
    table = Table(title=f"One window at a time, {report.threads} thread, model only (ms; MB = 10⁶ bytes)")
    table.add_column("engine")
    headings = ("p50", "p90", "p99", "× torch", "× fp32", "import", "load", "first", "peak MB", "file MB")
    for heading in (*headings, "golden: accuracy", "changed"):
        table.add_column(heading, justify="right")
    for row in report.engines:
        table.add_row(_engine_name(row), *_cells(row))
    table.add_row("paper (PyTorch)", f"{paper.INFERENCE_MS:g} mean", *["n/a"] * 11, style="dim")
    return table


def _engine_name(row: EngineRow) -> str:
    names = {"torch": "torch eager fp32", "fp32": "ONNX fp32", "int8": "ONNX INT8"}
    return names[row.engine] + (" (random weights)" if row.weights == "random" else "")


def _cells(row: EngineRow) -> list[str]:
    latency: Latency | None = row.latency
    if latency is None:
        return [f"n/a ({row.reason})"]
    return [
        f"{latency.p50_ms:.2f}",
        f"{latency.p90_ms:.2f}",
        f"{latency.p99_ms:.2f}",
        _or_na(row.times_faster_than_torch, ".2f"),
        _or_na(row.times_faster_than_fp32, ".2f"),
        f"{latency.import_ms:.0f}",
        f"{latency.load_ms:.0f}",
        f"{latency.first_ms:.1f}",
        _or_na(latency.peak_mb, ".0f"),
        _or_na(None if row.size_bytes is None else row.size_bytes / 1e6, ".2f"),
        _or_na(row.accuracy, ".1%"),
        _or_na(row.changed_labels, "d"),
    ]


def _or_na(value: float | None, form: str, otherwise: str = "n/a") -> str:
    return otherwise if value is None else format(value, form)
