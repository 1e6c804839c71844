"""Progress on the terminal, on standard error so that results can be piped."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from edgepain.cli.time_left import TimeLeft

if TYPE_CHECKING:
    from edgepain.train.run import Run, Task
    from edgepain.train.stage import EpochMetrics
    from edgepain.train.workers import Outcome

console = Console()
error_console = Console(stderr=True)


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description:<16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[metrics]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[left]}"),
        console=error_console,
        disable=not error_console.is_terminal,
    )


class TrainingProgress:
    """One bar a stage with the time left in it and in all. Without a terminal: one line for each tenth of a stage.

    epochs: of every stage by its name, in the order of training. bars: to draw in. title: of each line without one.
    """

    def __init__(self, epochs: Mapping[str, int], fusion: str, bars: Progress, title: str = "") -> None:
        self._bars = bars
        self._title = f"{title} " if title else ""
        self._in = "in it" if title else "in all"
        self._tasks: dict[str, TaskID] = {}
        self._epochs = epochs
        self._time_left = TimeLeft(epochs, fusion)
        self._since_s = 0.0

    def stage(self, name: str, epochs: int, done: int) -> None:
        """A stage begins."""
        self._time_left.begin(name, epochs - done)
        self._since_s = time.monotonic()
        self._tasks[name] = self._bars.add_task(name, total=epochs, completed=done, metrics="", left="")

    def epoch(self, name: str, metrics: EpochMetrics) -> None:
        """An epoch of the stage is done."""
        text = f"loss {metrics.loss:.3f} accuracy {100 * metrics.accuracy:.1f} %"
        done, epochs = metrics.epoch + 1, self._epochs[name]
        now_s = time.monotonic()
        left_s = self._time_left.add(name, now_s - self._since_s)
        self._since_s = now_s
        left = timedelta(seconds=round(left_s))
        self._bars.update(self._tasks[name], completed=done, metrics=text, left=f"all {left}")
        if not error_console.is_terminal and (done == epochs or done % max(1, epochs // 10) == 0):
            error_console.print(
                f"{self._title}{name}: epoch {done} of {epochs}, {text}, {left} left {self._in}",
                highlight=False,
                soft_wrap=True,
            )

    def close(self) -> None:
        """Take the bars of the stages away."""
        for task in self._tasks.values():
            self._bars.remove_task(task)


class RunProgress:
    """A bar over all tasks of a run, and below it the stages of the one that this process is at.

    Without a terminal: a line for each task that ends, where there are several.
    """

    def __init__(self, run: Run, todo: Sequence[Task]) -> None:
        self._run = run
        self._todo = todo
        self._ended = 0
        self._begun_s = time.monotonic()
        self._stages: TrainingProgress | None = None
        self._bars = _bars()
        self._bar: TaskID | None = None

    def __enter__(self) -> RunProgress:
        self._bars.start()
        if len(self._todo) > 1:
            self._bar = self._bars.add_task("all", total=len(self._todo), metrics="tasks", left="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def of(self, task: Task) -> TrainingProgress:
        """The progress of a task that is trained in this process."""
        return self._begin(str(task) if len(self._todo) > 1 else "")

    def of_folds(self, count: int) -> TrainingProgress:
        """The progress of so many folds that are trained at once in this process."""
        return self._begin(f"{count} fold{'s' if count > 1 else ''} at once:")

    def _begin(self, title: str) -> TrainingProgress:
        from edgepain.train.staged import stage_configs

        if self._stages:
            self._stages.close()
        config = self._run.config
        epochs = {name: stage.epochs for name, stage in stage_configs(config.modalities, config.train).items()}
        self._stages = TrainingProgress(epochs, config.train.fusion, self._bars, title)
        return self._stages

    def tick(self) -> None:
        """Look at the run folder for what other processes have done."""
        if self._bar is not None and self._bars.disable is False:
            done, epochs = epochs_done(self._run, self._todo)
            metrics = f"tasks, {done} of {epochs} epochs" if epochs else "tasks"
            self._bars.update(self._bar, metrics=metrics)

    def ended(self, outcome: Outcome) -> None:
        """A task ended."""
        self._ended += 1
        if self._bar is None:
            return
        self._bars.update(self._bar, completed=self._ended)
        text = f"failed: {outcome.error}" if outcome.error else "done"
        if outcome.error or not error_console.is_terminal:
            tasks = len(self._todo)
            left_s = (time.monotonic() - self._begun_s) / self._ended * (tasks - self._ended)
            left = f", {timedelta(seconds=round(left_s))} left in all" if self._ended < tasks else ""
            error_console.print(
                f"{outcome.task} {text} ({self._ended} of {tasks}{left})",
                highlight=False,
                soft_wrap=True,
            )


def epochs_done(run: Run, tasks: Sequence[Task]) -> tuple[int, int]:
    """Epochs of the network's stages that are on disk, and how many there will be, over these tasks."""
    from edgepain.train.run import NETWORK
    from edgepain.train.staged import stage_configs

    stages = stage_configs(run.config.modalities, run.config.train)
    folds = [run.fold(task.fold) for task in tasks if task.method == NETWORK]
    done = 0
    for fold in folds:
        for path in fold.folder.glob("stages/*/epochs.csv"):
            with path.open() as file:
                done += sum(1 for _ in file) - 1
    return done, len(folds) * sum(stage.epochs for stage in stages.values())
