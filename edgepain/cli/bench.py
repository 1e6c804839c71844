"""`edgepain bench`: FLOPs, latency and memory of a bundle."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("bench")
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@click.option("--run", type=click.Path(path_type=Path), help="Training run of the bundle: torch then has its weights.")
@click.option("--runs", type=click.IntRange(10, 1_000_000), default=300, show_default=True, help="Answers per engine.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def command(bundle: Path | None, run: Path | None, runs: int, as_json: bool) -> None:
    """Measure BUNDLE (by default the packaged demonstration) beside the paper's figures.

    Every engine runs in a process of its own, on one thread, in turns with the others. What cannot be measured
    here reads n/a and says why.

    \b
    Examples:
      edgepain bench
      edgepain bench bundles/first --run runs/first --runs 1000
      edgepain bench bundles/first --json > bench.json
    """
    import msgspec
    from rich.console import Console
    from rich.progress import Progress

    from edgepain.benchmarks.bench import benchmark
    from edgepain.benchmarks.tables import show
    from edgepain.bundle import demonstration_bundle, open_bundle

    opened = open_bundle(bundle or demonstration_bundle())
    messages = Console(stderr=True)
    with Progress(console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("measuring", total=None)
        report = benchmark(
            opened, run=run, runs=runs, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        show(report, Console())
