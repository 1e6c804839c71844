"""From simulated people on disk to a bundle, through the commands a person types."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from edgepain.bundle import Bundle, make_keys, open_bundle
from edgepain.engine import open_engine
from edgepain.errors import ConfigError

CONFIG = """
name = "tiny"
batch_size = 32
scaling = "subject"
fcn = {epochs = 1, learning_rate = 1e-3, dropout = 0.1}
alstm = {epochs = 1, learning_rate = 1e-3, dropout = 0.1}
transformer = {epochs = 1, learning_rate = 1e-3, dropout = 0.1}
crossmod = {epochs = 1, learning_rate = 1e-3, dropout = 0.1}
"""


def edgepain(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgepain", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "160", "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    (folder / "tiny.toml").write_text(CONFIG)
    done = edgepain("data", "synth", folder / "data", "--subjects", 4, "--trials", 4)
    assert done.returncode == 0, done.stderr
    return train(folder, "run")


def train(folder: Path, name: str, *options: object) -> Path:
    """Train on the data in `folder`; gives the run folder."""
    plan = ("--dataset", "biovid", "--root", folder / "data", "--holdout", 2, "--config", folder / "tiny.toml")
    done = edgepain("train", *plan, "--out", folder / name, *options)
    assert done.returncode == 0, done.stderr
    return folder / name


def test_a_trained_run_becomes_a_compact_bundle_under_5_mb(run_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    make_keys(tmp_path / "k")
    options = ("--compact", "--demonstration", "--max-changed-labels", 0.5, "--sign", tmp_path / "k")
    done = edgepain("export", run_folder, "--out", out, *options)
    assert done.returncode == 0, done.stderr
    assert " MB, signed with " in done.stdout
    assert open_bundle(out, trusted_key=tmp_path / "k.pub").trusted
    assert f"next: edgepain bench {out}" in done.stdout
    assert "INT8 operators" in done.stdout
    bundle = open_bundle(out)
    assert sum(p.stat().st_size for p in out.iterdir()) < 5e6
    assert bundle.manifest.training.synthetic
    assert bundle.manifest.training.train_subjects == 2
    assert {open_engine(bundle, p).precision for p in ("fp32", "int8")} == {"fp32", "int8"}
    assert bench_with_run(bundle, run_folder) == 0
    other = with_other_weights(run_folder, tmp_path / "other")
    with pytest.raises(ConfigError, match=r"other is not the one that bundle .* was exported from"):
        bench_with_run(bundle, other)


def with_other_weights(run: Path, copy: Path) -> Path:
    """A copy of the run whose last stage learnt something else."""
    shutil.copytree(run, copy)
    (path,) = copy.glob("**/stages/crossmod/state.safetensors")
    with safe_open(path, "np") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    for name, values in tensors.items():
        if values.dtype == np.float32:
            tensors[name] = np.asarray(values + 0.1, np.float32)
    save_file(tensors, path, metadata)
    return copy


def bench_with_run(bundle: Bundle, run: Path) -> int:
    """Labels that torch, with the weights of the run, answers otherwise than at export."""
    from edgepain.benchmarks.bench import benchmark

    torch_row = benchmark(bundle, run=run, runs=10).engines[0]
    assert torch_row.weights == "trained"
    assert torch_row.changed_labels is not None, torch_row.reason
    return torch_row.changed_labels


def test_past_a_limit_the_command_fails_and_leaves_nothing(run_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    done = edgepain("export", run_folder, "--out", out, "--precision", "fp32", "--max-probability-difference", 0)
    assert done.returncode == 5
    assert done.stderr.startswith("error: fp32 graph")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["/dev/null/x/bundle", "/proc/x/bundle"])
def test_a_place_that_cannot_be_written_is_one_line(run_folder: Path, place: str) -> None:
    done = edgepain("export", run_folder, "--out", place)
    assert done.returncode == 2
    assert re.fullmatch(rf"error: {place} cannot be made a bundle \([\w ]+\); choose another --out\n", done.stderr)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    done = edgepain("export", tmp_path, "--out", tmp_path / "bundle")
    assert done.returncode == 3
    assert "is no run folder" in done.stderr


def test_other_targets_are_not_offered(tmp_path: Path) -> None:
    done = edgepain("export", tmp_path, "--out", tmp_path / "bundle", "--target", "coral")
    assert done.returncode == 2
    assert "'coral' is not one of 'cpu', 'jetson'" in done.stderr
