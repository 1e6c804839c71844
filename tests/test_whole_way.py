"""The whole way, once, through the commands: recordings, training, INT8 bundle, wearable, live decisions.

Two people whom the network has never seen are played through a pseudo-terminal; what is decided live must be what the
offline evaluation gives for the same windows.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgepain.train.datasets.synth import write_e4

CONFIG = """
name = "one epoch a stage"
batch_size = 64
scaling = "causal"
fcn = {epochs = 1, learning_rate = 1e-3, dropout = 0.1}
alstm = {epochs = 1, learning_rate = 1e-3, dropout = 0.1}
transformer = {epochs = 1, learning_rate = 1e-3, dropout = 0.1}
crossmod = {epochs = 1, learning_rate = 1e-3, dropout = 0.3}
"""
SEGMENT_S = 120.0


def edgepain(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "edgepain", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(params=["real", "synthetic"])
def people(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, list[str], tuple[str, str]]:
    """A tree of E4 sessions of five people, the options that choose its task, and the two people to hold out."""
    root = tmp_path / "people"
    if request.param == "synthetic":
        if request.getfixturevalue("found_data") is not None:
            pytest.skip("done with real recordings instead")
        write_e4(root, subjects=5, seed=3, trials=4)
        return root, ["--option", "positive=pain", "--option", "negative=no pain"], ("S04", "S05")
    stress = request.getfixturevalue("shared_data") / "stress_predict"
    chosen = ("S02", "S05", "S09", "S11", "S16")
    (root / "raw").mkdir(parents=True)
    for subject in chosen:
        (root / "raw" / subject).symlink_to(stress / "raw" / subject)
    with (stress / "labels.csv").open(newline="") as source, (root / "labels.csv").open("w", newline="") as target:
        rows = csv.DictReader(source)
        writer = csv.DictWriter(target, rows.fieldnames or [])
        writer.writeheader()
        for row in rows:
            if row["subject"] in chosen:
                end_s = min(float(row["end_s"]), float(row["start_s"]) + SEGMENT_S)
                writer.writerow({**row, "end_s": f"{end_s:g}"})
    return root, ["--option", "positive=interview", "--option", "negative=relax1,relax2"], ("S11", "S16")


def play(session: Path, bundle: Path, folder: Path) -> Path:
    """Play the first minutes of a session into `edgepain run`; returns the file of its JSON lines."""
    link, decisions = folder / f"{session.name}.port", folder / f"{session.name}.jsonl"
    simulate = [sys.executable, "-m", "edgepain", "simulate", session, "--link", link, "--speed", "40"]
    with subprocess.Popen(
        [*map(str, simulate), "--duration", "160"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as wearable:
        assert wearable.stdout is not None
        assert wearable.stdout.readline().startswith("port: ")
        run = [sys.executable, "-m", "edgepain", "run", "--port", link, "--model", bundle, "--json"]
        with (
            decisions.open("w") as lines,
            subprocess.Popen([*map(str, run)], stdout=lines, stderr=subprocess.PIPE, text=True) as live,
        ):
            assert wearable.wait(120) == 0
            live.send_signal(signal.SIGINT)
            _, complaint = live.communicate(timeout=60)
    assert live.returncode == 0, complaint
    return decisions


def test_live_decisions_of_unseen_people_are_the_offline_ones(
    people: tuple[Path, list[str], tuple[str, str]], tmp_path: Path
) -> None:
    root, task, held_out = people
    (tmp_path / "one.toml").write_text(CONFIG)
    dataset = ["--dataset", "e4", "--root", root, *task]
    edgepain(
        *("train", *dataset, "--config", tmp_path / "one.toml", "--threads", "1"),
        *("--holdout", ",".join(held_out), "--out", tmp_path / "run"),
    )
    # One epoch leaves most answers near one half, where rounding to INT8 may tip them: the labels are not the point.
    edgepain(
        *("export", tmp_path / "run", "--precision", "int8", "--out", tmp_path / "bundle"),
        *("--max-changed-labels", "0.5", "--max-accuracy-drop", "0.5"),
    )
    live = [f"{subject}={play(root / 'raw' / subject, tmp_path / 'bundle', tmp_path)}" for subject in held_out]
    out = edgepain(
        *("evaluate", tmp_path / "bundle", *dataset, "--subjects", ",".join(held_out), "--json"),
        *("--live", live[0], "--live", live[1]),
    )
    document = json.loads(out)
    assert document["evaluation"]["scores"]["windows"] >= 10
    assert [comparison["subject"] for comparison in document["live"]] == list(held_out)
    for comparison in document["live"]:
        assert comparison["max_probability_difference"] <= 1e-4
        assert comparison["compared"] >= 80
        assert comparison["only_live"] == comparison["only_offline"] == comparison["changed_labels"] == 0
