"""`edgepain bench train`: how fast training is here, beside a plain loop, and whether it costs accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgepain.errors import MissingExtraError

if TYPE_CHECKING:
    from edgepain.train.batched.device import DeviceName

WINDOWS = 1024


@click.command("train")
@click.option("--windows", type=click.IntRange(8, 100_000), help="In an epoch. Default: 1024; with cuda 3440.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=2, show_default=True, help="Epochs of each way.")
@click.option("--seeds", type=click.IntRange(0, 100), default=3, show_default=True, help="For accuracies; 0: none.")
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="Of every way.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="What to measure.")
@click.option("--batch-folds", type=click.IntRange(1), help="With cuda: folds at once. Default: 29.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def command(
    windows: int | None,
    rounds: int,
    seeds: int,
    threads: int,
    device: DeviceName,
    batch_folds: int | None,
    as_json: bool,
) -> None:
    """Measure training on this machine beside a plain float32 PyTorch loop.

    Every stage runs in turns with the plain loop, on the same threads, on random windows. Accuracies are those of a
    short training on simulated people, in float32 and as `edgepain train` does it here.

    With --device cuda instead: every stage of many folds at once on a GPU, how busy that is, and the hours that all 87
    folds of BioVid would take.

    \b
    Examples:
      edgepain bench train
      edgepain bench train --windows 1024 --rounds 5 --seeds 0
      edgepain bench train --json > speed.json
      edgepain bench train --device cuda --batch-folds 29 --rounds 5
    """
    import msgspec
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    try:
        from edgepain.benchmarks import gpu_training, train_report
        from edgepain.benchmarks.train_speed import FOLD_WINDOWS
        from edgepain.train.batched import DEFAULT_FOLDS, open_device
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "train") from error
    if batch_folds and device == "cpu":
        raise click.UsageError("--batch-folds is for --device cuda")
    opened = open_device(device)

    messages = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("measuring", total=None)

        def progress(what: str) -> None:
            bar.update(task, description=what)

        report: Any
        module: Any
        if device == "cuda":
            folds = batch_folds or DEFAULT_FOLDS
            module = gpu_training
            report = gpu_training.benchmark_groups(opened, folds, windows or FOLD_WINDOWS, rounds, progress)
        else:
            module = train_report
            report = train_report.benchmark_training(windows or WINDOWS, rounds, seeds, threads, progress)
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        module.show(report, Console())
