"""Progress on the terminal, on standard error so that results can be piped."""

from __future__ import annotations

import time
from collections.abc import Mapping
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
    from edgepain.train.stage import EpochMetrics

console = Console()
error_console = Console(stderr=True)


class TrainingProgress:
    """One bar a stage with the time left in it and in all. Without a terminal: one line for each tenth of a stage.

    epochs: of every stage by its name, in the order of training.
    """

    def __init__(self, epochs: Mapping[str, int], fusion: str) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[left]}"),
            console=error_console,
            disable=not error_console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._epochs = epochs
        self._time_left = TimeLeft(epochs, fusion)
        self._since_s = 0.0

    def __enter__(self) -> TrainingProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

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
                f"{name}: epoch {done} of {epochs}, {text}, {left} left in all", highlight=False, soft_wrap=True
            )
