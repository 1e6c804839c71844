"""`edgepain search`: learning rate and dropout of every stage, within the training subjects of each fold."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from edgepain.cli.extras import require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgepain.train.search import Decision, SearchPlan, SearchState, Watch

# A look at the run folder costs some milliseconds; epochs may be as short.
LOOK_S = 0.5


@click.command(name="search")
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--fold", "folds", multiple=True, default=("all",), show_default=True, help="Name, or all; repeatable.")
@click.option("--stage", "stages", multiple=True, help="Such as fcn.eda or crossmod; repeatable. Default: all.")
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True, help="Of each stage in each fold.")
@click.option("--inner", type=click.IntRange(2), default=3, show_default=True, help="Folds of the training subjects.")
@click.option("--epochs", type=click.IntRange(1, 100_000), help="Of every stage in the search. Default: the run's.")
@click.option("--learning-rate", type=(float, float), metavar="LOW HIGH", help="Default: 1e-6 1e-3, as in the paper.")
@click.option(
    "--dropout", type=(float, float), metavar="LOW HIGH", help="Default: 0.1 0.4, of crossmod 0.3 0.7, as in the paper."
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Trials at once on this machine.")
@click.option("--force", is_flag=True, help="Forget stages trained with other settings; set other studies aside.")
def command(run_folder: Path, **asked: Any) -> None:
    """Choose learning rate and dropout of the stages of a run, before it is trained.

    Each fold is searched for itself, stage after stage, and only its training subjects are looked at: settings are
    judged by balanced accuracy on inner folds of them. A search that was stopped goes on with the same command, and
    may be given to several terminals at once.

    \b
    Example:
      edgepain train --dataset biovid --root BioVid --out runs/biovid --protocol 10-fold --no-train
      edgepain search runs/biovid --epochs 100 --workers 4
      edgepain train --resume runs/biovid
    """
    require("search", "optuna")
    require("train", "torch", "safetensors", "sklearn", "scipy")
    from edgepain.train.run import open_run
    from edgepain.train.search import Watch, search

    run = open_run(run_folder)
    plan = _plan(**asked)
    watch = Watch(run, plan)
    try:
        with _Progress(watch) as progress:
            search(run, plan, progress.tick)
    except KeyboardInterrupt:
        click.echo("\nstopped; finished trials are kept, go on with the same command", err=True)
        raise click.Abort from None
    _show(watch.decisions())
    click.echo(f"next: edgepain train --resume {run.folder}")


def _plan(**asked: Any) -> SearchPlan:
    from edgepain.errors import ConfigError
    from edgepain.train.search import Range, SearchPlan

    try:
        rates, dropouts = (Range(*asked[name]) if asked[name] else None for name in ("learning_rate", "dropout"))
    except ValueError as error:
        raise ConfigError(f"--learning-rate and --dropout take the low end first: {error}") from error
    return SearchPlan(
        folds=() if "all" in asked["folds"] else tuple(dict.fromkeys(asked["folds"])),
        stages=asked["stages"],
        trials=asked["trials"],
        inner=asked["inner"],
        epochs=asked["epochs"],
        rates=rates,
        dropouts=dropouts,
        workers=asked["workers"],
        force=asked["force"],
    )


class _Progress:
    """A bar over all trials. Without a terminal: a line whenever a trial is finished."""

    def __init__(self, watch: Watch) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        from edgepain.cli.progress import error_console

        self._watch = watch
        self._console = error_console
        self._bars = Progress(
            TextColumn("trials"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            console=error_console,
            disable=not error_console.is_terminal,
        )
        self._bar = self._bars.add_task("")
        self._begun: tuple[float, float] | None = None
        self._looked_s = 0.0
        self._trials = 0

    def __enter__(self) -> _Progress:
        self._trials = self._watch.look().trials
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._look()
        self._bars.stop()

    def tick(self) -> None:
        """Look again, if the last look is a while ago."""
        if time.monotonic() - self._looked_s >= LOOK_S:
            self._look()

    def _look(self) -> None:
        self._looked_s = now_s = time.monotonic()
        state = self._watch.look()
        text = self._text(state, now_s)
        self._bars.update(self._bar, completed=state.trials, total=state.total, description=text)
        if not self._console.is_terminal and state.trials > self._trials:
            self._console.print(f"{state.trials} of {state.total} trials, {text}", highlight=False, soft_wrap=True)
        self._trials = state.trials

    def _text(self, state: SearchState, now_s: float) -> str:
        at = [f"{s.fold} {s.stage}" + (f" best {100 * s.best:.1f} %" if s.best else "") for s in state.current[:2]]
        return ", ".join([*at, self._left(state, now_s)])

    def _left(self, state: SearchState, now_s: float) -> str:
        from edgepain.cli.time_left import COST

        # Epochs of different stages, in epochs of the FCN.
        work = sum(count * COST.get(stage.partition(".")[0], 1.0) for stage, count in state.epochs_left.items())
        if self._begun is None or work > self._begun[1]:
            self._begun = (now_s, work)
        begun_s, all_work = self._begun
        if work == all_work:
            return "time left: not known yet"
        return f"{timedelta(seconds=round((now_s - begun_s) * work / (all_work - work)))} left"


def _show(decisions: Sequence[Decision]) -> None:
    """What was chosen: in the only fold, else the median and the extremes over folds."""
    from rich import box
    from rich.table import Table

    from edgepain.cli.progress import console

    folds = len({decision.fold for decision in decisions})
    title = "chosen" + (f" in {folds} folds: median, lowest … highest" if folds > 1 else "")
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=0, collapse_padding=True)
    for name in ("stage", "setting", "searched", "default", "chosen"):
        table.add_column(name, no_wrap=True)
    for name in ("bal. default", "chosen"):
        table.add_column(name, justify="right", no_wrap=True)
    for stage in dict.fromkeys(decision.stage for decision in decisions):
        here = [decision for decision in decisions if decision.stage == stage]
        first = here[0]
        rates = _spread([d.chosen.learning_rate for d in here], "{:.1e}")
        dropouts = _spread([d.chosen.dropout for d in here], "{:.2f}")
        before = [100 * d.configured_score for d in here if d.configured_score is not None]
        scores = (f"{median(before):.1f}" if before else "n/a", f"{median(100 * d.score for d in here):.1f}")
        table.add_row(stage, "rate", str(first.rates), f"{first.configured.learning_rate:.1e}", rates, *scores)
        table.add_row("", "dropout", str(first.dropouts), f"{first.configured.dropout:.2f}", dropouts)
    console.print(table)
    click.echo(
        "bal.: balanced accuracy on inner folds of the training subjects, %. That of the\n"
        "best of many trials is too good; ask the trained run how people held out fare."
    )


def _spread(values: Sequence[float], form: str) -> str:
    middle = form.format(median(values))
    if len(values) == 1:
        return middle
    return f"{middle}, {form.format(min(values))}…{form.format(max(values))}"
