"""`edgepain bench train`: what is measured, and how a person reads it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from edgepain.benchmarks.machine import Machine, this_machine
from edgepain.benchmarks.train_accuracy import Comparison, compare_accuracy
from edgepain.benchmarks.train_blocks import Clock
from edgepain.benchmarks.train_speed import Progress, Protocol, StageTimes, measure_speed, whole_protocol

SCHEMA = 1
BASELINE = (
    "plain: float32, TensorDataset and DataLoader, Adam; frozen blocks run again in every step. plain + kept: the "
    "same, given the features of the frozen blocks. ours: edgepain train, with the checkpoint of every epoch."
)


class TrainReport(msgspec.Struct, frozen=True):
    """Epochs of one modality (crossmod: of both) on `windows` random windows, the shortest of `rounds` each.

    clock: `processor` for one thread, so that other work on the machine does not count; else `wall`. accuracy: None
    where it was not asked for (no seeds).
    """

    schema: int
    machine: Machine
    threads: int
    clock: Clock
    windows: int
    rounds: int
    baseline: str
    stages: tuple[StageTimes, ...]
    protocol: Protocol
    accuracy: Comparison | None


def benchmark_training(windows: int, rounds: int, seeds: int, threads: int, progress: Progress) -> TrainReport:
    """Measure every stage beside a plain loop, then compare accuracies over `seeds` seeds (0: not at all)."""
    machine = this_machine()
    clock: Clock = "processor" if threads == 1 else "wall"
    stages = measure_speed(windows, rounds, threads, clock, progress)
    return TrainReport(
        schema=SCHEMA,
        machine=machine,
        threads=threads,
        clock=clock,
        windows=windows,
        rounds=rounds,
        baseline=BASELINE,
        stages=stages,
        protocol=whole_protocol(stages, windows),
        accuracy=compare_accuracy(seeds, progress) if seeds else None,
    )


def show(report: TrainReport, console: Console) -> None:
    """Print `report`."""
    machine = report.machine
    console.print(
        f"{machine.processor}, {report.threads} of {machine.logical_cpus} CPUs, load {machine.load_average}, "
        f"torch {machine.packages['torch']}, Python {machine.python}",
        highlight=False,
        markup=False,
    )
    console.print(_stages(report))
    console.print(report.baseline, highlight=False, markup=False)
    if report.accuracy is not None:
        console.print(_accuracies(report.accuracy))


def _stages(report: TrainReport) -> Table:
    table = Table(
        title=f"Seconds of {report.clock} time an epoch of {report.windows} windows, shortest of {report.rounds} in "
        f"turns; hours of the paper's epochs for a fold of {report.protocol.windows}",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("stage")
    for heading in ("plain", "plain + kept", "ours", "×", "× kept", "in", "epochs"):
        table.add_column(heading, justify="right")
    for s in report.stages:
        ratios = f"{s.plain_s / s.ours_s:.2f}", f"{s.plain_kept_s / s.ours_s:.2f}"
        seconds = (f"{value:.3f}" for value in (s.plain_s, s.plain_kept_s, s.ours_s))
        table.add_row(s.stage, *seconds, *ratios, s.precision, str(s.epochs))
    p = report.protocol
    hours = (f"{value:.2f} h" for value in (p.plain_h, p.plain_kept_h, p.ours_h))
    ratios = f"{p.times_faster:.2f}", f"{p.times_faster_than_kept:.2f}"
    table.add_section()
    table.add_row("a fold", *hours, *ratios, "", str(sum(s.epochs for s in report.stages)))
    return table


def _accuracies(comparison: Comparison) -> Table:
    c = comparison
    table = Table(
        title=f"Held-out accuracy on synthetic people: {c.held_out_windows} windows of {c.held_out_people}, "
        f"after training on {c.windows} of {c.people - c.held_out_people}; mean ± SD over seeds",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("trained in")
    for heading in ("accuracy", "AUC", "seeds"):
        table.add_column(heading, justify="right")
    for row in c.rows:
        table.add_row(row.precision, _spread(row.accuracy, 100, " %"), _spread(row.auc, 1, ""), str(len(row.auc)))
    plain, ours = c.rows
    differences = [b - a for a, b in zip(plain.accuracy, ours.accuracy, strict=True)]
    aucs = [b - a for a, b in zip(plain.auc, ours.auc, strict=True)]
    table.add_row("ours − fp32, seed by seed", _spread(differences, 100, " %"), _spread(aucs, 1, ""), "")
    return table


def _spread(values: Sequence[float], times: float, unit: str) -> str:
    decimals = 1 if times == 100 else 3
    spread = f"{stdev(values) * times:.{decimals}f}" if len(values) > 1 else "n/a"
    return f"{mean(values) * times:.{decimals}f} ± {spread}{unit}"
