"""`edgepain demo`: three processes that begin and end together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest


def demo(*options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgepain", "demo", "--no-bench", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    # A group of its own, so that what it leaves behind can be found.
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    )


def test_it_decides_live_and_sums_up() -> None:
    with demo("--seconds", "75", "--speed", "20") as process:
        text, _ = process.communicate(timeout=200)
    assert process.returncode == 0, text
    assert "1. a simulated wearable plays 75 s at 20 times real time" in text
    assert "2. live decisions from /dev/" in text
    assert "This is the demonstration bundle" in text
    assert "ms after its last sample" in text
    assert "frames, 0 lost" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_of_it_with_a_summary(number: signal.Signals) -> None:
    with demo("--speed", "10") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "no decision" in line:
                break
        process.send_signal(number)
        text, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "ended by" in text
    assert not _running(process.pid)


def _running(group: int) -> list[str]:
    """Command lines of the processes of a group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
            if int(fields[2]) == group and fields[0] != "Z":
                found.append((stat.parent / "cmdline").read_text())
        except OSError:
            continue  # It ended meanwhile.
    return found
