"""`edgepain build` without a GPU: which graph this processor answers sooner, and that it is then used."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edgepain.bundle import demonstration_bundle, engines_folder, open_bundle
from edgepain.engine import choose_engine
from edgepain.engine.processor import processor_name
from edgepain.engine.timed import FILE, Timed, keep, kept, measure


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return open_bundle(demonstration_bundle())


@pytest.fixture
def timed(bundle) -> Timed:
    return measure(bundle)


def test_both_graphs_are_timed_and_the_choice_follows_from_the_times(timed):
    assert set(timed.p50_ms) == {"fp32", "int8"}
    assert timed.chosen == ("int8" if timed.p50_ms["fp32"] >= 1.05 * timed.p50_ms["int8"] else "fp32")
    assert timed.refused == {}


@pytest.mark.parametrize("chosen", ["fp32", "int8"])
def test_a_run_uses_what_was_chosen_here_but_for_a_precision_that_is_asked_for(bundle, timed, chosen):
    keep(bundle, msgspec.structs.replace(timed, chosen=chosen))
    assert f", {chosen}, " in choose_engine(bundle)[0].description
    assert f", {chosen}, " in choose_engine(bundle, "onnx")[0].description
    assert ", fp32, " in choose_engine(bundle, precision="fp32")[0].description


def test_what_was_measured_elsewhere_or_is_damaged_counts_for_nothing(bundle, timed):
    slow = msgspec.structs.replace(timed, chosen="fp32")
    for other in ({"processor": "another"}, {"onnxruntime": "0.1"}):
        keep(bundle, msgspec.structs.replace(slow, **other))
        assert kept(bundle) is None
        assert ", int8, " in choose_engine(bundle)[0].description
    path = keep(bundle, slow)
    assert kept(bundle) == slow
    for damaged in (path.read_bytes()[:-9], b"", b"[" * 60_000, b'{"chosen": "fp64"}'):
        path.write_bytes(damaged)
        assert kept(bundle) is None


def test_the_command_measures_keeps_and_says_so(bundle, tmp_path):
    command = [sys.executable, "-m", "edgepain", "build", str(demonstration_bundle())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    path = engines_folder(bundle.manifest.sha256) / FILE
    found = json.loads(path.read_text())
    assert f"{found['chosen']} from now on: {found['why']}" in done.stdout
    assert found["processor"] == processor_name()
    refused = subprocess.run([*command, "--precision", "fp16"], capture_output=True, text=True)
    assert refused.returncode == 2
    assert "are for TensorRT; leave them out" in refused.stderr
    elsewhere = tmp_path / "file"
    elsewhere.touch()
    refused = subprocess.run([*command, "--out", str(elsewhere)], capture_output=True, text=True)
    assert refused.returncode == 1
    assert "cannot be written" in refused.stderr


def test_a_board_is_known_by_its_device_tree(tmp_path: Path):
    (tmp_path / "device-tree").mkdir()
    (tmp_path / "device-tree" / "model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    assert processor_name(tmp_path) == "Raspberry Pi 5 Model B Rev 1.0"
    (tmp_path / "device-tree" / "model").unlink()
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name : A CPU\nprocessor : 1\nmodel name : Another\n")
    assert processor_name(tmp_path) == "A CPU"
