"""`edgepain run` as a process of its own, and ports to run it on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tty
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgepain.bundle import Bundle
from edgepain.signal import Event

SETTINGS = {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}


class LiveRun:
    """A process of `edgepain run --json` and what it says."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "edgepain", "run", "--json", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **SETTINGS}
        )
        self.lines: list[dict[str, Any]] = []
        self.errors = ""

    def until(self, enough: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read on to the first line that is `enough`."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))
            if enough(self.lines[-1]):
                return self.lines[-1]
        raise AssertionError(f"it ended before: {self.process.communicate()[1]}")

    def end(self, number: signal.Signals | None = None) -> int:
        """Send a signal, or wait for its own end; the exit code. Every line must be JSON with a type."""
        if number is not None:
            self.process.send_signal(number)
        text, self.errors = self.process.communicate(timeout=120)
        self.lines += [json.loads(line) for line in text.splitlines()]
        assert all(isinstance(line["type"], str) for line in self.lines)
        assert "Traceback" not in self.errors
        return self.process.returncode

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The lines of one type."""
        return [line for line in self.lines if line["type"] == kind]

    @property
    def summary(self) -> dict[str, Any]:
        """The last line."""
        (summary,) = self.of("summary")
        assert self.lines[-1] is summary
        return summary


@pytest.fixture
def live(exported: Bundle) -> Callable[..., AbstractContextManager[LiveRun]]:
    """Start `edgepain run --json` on a port with these arguments; killed at the end if it still runs."""

    @contextmanager
    def started(port: object, *arguments: object, model: Path = exported.root) -> Iterator[LiveRun]:
        run = LiveRun("--port", port, "--model", model, *arguments)
        with run.process:
            try:
                yield run
            finally:
                run.process.kill()

    return started


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """The device's end of a serial line, and the name of the other end."""
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    os.close(master)
    os.close(slave)


@pytest.fixture(scope="session")
def labelled(e4_session: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of the simulated session: calm in its first half, not so in the second."""
    root = tmp_path_factory.mktemp("labelled")
    (root / "raw").mkdir()
    (root / "raw" / "S99").symlink_to(e4_session)
    events = (Event("calm", 0, 0, 30), Event("stress", 1, 30, 58))
    rows = [f"S99,{e.name},{e.start_s:g},{e.end_s:g},{e.label}" for e in events]
    (root / "labels.csv").write_text("\n".join(["subject,segment,start_s,end_s,label", *rows]) + "\n")
    return root
