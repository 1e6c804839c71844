"""The report as a person reads it."""

from __future__ import annotations

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from edgepain.benchmarks import flops
from edgepain.benchmarks.latency import BATCH, EngineName
from edgepain.benchmarks.machine import Machine
from edgepain.benchmarks.report import EngineRow, Reference, Report
from edgepain.bundle import NetworkSpec
from edgepain.train import paper

NAMES: dict[EngineName, str] = {
    "torch": "torch eager",
    "plain": "plain ONNX export",
    "fp32": "ONNX fp32",
    "int8": "ONNX INT8",
    "openvino-fp32": "OpenVINO fp32",
    "openvino-bf16": "OpenVINO bf16",
    "openvino-int8": "OpenVINO INT8",
}


def show(report: Report, console: Console) -> None:
    """Print `report`."""
    network = report.network
    what = "demonstration bundle" if report.demonstration else "bundle"
    console.print(f"{what} {report.bundle!r}: {' + '.join(network.modalities)}, {network.fusion} fusion", markup=False)
    console.print(_machine(report.machine), highlight=False, markup=False)
    console.print(_operations_table(report))
    console.print(_why_different(report), highlight=False, markup=False)
    console.print(_latency_table(report))
    if report.reference:
        console.print(_beside_reference(report, report.reference), highlight=False, markup=False)
    console.print(_cost_table(report))
    console.print(_below(report), highlight=False, markup=False)
    console.print(_live(report), highlight=False, markup=False)
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
        f"load {or_na(machine.load_average, '.2f')}\n{machine.system}, Python {machine.python}, {packages}"
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
            or_na(row.paper_mflops, "g", "not printed"),
        )
    return table


def _why_different(report: Report) -> str:
    network, width = report.network, report.network.width
    sequence = msgspec.structs.replace(report.network, fusion="sequence")
    wide_mflops = 2 * flops.lstm_multiply_adds(network.steps, width) / 1e6
    lines = ["FCN, ALSTM and Transformer block are needed once a modality; the sum counts them so."]
    if network.stride > 1:
        lines.append(
            f"One token stands for {network.stride} points, the width is {width}: the paper has no such network."
        )
    else:
        lines += [
            f"2 FLOPs a multiply-add comes to {_share(flops.fcn(sequence))} of the paper's FCN and to "
            f"{_share(flops.crossmod(sequence))} of its CrossMod in sequence fusion, without norms and activations.",
            f"ALSTM: the LSTM of the paper's Table 2, {width // 2} wide, has {flops.alstm(sequence).mflops:.1f} "
            f"MFLOPs; one {width} wide would have {wide_mflops:.1f}.",
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
    table = _table(f"One window at a time, {report.threads} thread, model only: ms, and times faster than others")
    table.add_column("engine", no_wrap=True)
    for heading in ("p50", "p90", "p99", "torch", "plain", "fp32", "OpenVINO"):
        table.add_column(heading, justify="right")
    for row in report.engines:
        times = row.latency
        ratios = (
            row.times_faster_than_torch,
            row.times_faster_than_plain,
            row.times_faster_than_fp32,
            row.times_faster_than_openvino,
        )
        table.add_row(
            NAMES[row.engine],
            *(or_na(value, ".2f") for value in ((times.p50_ms, times.p90_ms, times.p99_ms) if times else (None,) * 3)),
            *(or_na(value, ".2f") for value in ratios),
        )
    table.add_row(f"paper: {report.paper.ms:g} on average", *["n/a"] * 7)
    return table


def _beside_reference(report: Report, reference: Reference) -> str:
    total = next(row for row in report.operations if row.name == flops.TOTAL)
    fewer = (
        f"Bundle {reference.bundle!r} has {reference.multiply_adds / 1e6:.2f} million multiply-adds, "
        f"{reference.multiply_adds / total.multiply_adds:.1f} times as many."
    )
    if reference.latency is None:
        return f"{fewer} torch eager of it: n/a ({reference.reason})."
    faster = ", ".join(f"{NAMES[name]} {times:.1f}" for name, times in reference.times_faster.items())
    return (
        f"{fewer} torch eager of it, in turns with these: p50 {reference.latency.p50_ms:.2f}, p90 "
        f"{reference.latency.p90_ms:.2f}, p99 {reference.latency.p99_ms:.2f} ms. Times faster than that: {faster}."
    )


def _cost_table(report: Report) -> Table:
    energy = any(row.latency and row.latency.joules is not None for row in report.engines)
    table = _table(
        f"ms to import, load, first answer, {BATCH} windows; 10⁶ bytes; {report.golden_windows} golden windows"
    )
    table.add_column("engine", no_wrap=True)
    headings = ("import", "load", "first", str(BATCH), "peak", "file", *(["mJ"] if energy else []), "right", "changed")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in report.engines:
        latency = row.latency
        if latency is not None:
            table.add_row(
                NAMES[row.engine],
                f"{latency.import_ms:.0f}",
                f"{latency.load_ms:.0f}",
                f"{latency.first_ms:.1f}",
                f"{latency.batch_ms:.1f}{'' if latency.batched else '*'}",
                or_na(latency.peak_mb, ".0f"),
                or_na(None if row.size_bytes is None else row.size_bytes / 1e6, ".2f"),
                *([or_na(None if latency.joules is None else 1e3 * latency.joules, ".1f")] if energy else []),
                or_na(row.accuracy, ".1%"),
                or_na(row.changed_labels, "d"),
            )
    return table


def _below(report: Report) -> str:
    """What the tables leave out, a line each."""
    lines = [f"{NAMES[row.engine]}: n/a ({row.reason})" for row in report.engines if row.latency is None]
    if any(row.weights == "random" for row in report.engines):
        lines.append("torch eager and its plain export: random weights, so their answers are not counted")
    lines.append("* one after the other: the graph takes one window")
    return "\n".join([*lines, f"Energy of an answer: {report.energy}"])


def _live(report: Report) -> str:
    live = report.live
    if live is None:
        return f"Sensor to decision: n/a ({report.no_live})."
    return (
        f"Sensor to decision: p50 {live.p50_ms:.2f}, p90 {live.p90_ms:.2f}, p99 {live.p99_ms:.2f} ms over "
        f"{live.decisions} decisions, of which inference {live.inference_p50_ms:.2f} ms ({live.device})."
    )


def _name(row: EngineRow) -> str:
    return NAMES[row.engine] + (", random weights" if row.weights == "random" else "")


def or_na(value: float | None, form: str, otherwise: str = "n/a") -> str:
    return otherwise if value is None else format(value, form)
