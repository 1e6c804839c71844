"""`edgepain bench` as a person runs it: a process, its output, its exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, get_args

import msgspec
import onnx
import pytest

from edgepain.benchmarks import flops
from edgepain.benchmarks.energy import Meter, NoMeter, find_meter
from edgepain.benchmarks.latency import EngineName
from edgepain.benchmarks.report import Report
from edgepain.bundle import Bundle, demonstration_bundle, write_manifest


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
    for name in ("torch", "onnx", "fvcore", "safetensors", "psutil", "pandas", "scipy", "sklearn", "openvino"):
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
    assert report.schema == 2
    assert report.threads == 1
    assert [row.engine for row in report.engines] == list(get_args(EngineName))
    assert report.golden_windows == 32
    assert {row.name for row in report.operations} >= {"FCN", "ALSTM", "Transformer block", "CrossMod"}


def test_every_engine_is_measured(document: dict[str, Any], exported: Bundle) -> None:
    for row in msgspec.convert(document, Report).engines:
        if row.engine == "openvino-int8":
            assert "--target jetson" in row.reason
            continue
        assert row.latency is not None, row.reason
        assert row.latency.batch_ms > row.latency.p50_ms
        assert row.latency.batched == (row.engine == "torch")
        assert row.latency.runs == 13
        assert 0 < row.latency.p50_ms <= row.latency.p90_ms <= row.latency.p99_ms
        assert row.latency.first_ms > 0
        assert row.latency.peak_mb is None or 10 < row.latency.peak_mb < 4000
        assert (row.size_bytes is None) == (row.engine not in ("fp32", "int8"))


def test_an_engine_is_measured_in_a_process_that_has_imported_nothing_else() -> None:
    heavy = "{'edgepain.engine', 'onnxruntime', 'rich', 'torch'}"
    check = f"import sys, edgepain.benchmarks.worker; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_torch_on_random_weights_has_no_accuracy(document: dict[str, Any]) -> None:
    torch, plain, fp32, int8 = msgspec.convert(document, Report).engines[:4]
    for row in (torch, plain):
        assert (row.weights, row.accuracy, row.changed_labels) == ("random", None, None)
    assert fp32.changed_labels == 0
    assert int8.accuracy is not None


def test_ratios_are_those_of_the_medians(document: dict[str, Any]) -> None:
    rows = {row.engine: row for row in msgspec.convert(document, Report).engines}
    torch, plain, fp32, int8 = (rows[name] for name in ("torch", "plain", "fp32", "int8"))
    openvino = [rows[f"openvino-{precision}"].latency for precision in ("fp32", "bf16")]
    assert torch.latency
    assert plain.latency
    assert fp32.latency
    assert int8.latency
    assert int8.times_faster_than_fp32 == pytest.approx(fp32.latency.p50_ms / int8.latency.p50_ms)
    assert fp32.times_faster_than_torch == pytest.approx(torch.latency.p50_ms / fp32.latency.p50_ms)
    assert fp32.times_faster_than_fp32 == 1
    assert int8.times_faster_than_plain == pytest.approx(plain.latency.p50_ms / int8.latency.p50_ms)
    fastest_ms = min(latency.p50_ms for latency in openvino if latency)
    assert int8.times_faster_than_openvino == pytest.approx(fastest_ms / int8.latency.p50_ms)


def test_engines_on_the_same_weights_give_the_same_answers(document: dict[str, Any]) -> None:
    rows = {row.engine: row for row in msgspec.convert(document, Report).engines}
    assert rows["openvino-fp32"].changed_labels == 0
    assert rows["openvino-fp32"].accuracy == rows["fp32"].accuracy


def test_a_small_network_beside_the_one_of_another_bundle(
    small_run: Any, exported: Bundle, tmp_path: Path, without_torch: dict[str, str]
) -> None:
    from edgepain.export import export_run

    spec = msgspec.structs.replace(exported.manifest.network, stride=4)
    edge = export_run(small_run(spec), tmp_path / "edge")
    done = bench(edge.root, "--reference", exported.root, "--runs", 13, "--json")
    assert done.returncode == 0, done.stderr
    report = msgspec.json.decode(done.stdout, type=Report)
    found = report.reference
    assert found
    assert found.latency
    assert (found.bundle, found.network) == ("small", exported.manifest.network)
    assert found.multiply_adds == flops.total(exported.manifest.network).multiply_adds
    medians_ms = {row.engine: row.latency.p50_ms for row in report.engines if row.latency}
    assert found.times_faster == {name: pytest.approx(found.latency.p50_ms / ms) for name, ms in medians_ms.items()}

    done = bench(edge.root, "--reference", exported.root, "--runs", 10, environment=without_torch)
    out = " ".join(done.stdout.split())
    assert "million multiply-adds" in out
    assert "torch eager of it: n/a (torch is not installed; install edgepain[bench])" in out
    assert "One token stands for 4 points, the width is 32: the paper has no such network." in out

    done = bench(edge.root, "--reference", demonstration_bundle(), "--runs", 10, environment=without_torch)
    assert done.returncode != 0
    assert "takes other windows or has other classes" in done.stderr


def test_fvcore_and_formula_differ_by_the_weighted_sum_alone(document: dict[str, Any]) -> None:
    for row in msgspec.convert(document, Report).operations:
        assert row.difference.keys() <= {"weighted sum"}
        assert row.fvcore_multiply_adds == row.multiply_adds - sum(row.difference.values())


def test_without_torch_its_rows_say_so(exported: Bundle, without_torch: dict[str, str]) -> None:
    done = bench(exported.root, "--runs", 10, environment=without_torch)
    assert done.returncode == 0, done.stderr
    assert "torch eager: n/a (torch is not installed; install edgepain[bench])" in done.stdout
    assert "n/a (install edgepain[bench])" in done.stdout
    assert re.search(r"plain ONNX export: n/a \(\w+ is not installed; install edgepain\[export\]\)", done.stdout)
    assert "OpenVINO bf16: n/a (openvino is not installed; install edgepain[bench])" in done.stdout
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


def test_precision_that_is_not_in_the_bundle_reads_na(bundle_copy: Bundle, without_torch: dict[str, str]) -> None:
    graphs = tuple(g for g in bundle_copy.manifest.graphs if g.precision == "fp32")
    write_manifest(bundle_copy.root, msgspec.structs.replace(bundle_copy.manifest, graphs=graphs))
    done = bench(bundle_copy.root, "--runs", 10, environment=without_torch)
    assert done.returncode == 0, done.stderr
    assert "ONNX INT8: n/a (the bundle has no such graph)" in done.stdout


def test_graph_that_does_not_load_reads_na(bundle_copy: Bundle, without_torch: dict[str, str]) -> None:
    graph = onnx.load(bundle_copy.root / "model.int8.onnx")
    graph.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(graph, bundle_copy.root / "model.int8.onnx")
    graphs = tuple(msgspec.structs.replace(g, optimized=None) for g in bundle_copy.manifest.graphs)
    write_manifest(bundle_copy.root, msgspec.structs.replace(bundle_copy.manifest, graphs=graphs))
    done = bench(bundle_copy.root, "--runs", 10, "--json", environment=without_torch)
    row = next(r for r in msgspec.convert(json.loads(done.stdout), Report).engines if r.engine == "int8")
    assert row.latency is None
    assert "cannot be loaded" in row.reason


def test_damaged_bundle_is_refused(bundle_copy: Bundle) -> None:
    (bundle_copy.root / "model.onnx").write_bytes(b"other")
    done = bench(bundle_copy.root)
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")


def test_a_plot_and_a_comparison_of_what_was_measured(exported: Bundle, tmp_path: Path) -> None:
    done = bench(exported.root, "--runs", 10, "--plot", tmp_path / "plot.svg", "--json")
    assert done.returncode == 0, done.stderr
    assert "ONNX INT8" in (tmp_path / "plot.svg").read_text() or (tmp_path / "plot.svg").stat().st_size > 5000
    report = msgspec.json.decode(done.stdout, type=Report)
    slower = [
        msgspec.structs.replace(
            row,
            latency=row.latency and msgspec.structs.replace(row.latency, p50_ms=2 * row.latency.p50_ms),
        )
        for row in report.engines
    ]
    (tmp_path / "a.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(report, engines=tuple(slower))))
    (tmp_path / "b.json").write_text(done.stdout)
    shown = bench("--compare", tmp_path / "a.json", tmp_path / "b.json")
    assert shown.returncode == 0, shown.stderr
    int8 = next(line for line in shown.stdout.splitlines() if line.strip().startswith("ONNX INT8"))
    assert int8.split()[4] == "2.00"


@pytest.mark.parametrize("text", ["", "{}", "[1", '{"schema": 1}', "[" * 100000])
def test_what_is_no_report_is_not_compared(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    done = bench("--compare", tmp_path / "a.json", tmp_path / "a.json")
    assert done.returncode == 3
    assert "a.json is no report of `edgepain bench --json`" in done.stderr


def test_live_decisions_are_timed_from_the_sensor_on(without_torch: dict[str, str]) -> None:
    done = bench("--runs", 10, "--live", 2, "--json", environment=without_torch)
    assert done.returncode == 0, done.stderr
    live = msgspec.json.decode(done.stdout, type=Report).live
    assert live is not None
    assert live.decisions >= 4
    assert 0 < live.inference_p50_ms < live.p50_ms <= live.p99_ms


def _meter(sysfs: Path) -> Meter:
    meter = find_meter(sysfs)
    assert isinstance(meter, Meter)
    return meter


def test_energy_of_two_packages_whose_counter_begins_again(tmp_path: Path) -> None:
    for index in range(2):
        package = tmp_path / f"class/powercap/intel-rapl:{index}"
        package.mkdir(parents=True)
        (package / "max_energy_range_uj").write_text("9999999\n")
        (package / "energy_uj").write_text("9000000\n")
    meter = _meter(tmp_path)
    assert meter.joules() == 0
    (tmp_path / "class/powercap/intel-rapl:0/energy_uj").write_text("500000\n")
    (tmp_path / "class/powercap/intel-rapl:1/energy_uj").write_text("9250000\n")
    assert meter.joules() == pytest.approx(1.5 + 0.25)


def test_energy_of_a_jetson_is_power_over_time(tmp_path: Path) -> None:
    sensor = tmp_path / "class/hwmon/hwmon3"
    sensor.mkdir(parents=True)
    for name, text in {"in1_label": "VDD_IN", "in1_input": "5000", "curr1_input": "2000", "in2_label": "X"}.items():
        (sensor / name).write_text(f"{text}\n")
    meter = _meter(tmp_path)
    before, start = meter.joules(), time.monotonic()
    time.sleep(0.2)
    found, seconds = meter.joules() - before, time.monotonic() - start
    assert found == pytest.approx(10 * seconds, rel=0.1)


def test_no_meter_says_why(tmp_path: Path) -> None:
    assert find_meter(tmp_path) == NoMeter("neither RAPL nor a Jetson's INA3221 here")
    package = tmp_path / "class/powercap/intel-rapl:0"
    package.mkdir(parents=True)
    (package / "max_energy_range_uj").write_text("1\n")
    (package / "energy_uj").write_text("not a number")
    found = find_meter(tmp_path)
    assert isinstance(found, NoMeter)
    assert "cannot be read" in found.reason
