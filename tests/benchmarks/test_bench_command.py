"""`edgepain bench` as a person runs it: a process, its output, its exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgepain.benchmarks.report import Report
from edgepain.bundle import Bundle, write_manifest


def bench(*arguments: object, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "edgepain", "bench", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200", **(environment or {})},
    )


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment in which torch, onnx, fvcore, safetensors, psutil and pandas cannot be imported."""
    folder = tmp_path_factory.mktemp("blocked")
    for name in ("torch", "onnx", "fvcore", "safetensors", "psutil", "pandas", "scipy", "sklearn"):
        (folder / f"{name}.py").write_text(f"raise ModuleNotFoundError('blocked', name={name!r})\n")
    return {"PYTHONPATH": str(folder)}


@pytest.fixture(scope="module")
def document(exported: Bundle) -> dict[str, Any]:
    done = bench(exported.root, "--runs", 13, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_json_is_the_documented_report(document: dict[str, Any]) -> None:
    report = msgspec.convert(document, Report)
    assert report.schema == 1
    assert report.threads == 1
    assert [row.engine for row in report.engines] == ["torch", "fp32", "int8"]
    assert report.golden_windows == 32
    assert {row.name for row in report.operations} >= {"FCN", "ALSTM", "Transformer block", "CrossMod"}


def test_every_engine_is_measured(document: dict[str, Any], exported: Bundle) -> None:
    for row in msgspec.convert(document, Report).engines:
        assert row.latency is not None, row.reason
        assert row.latency.runs == 13
        assert 0 < row.latency.p50_ms <= row.latency.p90_ms <= row.latency.p99_ms
        assert row.latency.first_ms > 0
        assert row.latency.peak_mb is None or 10 < row.latency.peak_mb < 4000
        assert (row.size_bytes is None) == (row.engine == "torch")


def test_an_engine_is_measured_in_a_process_that_has_imported_nothing_else() -> None:
    heavy = "{'edgepain.engine', 'onnxruntime', 'rich', 'torch'}"
    check = f"import sys, edgepain.benchmarks.worker; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_torch_on_random_weights_has_no_accuracy(document: dict[str, Any]) -> None:
    torch, fp32, int8 = msgspec.convert(document, Report).engines
    assert torch.weights == "random"
    assert torch.accuracy is None
    assert torch.changed_labels is None
    assert fp32.changed_labels == 0
    assert int8.accuracy is not None
    assert any("random weights" in note for note in document["notes"])


def test_ratios_are_those_of_the_medians(document: dict[str, Any]) -> None:
    torch, fp32, int8 = msgspec.convert(document, Report).engines
    assert torch.latency
    assert fp32.latency
    assert int8.latency
    assert int8.times_faster_than_fp32 == pytest.approx(fp32.latency.p50_ms / int8.latency.p50_ms)
    assert fp32.times_faster_than_torch == pytest.approx(torch.latency.p50_ms / fp32.latency.p50_ms)
    assert fp32.times_faster_than_fp32 == 1


def test_fvcore_and_formula_differ_by_the_weighted_sum_alone(document: dict[str, Any]) -> None:
    for row in msgspec.convert(document, Report).operations:
        assert row.difference.keys() <= {"weighted sum"}
        assert row.fvcore_multiply_adds == row.multiply_adds - sum(row.difference.values())


def test_without_torch_its_rows_say_so(exported: Bundle, without_torch: dict[str, str]) -> None:
    done = bench(exported.root, "--runs", 10, environment=without_torch)
    assert done.returncode == 0, done.stderr
    assert "torch eager: n/a (torch is not installed; install edgepain[bench])" in done.stdout
    assert "n/a (install edgepain[bench])" in done.stdout
    assert "134 ms" in done.stdout
    assert "ONNX INT8" in done.stdout
    assert done.stderr == ""


def test_the_sum_beside_the_one_of_the_paper_is_taken_apart(without_torch: dict[str, str]) -> None:
    done = bench("--runs", 10, environment=without_torch)
    numbers = re.search(
        r"All sub-networks: (\d+) in sequence fusion, printed about (\d+). Of the (\d+) between, (\d+) are 2 × the "
        r"ALSTM's difference, (\d+) the FCN's and CrossMod's; (\d+) remain unexplained",
        " ".join(done.stdout.split()),
    )
    assert numbers, done.stdout
    ours, printed, between, alstm, others, rest = map(int, numbers.groups())
    assert (ours, printed, between) == (873, 1030, 157)
    assert alstm == round(2 * (55.82 - 13.67))
    assert others == round(2 * (73.28 - 72.63) + 442.76 - 440.62)
    assert abs(between - alstm - others - rest) <= 1  # Each is rounded.


def test_without_torch_a_run_cannot_be_read(exported: Bundle, without_torch: dict[str, str], tmp_path: Path) -> None:
    done = bench(exported.root, "--run", tmp_path, environment=without_torch)
    assert done.returncode == 1
    assert "pip install 'edgepain[train,bench]'" in done.stderr


def test_precision_that_is_not_in_the_bundle_reads_na(bundle_copy: Bundle) -> None:
    graphs = tuple(g for g in bundle_copy.manifest.graphs if g.precision == "fp32")
    write_manifest(bundle_copy.root, msgspec.structs.replace(bundle_copy.manifest, graphs=graphs))
    done = bench(bundle_copy.root, "--runs", 10)
    assert done.returncode == 0, done.stderr
    assert "ONNX INT8: n/a (the bundle has no such graph)" in done.stdout


def test_graph_that_does_not_load_reads_na(bundle_copy: Bundle) -> None:
    (bundle_copy.root / "model.int8.onnx").write_bytes(b"no graph")
    write_manifest(bundle_copy.root, bundle_copy.manifest)
    done = bench(bundle_copy.root, "--runs", 10, "--json")
    row = msgspec.convert(json.loads(done.stdout), Report).engines[2]
    assert row.latency is None
    assert "cannot be loaded" in row.reason


def test_damaged_bundle_is_refused(bundle_copy: Bundle) -> None:
    (bundle_copy.root / "model.onnx").write_bytes(b"other")
    done = bench(bundle_copy.root)
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
