"""The report as a person reads it."""

from __future__ import annotations

import msgspec
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgepain.benchmarks import flops
from edgepain.benchmarks.machine import Machine
from edgepain.benchmarks.report import EngineRow, Report
from edgepain.bundle import NetworkSpec
from edgepain.train import paper

_NAMES = {"torch": "torch eager", "fp32": "ONNX fp32", "int8": "ONNX INT8"}


def show(report: Report, console: Console) -> None:
    """Print `report`."""
    network = report.network
    what = "demonstration bundle" if report.demonstration else "bundle"
    console.print(f"{what} {report.bundle!r}: {' + '.join(network.modalities)}, {network.fusion} fusion", markup=False)
    console.print(_machine(report.machine), highlight=False, markup=False)
    console.print(_operations_table(report))
    console.print(_why_different(report), highlight=False, markup=False)
    console.print(_latency_table(report))
    console.print(_cost_table(report))
    console.print(
        f"Paper: {report.paper.ms:g} ms per sample ({report.paper.machine}). Another machine and another runtime: "
        "a comparison of orders of magnitude, no more.",
        highlight=False,
        markup=False,
    )
    for note in report.notes:
        console.print(f"Note: {note}", highlight=False, markup=False)


def _machine(machine: Machine) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    int8 = ", ".join(machine.int8_instructions) or "none found"
    return (
        f"{machine.processor}, {machine.logical_cpus} CPUs, {machine.memory_gb:g} GB, "
        f"governor {machine.governor or 'n/a (not readable)'}, INT8 instructions {int8}, "
        f"load {_or_na(machine.load_average, '.2f')}\n{machine.system}, Python {machine.python}, {packages}"
    )


def _table(title: str) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _operations_table(report: Report) -> Table:
    table = _table("Millions of operations a window: FLOPs = 2 × multiply-adds, fvcore counts multiply-adds")
    for heading in ("sub-network", "fusion"):
        table.add_column(heading)
    for heading in ("multiply-adds", "FLOPs", "fvcore", "paper MFLOPS"):
        table.add_column(heading, justify="right")
    fused = {"CrossMod", flops.TOTAL}
    for row in report.operations:
        table.add_row(
            row.name,
            row.fusion if row.name in fused else "either",
            f"{row.multiply_adds / 1e6:.2f}",
            f"{row.mflops:.2f}",
            "n/a" if row.fvcore_multiply_adds is None else f"{row.fvcore_multiply_adds / 1e6:.2f}",
            _or_na(row.paper_mflops, "g", "not printed"),
        )
    return table


def _why_different(report: Report) -> str:
    steps, width = report.network.steps, report.network.width
    sequence = msgspec.structs.replace(report.network, fusion="sequence")
    wide_mflops = 2 * flops.lstm_multiply_adds(steps, width) / 1e6
    lines = [
        "FCN, ALSTM and Transformer block are needed once a modality; the sum counts them so.",
        f"2 FLOPs a multiply-add comes to {_share(flops.fcn(sequence))} of the paper's FCN and to "
        f"{_share(flops.crossmod(sequence))} of its CrossMod in sequence fusion, without norms and activations.",
        f"ALSTM: the LSTM of the paper's Table 2, {width // 2} wide, has {flops.alstm(sequence).mflops:.1f} MFLOPs; "
        f"one {width} wide would have {wide_mflops:.1f}.",
        _why_the_sum_differs(sequence),
    ]
    if report.fvcore:
        lines.append(f"fvcore: n/a ({report.fvcore}).")
    for row in report.operations:
        lines += [
            f"{row.name}: {name} is {value:+,} multiply-adds here against fvcore, which does not see it."
            for name, value in row.difference.items()
            if row.name != flops.TOTAL
        ]
    return "\n".join(lines)


def _why_the_sum_differs(sequence: NetworkSpec) -> str:
    """From the paper's sum down to ours in sequence fusion: what its other figures explain and what they do not."""
    counts = (flops.fcn(sequence), flops.alstm(sequence), flops.crossmod(sequence))
    missing = {c.name: flops.times_needed(c.name, sequence) * (paper.MFLOPS[c.name] - c.mflops) for c in counts}
    ours, printed = flops.total(sequence).mflops, paper.MFLOPS[flops.TOTAL]
    alstm, others = missing.pop("ALSTM"), sum(missing.values())
    return (
        f"All sub-networks: {ours:.0f} in sequence fusion, printed about {printed:.0f}. Of the {printed - ours:.0f} "
        f"between, {alstm:.0f} are {flops.times_needed('ALSTM', sequence)} × the ALSTM's difference, {others:.0f} the "
        f"FCN's and CrossMod's; {printed - ours - alstm - others:.0f} remain unexplained: the paper has no figure for "
        "the Transformer block."
    )


def _share(count: flops.Count) -> str:
    return f"{count.mflops / paper.MFLOPS[count.name]:.1%}"


def _latency_table(report: Report) -> Table:
    table = _table(f"One window at a time, {report.threads} thread, model only")
    table.add_column("engine")
    for heading in ("p50 ms", "p90 ms", "p99 ms", "× torch", "× fp32"):
        table.add_column(heading, justify="right")
    for row in report.engines:
        if row.latency is None:
            table.add_row(escape(f"{_NAMES[row.engine]}: n/a ({row.reason})"), *["n/a"] * 5)
            continue
        table.add_row(
            _name(row),
            *(f"{ms:.2f}" for ms in (row.latency.p50_ms, row.latency.p90_ms, row.latency.p99_ms)),
            _or_na(row.times_faster_than_torch, ".2f"),
            _or_na(row.times_faster_than_fp32, ".2f"),
        )
    table.add_row(f"paper: {report.paper.ms:g} ms on average", *["n/a"] * 5)
    return table


def _cost_table(report: Report) -> Table:
    table = _table(f"Cost (MB = 10⁶ bytes) and answers to {report.golden_windows} golden windows")
    table.add_column("engine")
    for heading in ("import ms", "load ms", "first ms", "peak MB", "file MB", "accuracy", "changed"):
        table.add_column(heading, justify="right")
    for row in report.engines:
        latency = row.latency
        if latency is not None:
            table.add_row(
                _NAMES[row.engine],
                f"{latency.import_ms:.0f}",
                f"{latency.load_ms:.0f}",
                f"{latency.first_ms:.1f}",
                _or_na(latency.peak_mb, ".0f"),
                _or_na(None if row.size_bytes is None else row.size_bytes / 1e6, ".2f"),
                _or_na(row.accuracy, ".1%"),
                _or_na(row.changed_labels, "d"),
            )
    return table


def _name(row: EngineRow) -> str:
    return _NAMES[row.engine] + (", random weights" if row.weights == "random" else "")


def _or_na(value: float | None, form: str, otherwise: str = "n/a") -> str:
    return otherwise if value is None else format(value, form)
