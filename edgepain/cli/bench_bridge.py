"""`edgepain bench bridge`: how fast the bytes of wearables are decoded here."""

from __future__ import annotations

import click


@click.command("bridge")
@click.option("--megabytes", type=click.FloatRange(1, 1000), default=8.0, show_default=True, help="Of each format.")
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True, help="The best of so many counts.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def command(megabytes: float, rounds: int, as_json: bool) -> None:
    """Measure every decoder of a wire format on one core, beside a plain loop over the bytes in the same run.

    And how far host times are off over synthetic links that stall, with clocks 60 ppm apart.

    \b
    Examples:
      edgepain bench bridge
      edgepain bench bridge --megabytes 50 --json
    """
    import msgspec
    from rich.console import Console
    from rich.table import Table

    from edgepain.benchmarks.bridge import benchmark_bridge

    console = Console(stderr=True)
    with console.status("measuring"):
        report = benchmark_bridge(megabytes, rounds)
    if as_json:
        click.echo(msgspec.json.encode(report))
        return
    table = Table("decoder", title="MB of wire a second of processor time, one core")
    for heading in ("reads of 64 KiB", "reads of 4 KiB", "byte loop", "times the loop"):
        table.add_column(heading, justify="right")
    for row in report.rows:
        speeds = (f"{speed:.3g}" for speed in (row.large_mb_s, row.small_mb_s, row.loop_mb_s, row.times))
        table.add_row(row.decoder, *speeds)
    out = Console()
    out.print(table)
    out.print(f"5 ms of BITalino frames become samples in {report.byte_to_sample_us:.0f} µs (median).")
    streams = Table("device at its own pace", title="read every 20 ms, one core")
    for heading in ("kB/s", "% of a core", "byte to sample, µs", "p99"):
        streams.add_column(heading, justify="right")
    for stream in report.streams:
        latency = (f"{us:.0f}" for us in (stream.byte_to_sample_us, stream.byte_to_sample_p99_us))
        streams.add_row(stream.device, f"{stream.wire_kb_s:.2f}", f"{stream.processor_percent:.2f}", *latency)
    out.print(streams)
    clocks = Table("link (synthetic)", title="ms that host times are off at the most: median, worst session")
    for heading in ("lower envelope", "least squares", "in the first minute", "stated"):
        clocks.add_column(heading, justify="right")
    for clock in report.clocks:
        pairs = (clock.envelope_ms, clock.least_squares_ms, clock.first_minute_ms)
        clocks.add_row(clock.link, *(f"{median:.1f}, {worst:.1f}" for median, worst in pairs), f"{clock.stated_ms:.1f}")
    out.print(clocks)
    out.print(f"{report.machine.processor}, {report.machine.system}", highlight=False, markup=False)
