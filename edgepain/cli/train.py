"""`edgepain train`: the staged protocol on a dataset, into a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgepain.cli.extras import require

if TYPE_CHECKING:
    from edgepain.train.create import Plan
    from edgepain.train.run import Results, Run


@click.command(name="train")
@click.option("--dataset", type=click.Choice(["biovid", "ai4pain", "e4"]), help="Layout of the data under --root.")
@click.option("--root", type=click.Path(path_type=Path), help="Folder that holds the dataset.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder to create.")
@click.option(
    "--resume", type=click.Path(path_type=Path), help="Go on with this run folder; no other option is needed."
)
@click.option("--config", "config_name", default="paper", show_default=True, help="paper, quick, demo, or a TOML file.")
@click.option("--modalities", default="", help="Two of them, e.g. eda,ecg. Default: EDA and the cardiac signal.")
@click.option("--fusion", type=click.Choice(["pooled", "sequence"]), help="Instead of the configuration's.")
@click.option("--scaling", type=click.Choice(["subject", "causal"]), help="Instead of the configuration's.")
@click.option(
    "--holdout",
    default="20%",
    show_default=True,
    help="A share (20%), a number, an official list, or subject ids (a lone numeric id: 7,).",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Of the drawn hold-out and of every stage.",
)
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Of the dataset reader; repeatable.")
@click.option("--threads", type=click.IntRange(1), help="Processor threads; --resume keeps the run's.")
@click.option("--keep-features", is_flag=True, help="Keep the frozen features that stages hand on.")
@click.pass_context
def command(
    context: click.Context, /, resume: Path | None, threads: int | None, keep_features: bool, **asked: Any
) -> None:
    """Train FCN, ALSTM and Transformer block for each modality, then CrossMod, on a subject-wise hold-out.

    A stopped run loses at most one epoch: go on with --resume and get the same result.

    \b
    Examples:
      edgepain train --dataset biovid --root BioVid --out runs/biovid --holdout validation
      edgepain train --dataset e4 --root sessions --config quick --out runs/stress --holdout 7 \\
          --option positive=interview --option negative=relax1,relax2
      edgepain train --resume runs/biovid
    """
    require("train", "torch", "safetensors", "sklearn")
    if resume:
        _refuse(context, [*asked, "threads"])

    import torch

    from edgepain.cli.progress import TrainingProgress
    from edgepain.train.run import open_run
    from edgepain.train.staged import stage_configs

    if threads:
        torch.set_num_threads(threads)
    run = open_run(resume) if resume else _start(**asked)
    # Sums, and so the weights, depend on the number of threads.
    torch.set_num_threads(run.threads)
    split = run.split
    click.echo(
        f"{run.config.dataset}: {' / '.join(run.labels)} from {' + '.join(run.config.modalities)}; "
        f"{len(split.train)} subjects train, {len(split.held_out)} held out ({', '.join(split.held_out)}); "
        f"configuration {run.config.train.name}, fusion {run.spec.fusion}, {run.scaling} scaling"
    )
    try:
        stages = stage_configs(run.config.modalities, run.config.train)
        with TrainingProgress({name: stage.epochs for name, stage in stages.items()}, run.spec.fusion) as progress:
            results = run.evaluate(run.train(progress, keep_features))
    except KeyboardInterrupt:
        click.echo(f"\nstopped; go on with: edgepain train --resume {run.folder}", err=True)
        raise click.Abort from None
    _show(run, results)
    name = run.folder.resolve().name
    click.echo(f"\nrun folder: {run.folder}\nnext: edgepain export {run.folder} --out bundles/{name}")


def _refuse(context: click.Context, names: list[str]) -> None:
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = next(p for p in context.command.params if p.name == name).opts[0]
            raise click.UsageError(f"--resume goes on with what the run began with; leave out {option}")


def _start(**asked: Any) -> Run:
    from rich.progress import Progress

    from edgepain.cli.progress import console
    from edgepain.train.create import create_run

    plan = _plan(**asked)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("cutting windows", total=None)
        run, problems = create_run(
            asked["out"], plan, lambda done, total: bar.update(task, completed=done, total=total)
        )
    for problem in problems[:10]:
        click.echo(f"left out: {problem.where}: {problem.reason}", err=True)
    if len(problems) > 10:
        click.echo(f"left out: {len(problems) - 10} more; see: edgepain data check {plan.root}", err=True)
    return run


def _plan(**asked: Any) -> Plan:
    import msgspec

    from edgepain.errors import ConfigError
    from edgepain.signal import Modality
    from edgepain.train.config import load_config
    from edgepain.train.create import Plan
    from edgepain.train.datasets.base import parse_options

    missing = [f"--{name}" for name in ("dataset", "root", "out") if asked[name] is None]
    if missing:
        raise click.UsageError(f"{' and '.join(missing)} must be given (or --resume RUN)")
    config = load_config(asked["config_name"])
    changes = {name: asked[name] for name in ("fusion", "scaling") if asked[name]}
    names = [name.strip() for name in asked["modalities"].split(",") if name.strip()]
    try:
        modalities = tuple(Modality(name) for name in names)
    except ValueError as error:
        raise ConfigError(f"--modalities: {error}; there are {', '.join(Modality)}") from error
    if modalities and (len(modalities) != 2 or len(set(modalities)) != 2):
        raise ConfigError("--modalities takes two different ones, e.g. eda,ecg")
    return Plan(
        dataset=asked["dataset"],
        root=asked["root"],
        options=parse_options(asked["dataset"], asked["options"]),
        modalities=modalities,
        holdout=asked["holdout"],
        seed=asked["seed"],
        train=msgspec.structs.replace(config, **changes),
    )


def _show(run: Run, results: Results) -> None:
    from rich import box
    from rich.table import Table

    from edgepain.bundle import SCALINGS
    from edgepain.cli.progress import console
    from edgepain.cli.scores import describe_missing, percent

    title = "held-out subjects, %" + (" (simulated people: synthetic data)" if run.synthetic else "")
    table = Table(
        title=title,
        caption=results.protocol,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
        collapse_padding=True,
    )
    for name in ("stage", "scaling"):
        table.add_column(name, no_wrap=True)
    for name in ("acc.", "bal.", "sens.", "spec.", "F1", "AUC"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in results.rows:
        s = row.scores
        shares = (s.accuracy, s.balanced_accuracy, s.sensitivity, s.specificity, s.f1, s.auc)
        table.add_row(row.stage, row.scaling, *map(percent, shares))
    console.print(table)
    of_scaling = {row.scaling: row for row in results.rows}
    for scaling in SCALINGS:
        if scaling in of_scaling:
            scores, left_out = of_scaling[scaling].scores, of_scaling[scaling].left_out
            missing = scores.missing_classes and f"; {describe_missing(scores.missing_classes, results.labels)}"
            click.echo(
                f"{scaling} scaling: {scores.windows} windows, {left_out} left out (quality or history){missing or ''}"
            )
        else:
            click.echo(f"{scaling} scaling: no window of the held-out subjects can be used (quality or history)")
