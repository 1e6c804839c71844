"""Tasks of a run, one after the other in this process, or several at once in processes of their own.

A task leaves everything it does in the run folder, so whoever does it, the result is the same, and a process that is
killed costs its task the epoch that it was in.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Protocol

import torch

from edgepain.errors import EdgepainError
from edgepain.train.run import Run, Task, open_run
from edgepain.train.stage import EpochMetrics
from edgepain.train.staged import Progress
from edgepain.train.work import carry_out

# How often a task is begun again after its process was killed.
ATTEMPTS = 3
TICK_S = 0.5


@dataclass(frozen=True)
class Outcome:
    """A task that ended. error: why it could not be finished, empty where it was."""

    task: Task
    error: str = ""


class Engine(Protocol):
    """Carries tasks out somewhere."""

    def run(self, run: Run, tasks: Sequence[Task], on_tick: Callable[[], None]) -> Iterator[Outcome]:
        """Outcomes in the order in which tasks end; `on_tick` is called now and then while nothing ends."""


class Silent:
    """A progress for processes that nobody watches: what they do can be seen in the run folder."""

    def stage(self, name: str, epochs: int, done: int) -> None:
        """Nothing."""

    def epoch(self, name: str, metrics: EpochMetrics) -> None:
        """Nothing."""


@dataclass(frozen=True)
class InThisProcess:
    """One task after the other, each epoch told to `progress(task)`."""

    progress: Callable[[Task], Progress]
    keep_features: bool = False

    def run(self, run: Run, tasks: Sequence[Task], on_tick: Callable[[], None]) -> Iterator[Outcome]:
        """See `Engine.run`."""
        for task in tasks:
            yield attempt(run, task, self.progress(task), self.keep_features)
            on_tick()


@dataclass(frozen=True)
class LocalProcesses:
    """Up to `workers` tasks at once, each in a process of its own."""

    workers: int
    keep_features: bool = False

    def run(self, run: Run, tasks: Sequence[Task], on_tick: Callable[[], None]) -> Iterator[Outcome]:
        """See `Engine.run`. Processes that still run are killed where the caller stops early."""
        calls = [Call(str(task), in_process, (run.folder, task, run.threads, self.keep_features)) for task in tasks]
        names = {str(task): task for task in tasks}
        for name, error in in_processes(calls, self.workers, on_tick):
            yield Outcome(names[name], error)


@dataclass(frozen=True)
class Call:
    """A function that returns why it could not be finished, empty where it was."""

    name: str
    function: Callable[..., str]
    arguments: tuple[Any, ...]


def in_processes(calls: Sequence[Call], workers: int, on_tick: Callable[[], None]) -> Iterator[tuple[str, str]]:
    """Up to `workers` calls at once, each in a process of its own: name and error of each one that ends.

    A call whose process is killed is begun again, up to ATTEMPTS times. Processes that still run are killed where the
    caller stops early.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    waiting = deque((call, 1) for call in calls)
    running: dict[Connection, tuple[ForkServerProcess, Call, int]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                call, number = waiting.popleft()
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_in_child, args=(call, theirs), daemon=True)
                process.start()
                theirs.close()
                running[ours] = (process, call, number)
            for ready in wait(list(running), TICK_S):
                assert isinstance(ready, Connection)
                process, call, number = running.pop(ready)
                error = _received(ready)
                process.join()
                if error is None and number < ATTEMPTS:
                    waiting.appendleft((call, number + 1))
                    continue
                killed = f"its process ended {number} times with exit code {process.exitcode}"
                yield call.name, killed if error is None else error
            on_tick()
    finally:
        for process, _, _ in running.values():
            process.kill()
        for process, _, _ in running.values():
            process.join()


def attempt(run: Run, task: Task, progress: Progress, keep_features: bool = False) -> Outcome:
    """Carry a task out; what goes wrong with its data or folder is its outcome."""
    # A library of the task before may have set another number.
    torch.set_num_threads(run.threads)
    try:
        carry_out(run, task, progress, keep_features)
    except EdgepainError as error:
        return Outcome(task, str(error))
    return Outcome(task)


def in_process(folder: Path, task: Task, threads: int, keep_features: bool) -> str:
    """`attempt` in a process that knows nothing yet; the error, or empty."""
    torch.set_num_threads(threads)
    try:
        return attempt(open_run(folder), task, Silent(), keep_features).error
    except Exception:
        return traceback.format_exc()


def _in_child(call: Call, result: Connection) -> None:
    # Ctrl-C goes to every process of the terminal; this one is ended by its parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    result.send_bytes(call.function(*call.arguments).encode())
    result.close()


def _end_with_parent() -> None:
    """A parent that was killed leaves nobody behind who would keep its folds locked."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _received(connection: Connection) -> str | None:
    """What the child said; None where it ended without a word."""
    try:
        return connection.recv_bytes().decode()
    except (EOFError, ConnectionError):
        return None
    finally:
        connection.close()
