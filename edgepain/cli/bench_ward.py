"""`edgepain bench ward`: many wearables at once, read by one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgepain.benchmarks.ward import WardReport


@click.command("ward")
@click.option("--devices", type=click.IntRange(1, 256), default=32, show_default=True, help="Simulated wearables.")
@click.option(
    "--rate", type=click.FloatRange(10, 1000), default=128.0, show_default=True, help="Samples a second of each signal."
)
@click.option("--minutes", type=click.FloatRange(0.05, 1440), default=10.0, show_default=True)
@click.option(
    "--drop",
    type=click.FloatRange(0, 0.5),
    default=0.001,
    show_default=True,
    help="Share of frames that the wearables leave out: just those have to be missed.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def command(devices: int, rate: float, minutes: float, drop: float, as_json: bool) -> None:
    """Read many simulated wearables in one process: what is lost, memory, processor, and latency.

    Another process plays them, each with EDA and a pulse wave on a pseudo-terminal of its own. Ends with exit code 5
    when anything is missing that was sent.

    \b
    Examples:
      edgepain bench ward
      edgepain bench ward --devices 4 --minutes 0.1 --json
    """
    import msgspec
    from rich.console import Console
    from rich.progress import Progress

    from edgepain.benchmarks.ward import benchmark_ward
    from edgepain.errors import VerificationError

    messages = Console(stderr=True)
    with Progress(console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("reading", total=minutes * 60)
        report = benchmark_ward(
            devices, rate, minutes * 60, drop, progress=lambda seconds: bar.update(task, completed=seconds)
        )
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        Console().print(_table(report), highlight=False)
    if not report.sound:
        raise VerificationError(
            f"{report.frames} of {report.frames_sent} frames came, {report.lost} were missed and {report.swallowed} "
            "left out on purpose: this machine does not keep up, or something is wrong with a port"
        )


def _table(report: WardReport) -> str:
    read, sample = report.write_to_read_ms, report.write_to_sample_ms
    lines = [
        f"{report.devices} wearables, two signals of {report.rate_hz:g} Hz each, {report.seconds:g} s",
        f"frames      {report.frames} of {report.frames_sent} that were sent; {report.swallowed} left out on purpose, "
        f"{report.lost} missed; {report.full} did not fit a port",
        f"errors      {report.crc_errors} damaged, {report.dropped} dropped in the ward, {len(report.failed)} sources "
        "failed",
        f"processor   {report.processor_percent:.1f} % of one core, {report.processor_percent_a_stream:.3f} % a signal",
        f"memory      {report.memory_mb[0]:.1f} MB after the first minute, {report.memory_mb[1]:.1f} MB at the end",
        f"latency     from write to read {read.p50:.2f} ms (p99 {read.p99:.2f}, at most {read.most:.1f})",
        f"            from write to sample {sample.p50:.2f} ms (p99 {sample.p99:.2f}, at most {sample.most:.1f})",
        f"on          {report.machine.processor}, {report.machine.system}",
        *(f"failed      {name}: {why}" for name, why in report.failed.items()),
    ]
    return "\n".join(lines)
