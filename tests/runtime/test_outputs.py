"""Parts of the installation that outputs and LSL need, and markers of another program in a live session."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest


@pytest.mark.parametrize(
    ("module", "named", "extra", "options"),
    [
        ("pylsl", "pylsl", "lsl", ["run", "--port", "{port}", "--lsl-out"]),
        ("pylsl", "pylsl", "lsl", ["run", "--port", "{port}", "--lsl-markers", "stimuli"]),
        ("pylsl", "pylsl", "lsl", ["run", "--port", "x", "--device", "lsl"]),
        ("pylsl", "pylsl", "lsl", ["record", "{file}", "--port", "x", "--device", "lsl"]),
        ("pylsl", "pylsl", "lsl", ["ports", "--lsl"]),
        ("paho", "paho-mqtt", "mqtt", ["run", "--port", "{port}", "--mqtt", "mqtt://localhost/ward"]),
        ("brainflow", "brainflow", "brainflow", ["run", "--port", "synthetic", "--device", "brainflow"]),
    ],
)
def test_what_is_not_installed_is_named_with_its_extra(
    terminal, tmp_path: Path, module: str, named: str, extra: str, options: list[str]
):
    code = f"import sys; sys.modules[{module!r}] = None; from edgepain.cli.main import main; main()"
    arguments = [option.format(port=terminal[1], file=tmp_path / "x.wire") for option in options]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1, done.stderr
    expected = f"error: {named} is not installed; install it with: pip install 'edgepain[{extra}]'"
    assert done.stderr.splitlines()[-1] == expected


def test_another_program_marks_moments_of_a_session(lsl: Any, live, simulate, tmp_path: Path):
    link, name = tmp_path / "wearable", f"stimuli {uuid4().hex[:8]}"
    sender = lsl.StreamOutlet(lsl.StreamInfo(name, "Markers", 1, 0.0, "string", name))
    with simulate("--link", link, "--no-wait", "--loop"), live(link, "--lsl-markers", name, "--duration", 30) as run:
        run.until(lambda line: line["type"] == "decision")
        deadline_s = time.monotonic() + 20
        while not sender.have_consumers() and time.monotonic() < deadline_s:
            time.sleep(0.05)
        sender.push_sample(["heat on"])
        sender.push_sample(["NRS 6"])
        run.until(lambda line: line["type"] == "marker" and line["value"] == 6)
        assert run.end(signal.SIGINT) == 0
    assert [(line["label"], line["value"], line["source"]) for line in run.of("marker")] == [
        ("heat on", None, name),
        ("NRS", 6.0, name),
    ]
