"""`edgepain bench train`: how fast training is here, beside a plain loop, and whether it costs accuracy."""

from __future__ import annotations

import click

from edgepain.errors import MissingExtraError


@click.command("train")
@click.option("--windows", type=click.IntRange(8, 100_000), default=1024, show_default=True, help="In an epoch.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=2, show_default=True, help="Epochs of each way.")
@click.option("--seeds", type=click.IntRange(0, 100), default=3, show_default=True, help="For accuracies; 0: none.")
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Of every way.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def command(windows: int, rounds: int, seeds: int, threads: int, as_json: bool) -> None:
    """Measure training on this machine beside a plain float32 PyTorch loop.

    Every stage runs in turns with the plain loop, on the same threads, on random windows. Accuracies are those of a
    short training on simulated people, in float32 and as `edgepain train` does it here.

    \b
    Examples:
      edgepain bench train
      edgepain bench train --windows 1024 --rounds 5 --seeds 0
      edgepain bench train --json > speed.json
    """
    import msgspec
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    try:
        from edgepain.benchmarks.train_report import benchmark_training, show
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "train") from error

    messages = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("measuring", total=None)
        report = benchmark_training(windows, rounds, seeds, threads, lambda what: bar.update(task, description=what))
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        show(report, Console())
