"""`edgepain bench`: FLOPs, latency and memory of a bundle; of training and of decoders where that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgepain.cli.bench_bridge import command as bridge_command
from edgepain.cli.bench_fuzz import command as fuzz_command
from edgepain.cli.bench_train import command as train_command
from edgepain.cli.bench_ward import command as ward_command
from edgepain.cli.trust import trusted_key_option

_OTHERS = {"train": train_command, "bridge": bridge_command, "fuzz": fuzz_command, "ward": ward_command}


class _OrOther(click.Command):
    """Where the first argument is `train` or another of these, that is meant (a bundle of this name is ./train)."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args and args[0] in _OTHERS:
            return _OTHERS[args[0]].make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command("bench", cls=_OrOther)
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@click.option("--run", type=click.Path(path_type=Path), help="Training run of the bundle: torch then has its weights.")
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    metavar="BUNDLE",
    help="Also measure torch eager on the network of this bundle, e.g. of the network that was distilled.",
)
@trusted_key_option
@click.option("--runs", type=click.IntRange(10, 1_000_000), default=300, show_default=True, help="Answers per engine.")
@click.option(
    "--live",
    "live_s",
    type=click.FloatRange(1, 3600),
    help="Also decide live on a simulated wearable, so many seconds.",
)
@click.option(
    "--plot", "picture", type=click.Path(path_type=Path), help="Draw latency against accuracy into this file."
)
@click.option(
    "--compare",
    nargs=2,
    type=click.Path(path_type=Path),
    metavar="A.json B.json",
    help="Measure nothing; show two reports that --json printed side by side.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def command(
    bundle: Path | None,
    run: Path | None,
    reference: Path | None,
    trusted_key: Path | None,
    runs: int,
    live_s: float | None,
    picture: Path | None,
    compare: tuple[Path, Path] | None,
    as_json: bool,
) -> None:
    """Measure BUNDLE (by default the packaged demonstration) beside the paper's figures.

    Every engine runs in a process of its own, on one thread, in turns with the others. What cannot be measured
    here reads n/a and says why. `edgepain bench train` measures training instead, `edgepain bench bridge` the decoders
    of wearables, `edgepain bench ward` many of these at once, and `edgepain bench fuzz` feeds them damaged bytes; see
    their own --help.

    \b
    Examples:
      edgepain bench
      edgepain bench bundles/first --run runs/first --runs 1000
      edgepain bench bundles/first --json --plot bench.png > bench.json
      edgepain bench bundles/first --live 60
      edgepain bench bundles/edge --reference bundles/first
      edgepain bench --compare laptop.json pi.json
      edgepain bench train
      edgepain bench bridge
      edgepain bench fuzz
      edgepain bench ward
    """
    if compare:
        _compare(bundle, *compare)
        return
    import msgspec
    from rich.console import Console
    from rich.progress import Progress

    from edgepain.benchmarks.bench import benchmark
    from edgepain.benchmarks.tables import show
    from edgepain.bundle import demonstration_bundle, open_bundle

    opened = open_bundle(bundle or demonstration_bundle(), trusted_key=trusted_key)
    messages = Console(stderr=True)
    with Progress(console=messages, transient=True, disable=not messages.is_terminal) as bar:
        task = bar.add_task("measuring", total=None)
        report = benchmark(
            opened,
            run=run,
            reference=open_bundle(reference) if reference else None,
            runs=runs,
            live_s=live_s or 0.0,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        show(report, Console())
    if picture:
        from edgepain.benchmarks.plot import plot

        plot(report, picture)


def _compare(bundle: Path | None, first: Path, second: Path) -> None:
    if bundle:
        raise click.UsageError("--compare measures nothing; leave the bundle out")
    from rich.console import Console

    from edgepain.benchmarks.compare import compare

    compare(first, second, Console())
