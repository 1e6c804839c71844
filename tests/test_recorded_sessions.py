"""From a simulated wearable to a trained network: record with markers, convert, check, train."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from edgepain.train.datasets.synth import write_recordings

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
SUBJECTS = 3
SECONDS = 46
SPEED = 6
RULES = """
classes = ["no pain", "pain"]

[[stretch]]
class = "no pain"
begin = "rest"
end = "rest over"

[[stretch]]
class = "pain"
begin = "heat on"
end = "heat off"
"""
TINY = """\
name = "tiny"
batch_size = 16
scaling = "subject"
window = { seconds = 5.5, steps = 24 }
fcn = { epochs = 1, learning_rate = 1e-3, dropout = 0.2 }
alstm = { epochs = 1, learning_rate = 1e-3, dropout = 0.1 }
transformer = { epochs = 1, learning_rate = 3e-4, dropout = 0.2 }
crossmod = { epochs = 1, learning_rate = 3e-4, dropout = 0.3 }
"""
# What is said when so many seconds of the person were recorded.
SCRIPT = [(2, "rest"), (20, "rest over"), (22, "heat on"), (38, "NRS 6"), (40, "heat off")]


def edgepain(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edgepain", *map(str, arguments)]


def done(*arguments: object) -> str:
    run = subprocess.run(
        edgepain(*arguments), capture_output=True, text=True, env=ENVIRONMENT, timeout=240, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def record(simulate: Any, person: Path, log: Path) -> None:
    """Play one person and record, with what the experimenter says at the right moments."""
    with (
        simulate(person, "--speed", SPEED, "--duration", SECONDS) as device,
        subprocess.Popen(
            edgepain("record", "--port", device.port, "--json", "--give-up", 1, log),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=ENVIRONMENT,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        script = list(SCRIPT)
        for text in process.stdout:
            line = json.loads(text)
            eda = line["signals"].get("eda") if line["type"] == "signals" else None
            while eda and script and eda["samples"] / eda["nominal_hz"] >= script[0][0]:
                process.stdin.write(script.pop(0)[1] + "\n")
                process.stdin.flush()
        assert process.wait() == 6, "it ends when the person does"


def test_recorded_sessions_are_checked_and_trained_on(simulate, tmp_path):
    people = write_recordings(tmp_path / "people", SUBJECTS, 4, SECONDS)
    logs, root = tmp_path / "logs", tmp_path / "sessions"
    logs.mkdir()
    root.mkdir()
    with ThreadPoolExecutor() as pool:
        for number, person in enumerate(sorted(people), 1):
            pool.submit(record, simulate, person, logs / f"S{number:02}_monday.wire")
    done("convert", *sorted(logs.iterdir()), "--to", "parquet", "--out", root)
    (root / "sessions.toml").write_text(RULES)

    report = json.loads(done("data", "check", root, "--json"))
    assert (report["dataset"], report["problems"]) == ("sessions", [])
    assert [subject["subject"] for subject in report["subjects"]] == ["S01", "S02", "S03"]
    assert report["events"] == {"no pain": SUBJECTS, "pain": SUBJECTS}
    rates = {tuple(channel["rates_hz"]) for subject in report["subjects"] for channel in subject["channels"]}
    assert len(rates) <= 2

    (tmp_path / "tiny.toml").write_text(TINY)
    run = tmp_path / "run"
    config = ("--config", tmp_path / "tiny.toml", "--holdout", "S03,", "--modalities", "eda,bvp", "--threads", 1)
    told = done("train", "--dataset", "sessions", "--root", root, "--out", run, *config)
    assert "sessions: no pain / pain from eda + bvp" in told
    assert "held out: S03" in told
    assert f"edgepain export {run}" in told
