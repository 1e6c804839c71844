"""`edgepain train`: the staged protocol and its peers on a dataset, into a run folder."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgepain.cli.extras import require

if TYPE_CHECKING:
    from edgepain.cli.progress import RunProgress
    from edgepain.train.batched import Device
    from edgepain.train.create import Plan
    from edgepain.train.run import Run
    from edgepain.train.student import StudentPlan
    from edgepain.train.workers import Engine

# Options that say how a run is worked on; all others say what it is, and are fixed when it begins.
HOW = {"resume", "peer", "workers", "engine", "address", "fold", "keep_features", "redo", "device", "batch_folds"}
# What a run with a teacher has in common with it, and what is not for such a run.
TEACHERS = {"dataset", "root", "protocol", "holdout", "test_fold", "seeds", "modalities", "scaling", "limit_iqr"}
TEACHERS |= {"window_s", "steps", "calibration_share", "options"}
NOT_TAUGHT = {"peers_only", "no_train", "device", "batch_folds"}


@click.command(name="train")
@click.option(
    "--dataset", type=click.Choice(["biovid", "ai4pain", "e4", "sessions"]), help="Layout of the data under --root."
)
@click.option("--root", type=click.Path(path_type=Path), help="Folder that holds the dataset.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder to create.")
@click.option(
    "--resume", type=click.Path(path_type=Path), help="Go on with this run folder; no other option is needed."
)
@click.option(
    "--config", "config_name", default="paper", show_default=True, help="paper, small, quick, demo, or a TOML file."
)
@click.option(
    "--protocol",
    default="holdout",
    show_default=True,
    help="holdout, loso (leave one subject out), or K-fold by subject, e.g. 10-fold.",
)
@click.option(
    "--holdout",
    default="20%",
    show_default=True,
    help="Who is held out: a share (20%), a number, an official list, or subject ids (a lone numeric id: 7,).",
)
@click.option(
    "--choose-epoch-on-test-fold",
    "test_fold",
    is_flag=True,
    help="Keep the epoch that is best on held-out people. Too good by design; every table says so.",
)
@click.option(
    "--seed",
    "seeds",
    type=click.IntRange(0, 2**32 - 1),
    multiple=True,
    default=(0,),
    help="Of drawn folds and of every training; repeatable. Default: 0.",
)
@click.option(
    "--distill",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="Learn from the networks of this finished run, fold by fold; data, folds and scaling are its.",
)
@click.option(
    "--size",
    type=click.Choice(["full", "edge"]),
    default="full",
    show_default=True,
    help="Of the network. edge: a small one, for a wrist.",
)
@click.option("--peer", "peers", multiple=True, help="Another method on the same folds (docs/peers.md); repeatable.")
@click.option("--peers-only", is_flag=True, help="Only peers, not the network.")
@click.option("--modalities", default="", help="Two of them, e.g. eda,ecg. Default: EDA and the cardiac signal.")
@click.option("--fusion", type=click.Choice(["pooled", "sequence"]), help="Instead of the configuration's.")
@click.option("--scaling", type=click.Choice(["subject", "causal"]), help="Instead of the configuration's.")
@click.option("--limit-iqr", type=click.FloatRange(0, min_open=True), help="Scaled values end at ± so many IQRs.")
@click.option("--window", "window_s", type=click.FloatRange(1, 60), help="Seconds of a window, e.g. 3 to 10.")
@click.option(
    "--steps", type=click.IntRange(16, 10_000), help="Points of a window. Default: as dense as the configuration's."
)
@click.option("--modality-dropout", type=click.FloatRange(0, 0.9), help="Chance that the fusion misses a modality.")
@click.option(
    "--calibration-share",
    type=click.FloatRange(0, 0.5),
    help="Share of the training subjects kept for the temperature of the probabilities.",
)
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), help="Of the arithmetic in training.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Of the dataset reader; repeatable.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Folds at once on this machine.")
@click.option(
    "--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="Where folds are trained."
)
@click.option("--address", help="HOST:PORT of a Ray cluster, or auto. Default: one on this machine.")
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Of the network's training. cuda: many folds at once on a GPU.",
)
@click.option("--batch-folds", type=click.IntRange(1), help="Folds at once there. Default: cuda 29, cpu fold by fold.")
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="Processor threads of each task; --resume keeps the run's. Default: cores over workers; with ray 1.",
)
@click.option(
    "--redo", multiple=True, metavar="STAGE", help="With --resume: train this stage again, and what needs it."
)
@click.option("--fold", default="", help="With --redo: in this fold only; see the folder RUN/folds.")
@click.option("--keep-features", is_flag=True, help="Keep the frozen features that stages hand on.")
@click.option("--no-train", is_flag=True, help="Only create the run folder, for edgepain search.")
@click.pass_context
def command(context: click.Context, /, **asked: Any) -> None:
    """Train FCN, ALSTM and Transformer block for each modality, then CrossMod; judge them on people held out.

    A stopped run loses at most one epoch of each worker, a minute with --device cuda: go on with --resume and get the
    same result. With --resume, --peer adds methods to a run.

    \b
    Examples:
      edgepain train --dataset biovid --root BioVid --out runs/loso --protocol loso --peer random-forest
      edgepain train --dataset e4 --root sessions --config quick --out runs/stress --protocol 10-fold --workers 2 \\
          --option positive=interview --option negative=relax1,relax2
      edgepain train --distill runs/stress --size edge --out runs/stress-edge
      edgepain train --resume runs/loso --workers 4
      edgepain train --resume runs/loso --engine ray --address auto
      edgepain train --resume runs/loso --device cuda --batch-folds 29
      edgepain train --resume runs/loso --redo transformer.eda
    """
    require("train", "torch", "safetensors", "sklearn", "scipy")
    resume = asked["resume"]
    if resume:
        others = [name for name in asked if name not in HOW and name != "peers"]
        _refuse(context, others, "--resume goes on with what the run began with")
    elif asked["redo"] or asked["fold"]:
        raise click.UsageError("--redo and --fold need --resume RUN")
    if asked["distill"]:
        _refuse(context, TEACHERS, "--distill RUN has data, folds and scaling in common with RUN")
        _refuse(context, NOT_TAUGHT, "a network that learns from another is trained fold by fold")
    _check_how(context, **asked)
    device = _device(**asked)

    from edgepain.train.create import make_run_folder, new_folder
    from edgepain.train.files import only_one_process
    from edgepain.train.redo import forget_stages
    from edgepain.train.results import write_results
    from edgepain.train.run import open_run

    plan = None if resume else _plan(context, device, **asked)
    run = open_run(resume) if resume else None
    if device:
        _check_device(device, run.config if run else plan, taught=run is not None and run.config.teacher is not None)
    with only_one_process(run.folder if run else make_run_folder(asked["out"])):
        if run is None:
            assert plan is not None
            with new_folder(asked["out"]):
                run = _start(asked["out"], plan)
        if resume and asked["peers"]:
            run = run.with_peers(asked["peers"])
        if asked["redo"]:
            forget_stages(run, asked["redo"], [run.fold(asked["fold"])] if asked["fold"] else None)
        for task in run.forget_damaged_answers():
            click.echo(f"{task}: the answers are damaged; they are made again", err=True)
        _describe(run)
        click.echo(f"{run.threads} processor thread{'s' if run.threads > 1 else ''} for each task")
        if asked["no_train"]:
            click.echo(f"next: edgepain search {run.folder}, or edgepain train --resume {run.folder}")
            return
        try:
            errors = _work(run, device, **asked)
        except KeyboardInterrupt:
            click.echo(f"\nstopped; go on with: edgepain train --resume {run.folder}", err=True)
            raise click.Abort from None
        results = write_results(run)
    if results.rows:
        from edgepain.cli.train_table import show

        show(run, results)
        click.echo(f"\nrun folder: {run.folder}")
    for error in errors:
        click.echo(f"error: {error}", err=True)
    if errors and len(run.tasks()) > 1:
        click.echo(
            f"{len(errors)} of {len(run.tasks())} tasks failed, the others are kept; when the cause is gone, go on "
            f"with: edgepain train --resume {run.folder}",
            err=True,
        )
    if errors:
        sys.exit(3)
    if run.config.network and len(run.folds) == 1:
        click.echo(f"next: edgepain export {run.folder} --out bundles/{run.folder.resolve().name}")
    else:
        click.echo(f"next: edgepain report {run.folder} --out reports/{run.folder.resolve().name}")


def _refuse(context: click.Context, names: Collection[str], why: str) -> None:
    for option in context.command.params:
        if option.name in names and _given(context, option.name):
            raise click.UsageError(f"{why}; leave out {option.opts[0]}")


def _given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _check_how(context: click.Context, **asked: Any) -> None:
    if _given(context, "holdout") and asked["protocol"] != "holdout":
        raise click.UsageError(f"--holdout is for --protocol holdout, not {asked['protocol']}")
    if asked["engine"] == "ray":
        require("cluster", "ray")
        if _given(context, "workers"):
            raise click.UsageError("--workers is for this machine; a Ray cluster has as many as its processors")
        if _given(context, "device") or _given(context, "batch_folds"):
            raise click.UsageError("--device and --batch-folds are for this machine, not for --engine ray")
    elif asked["address"]:
        raise click.UsageError("--address is for --engine ray")


def _device(**asked: Any) -> Device | None:
    """Where many folds are trained at once, if anywhere."""
    if asked["device"] == "cpu" and not asked["batch_folds"]:
        return None
    from edgepain.train.batched import open_device

    return open_device(asked["device"])


def _check_device(device: Device, settings: Any, taught: bool) -> None:
    from edgepain.train.batched import check_settings

    check_settings(device, settings.train.precision, settings.epoch_choice, settings.size, taught)


def _plan(context: click.Context, device: Device | None, /, **asked: Any) -> Plan | StudentPlan:
    from edgepain.cli.train_plan import new_plan, student_plan

    if asked["distill"]:
        return student_plan(_given(context, "config_name"), **asked)
    return new_plan(device, **asked)


def _start(out: Path, plan: Plan | StudentPlan) -> Run:
    from rich.progress import Progress

    from edgepain.cli.progress import error_console
    from edgepain.train.create import Plan, create_run
    from edgepain.train.student import create_student

    if not isinstance(plan, Plan):
        return create_student(out, plan)

    with Progress(console=error_console, transient=True, disable=not error_console.is_terminal) as bar:
        task = bar.add_task("cutting windows", total=None)
        run, problems = create_run(out, plan, lambda done, total: bar.update(task, completed=done, total=total))
    for problem in problems[:10]:
        click.echo(f"left out: {problem}", err=True)
    if len(problems) > 10:
        click.echo(f"left out: {len(problems) - 10} more; see: edgepain data check {plan.root}", err=True)
    return run


def _describe(run: Run) -> None:
    config = run.config
    methods = ", ".join(run.methods)
    click.echo(
        f"{config.dataset}: {' / '.join(run.labels)} from {' + '.join(config.modalities)}; {run.protocol}; "
        f"configuration {config.train.name}, size {config.size}, fusion {run.spec.fusion}, {run.scaling} scaling, "
        f"windows of {run.window.seconds:g} s and {run.window.steps} points; methods: {methods}"
    )
    if len(run.folds) == 1:
        click.echo(f"held out: {', '.join(run.folds[0].split.held_out)}")


def _engine(progress: RunProgress, device: Device | None, /, **asked: Any) -> Engine:
    from edgepain.train.workers import InThisProcess, LocalProcesses

    if device:
        from edgepain.train.batched import DEFAULT_FOLDS, FoldsTogether

        then = _engine(progress, None, **asked)
        return FoldsTogether(device, asked["batch_folds"] or DEFAULT_FOLDS, progress.of_folds, then)
    if asked["engine"] == "ray":
        from edgepain.train.ray_engine import RayCluster

        return RayCluster(asked["address"], keep_features=asked["keep_features"])
    if asked["workers"] > 1:
        return LocalProcesses(asked["workers"], asked["keep_features"])
    return InThisProcess(progress.of, asked["keep_features"])


def _work(run: Run, device: Device | None, /, **asked: Any) -> list[str]:
    """Do what is not done yet; what failed, and why."""
    from edgepain.cli.progress import RunProgress

    todo = [task for task in run.tasks() if not run.finished(task)]
    errors = []
    with RunProgress(run, todo) as progress:
        for outcome in _engine(progress, device, **asked).run(run, todo, progress.tick):
            progress.ended(outcome)
            if outcome.error:
                errors.append(outcome.error if len(run.tasks()) == 1 else f"{outcome.task}: {outcome.error}")
    return errors
