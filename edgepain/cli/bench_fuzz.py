"""`edgepain bench fuzz`: damaged bytes into every decoder, for developers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgepain.benchmarks.fuzz import FuzzReport
    from edgepain.benchmarks.fuzz_guided import GuidedReport

DEVICES = ("edgeframe", "bitalino", "shimmer3", "lines", "lsl")


@click.command("fuzz")
@click.option("--device", "devices", type=click.Choice(DEVICES), multiple=True, help="Only this one. May be repeated.")
@click.option("--megabytes", type=click.FloatRange(0.1, 100_000), default=100.0, show_default=True, help="Of each.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed, the same bytes.")
@click.option("--coverage-guided", is_flag=True, help="By atheris (extra: fuzz), which looks for untrodden branches.")
@click.option(
    "--seconds", type=click.FloatRange(1), default=150.0, show_default=True, help="Of each, with --coverage-guided."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def command(
    devices: tuple[str, ...], megabytes: float, seed: int, coverage_guided: bool, seconds: float, as_json: bool
) -> None:
    """Feed damaged bytes to the driver of every device: flips, drops, repeats, splices, garbage, in reads of any size.

    It must not raise, not grow, and take no frame for sound that was never sent, beyond what its check value lets pass.
    Ends with status 1 where a driver raised, and says how to see it again.

    \b
    Examples:
      edgepain bench fuzz
      edgepain bench fuzz --device shimmer3 --megabytes 1000 --seed 7
      edgepain bench fuzz --coverage-guided --seconds 600
    """
    import msgspec
    from rich.console import Console
    from rich.progress import Progress

    from edgepain.benchmarks.fuzz import FuzzReport, benchmark_fuzz
    from edgepain.benchmarks.fuzz_guided import guided_fuzz

    messages = Console(stderr=True)
    with Progress(console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("", total=1.0)

        def show(device: str, share: float) -> None:
            bar.update(task, description=device, completed=share)

        report: FuzzReport | GuidedReport
        if coverage_guided:
            report = guided_fuzz(devices or DEVICES, seconds, seed, show)
        else:
            report = benchmark_fuzz(devices or DEVICES, megabytes, seed, show)
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        _show(report) if isinstance(report, FuzzReport) else _show_guided(report)
    if any(row.error for row in report.rows):
        sys.exit(1)


def _show(report: FuzzReport) -> None:
    from rich.console import Console
    from rich.table import Table

    out = Console()
    table = Table("device", "check", title=f"damaged bytes, seed {report.seed}")
    for heading in ("MB", "sent", "accepted", "wrong", "by chance", "grew MB", "MB/s"):
        table.add_column(heading, justify="right")
    for row in report.rows:
        chance = "n/a" if row.by_chance is None else f"{row.by_chance:.2g}"
        counts = (f"{row.megabytes:.0f}", f"{row.sent}", f"{row.accepted}", f"{row.wrong}", chance)
        table.add_row(row.device, row.check, *counts, f"{row.grown_mb:.1f}", f"{row.mb_s:.3g}")
    out.print(table)
    for row in report.rows:
        if row.error:
            again = (
                f"edgepain bench fuzz --device {row.device} --megabytes {row.megabytes + 1:.0f} --seed {report.seed}"
            )
            out.print(f"{row.device} raised {row.error}\n  again: {again}", markup=False, soft_wrap=True)
    out.print(f"{report.machine.processor}, {report.machine.system}", highlight=False, markup=False)


def _show_guided(report: GuidedReport) -> None:
    from rich.console import Console
    from rich.table import Table

    out = Console()
    table = Table("device", title="coverage-guided")
    for heading in ("seconds", "inputs", "branches by seeds", "branches", "new inputs", "most MB"):
        table.add_column(heading, justify="right")
    for row in report.rows:
        counts = (row.runs, row.coverage_seeds, row.coverage, row.new, row.memory_mb)
        table.add_row(row.device, f"{row.seconds:g}", *map(str, counts))
    out.print(table)
    for row in report.rows:
        if row.error:
            out.print(f"{row.device} failed; the input lies here as fuzz-{row.device}-*\n{row.error}", markup=False)
    out.print(f"{report.machine.processor}, {report.machine.system}", highlight=False, markup=False)
