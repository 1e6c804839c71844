"""`edgepain build` and the engine it makes, without a GPU.

`stub/libcuda.c` and `stub/tensorrt.py` stand in for the driver and for NVIDIA's module, FOR CONTROL FLOW ONLY: locks,
full disks, crashes, refusals, what is kept and what is left behind, order and arguments of the driver's calls. That a
real TensorRT parses, builds and runs the graphs they cannot show; `python -m edgepain.benchmarks.tensorrt_check` does,
on a machine with a GPU.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgepain.bundle import Bundle, Manifest, engines_folder, pack, write_manifest
from edgepain.engine import OnnxEngine, choose_engine
from edgepain.errors import ConfigError, EdgepainError

STUB = Path(__file__).parent / "stub"
# One of each graph, and the ends of each range of names; test_tensorrt_names.py has all versions.
OPSETS = {"8.5.3": 13, "8.6.0": 17, "10.7.0": 17, "10.13.3.9": 19, "11.4.0.106": 19}

Result = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the stub driver, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here")
    folder = tmp_path_factory.mktemp("driver")
    command = [
        compiler,
        "-shared",
        "-fPIC",
        "-Wall",
        "-Werror",
        "-o",
        str(folder / "libcuda.so.1"),
        str(STUB / "libcuda.c"),
    ]
    subprocess.run(command, check=True)
    return folder


class Machine:
    """A machine with a stub GPU and a stub TensorRT of one version."""

    def __init__(self, driver: Path, modules: Path, api: Path) -> None:
        self._driver, self._modules, self._api = driver, modules, api
        self.use("10.3.0")

    def use(self, version: str) -> None:
        """Have TensorRT of another version."""
        package = self._modules / "tensorrt"
        package.mkdir(parents=True, exist_ok=True)
        shutil.copy(STUB / "tensorrt.py", package / "__init__.py")
        shutil.copy(self._api / f"{version}.json", package / "surface.json")

    def environment(self, **knobs: str) -> dict[str, str]:
        return {
            **os.environ,
            "LD_LIBRARY_PATH": str(self._driver),
            "PYTHONPATH": str(self._modules),
            "XDG_DATA_HOME": str(self._modules.parent / "data"),
            "OMP_NUM_THREADS": "1",
            **knobs,
        }

    def python(self, code: str, *arguments: object, **knobs: str) -> Result:
        command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, env=self.environment(**knobs)
        )

    def command(self, *arguments: object, **knobs: str) -> Result:
        return self.python("from edgepain.cli.main import main; main()", *arguments, **knobs)

    def build(self, *arguments: object, **knobs: str) -> Result:
        return self.command("build", *arguments, **knobs)


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """Folders that tests make are writable by one user, as a folder of engines must be."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def machine(driver: Path, tmp_path: Path, shared_data: Path) -> Machine:
    return Machine(driver, tmp_path / "modules", shared_data / "tensorrt_api")


@pytest.fixture
def bundle(jetson_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(jetson_bundle.root, tmp_path / "bundle"))


def engines(bundle: Path) -> Path:
    """Where the user of the machine has the engines of a bundle."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    return bundle.parent / "data" / "edgepain" / "engines" / str(manifest["sha256"])


def sidecar(bundle: Path) -> dict[str, Any]:
    (path,) = engines(bundle).glob("*.json")
    facts: dict[str, Any] = json.loads(path.read_text())
    return facts


def refusal(result: Result, code: int = 1) -> str:
    """The one line that a command ended with."""
    assert result.returncode == code, result.stderr + result.stdout
    (line,) = result.stderr.strip().splitlines()
    return line.removeprefix("error: ")


def left(bundle: Path) -> list[str]:
    """What lies in the folder of engines, but for the lock."""
    return sorted(p.name for p in engines(bundle).rglob("*") if p.name != ".lock")


OPEN = """
import ctypes, sys
import numpy as np
from pathlib import Path
from edgepain.bundle import open_bundle
from edgepain.engine import choose_engine, softmax
bundle = open_bundle(sys.argv[1])
engine, remark = choose_engine(bundle, sys.argv[2])
golden = bundle.golden()
difference = np.abs(softmax(engine.predict(golden.windows)) - softmax(golden.logits["torch"])).max()
assert engine.predict(golden.windows[:0]).shape == (0, 2)
print(engine.description, "|", remark, "|", difference < 0.05, "|", "torch" in sys.modules, "|", type(engine).__name__)
if hasattr(engine, "close"):
    engine.close()
    engine.close()
    live = ctypes.CDLL("libcuda.so.1").stub_live()
    assert live == 1, f"{live} things of the driver are held, and not the context alone"
"""


def test_no_driver_is_told_before_tensorrt_is_touched(bundle: Path, tmp_path: Path) -> None:
    if shutil.which("nvidia-smi") or Path("/dev/nvhost-gpu").exists():
        pytest.skip("this machine has a GPU")
    command = [sys.executable, "-m", "edgepain", "build", str(bundle)]
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert refusal(result).startswith("no NVIDIA driver here (libcuda.so.1 is not found)")
    assert not engines(bundle).exists()


def test_a_driver_without_a_gpu(machine: Machine, bundle: Path) -> None:
    line = refusal(machine.build(bundle, STUB_CUINIT="100"))
    assert line.startswith("the NVIDIA driver finds no GPU that it can use (CUDA_ERROR_NO_DEVICE)")


def test_tensorrt_that_is_absent_or_no_good(machine: Machine, bundle: Path, tmp_path: Path) -> None:
    assert "TensorRT 7.1.3 is too old" in refusal(machine.build(bundle, STUB_VERSION="7.1.3"))
    assert "TensorRT 10.2.0 is not used" in refusal(machine.build(bundle, STUB_VERSION="10.2.0"))
    assert "BuilderFlag.FP16, BuilderFlag.INT8, which its version should have" in refusal(
        _pretending(machine, bundle, "11.4.0.106", "10.3.0")
    )
    (tmp_path / "modules" / "tensorrt" / "__init__.py").write_text("raise ImportError('libnvinfer.so.8: cannot open')")
    assert "tensorrt cannot be loaded (libnvinfer.so.8: cannot open)" in refusal(machine.build(bundle))
    shutil.rmtree(tmp_path / "modules")
    assert refusal(machine.build(bundle)).startswith("tensorrt is not there for this Python; on a Jetson")
    assert left(bundle) == []


def _pretending(machine: Machine, bundle: Path, names_of: str, version: str) -> Result:
    machine.use(names_of)
    result = machine.build(bundle, STUB_VERSION=version)
    machine.use("10.3.0")
    return result


@pytest.mark.parametrize("version", OPSETS)
def test_one_code_path_for_every_version(machine: Machine, bundle: Path, version: str) -> None:
    machine.use(version)
    result = machine.build(bundle, "--precision", "int8")
    assert result.returncode == 0, result.stderr
    facts = sidecar(bundle)
    plan = json.loads(next(engines(bundle).glob("*.plan")).read_text())
    strongly_typed = OPSETS[version] == 19
    assert facts["strongly_typed"] == strongly_typed
    assert plan["flags"] == ([] if strongly_typed else ["INT8", "FP16"])
    explicit = ["EXPLICIT_BATCH"] if int(version.split(".")[0]) < 11 else []
    assert plan["network"] == explicit + (["STRONGLY_TYPED"] if strongly_typed else [])
    assert plan["pools"] == {"WORKSPACE": 512 << 20}
    assert facts["onnx"] == f"tensorrt/opset{OPSETS[version]}.int8.onnx"
    measured = facts["measured"][0]
    assert measured["cuda_graph"]
    assert (measured["layers"], measured["int8_layers"]) == (2, 1)
    # The golden answers are those of opset 17: one rounding that falls otherwise moves an answer by a step of INT8.
    assert measured["golden_difference"] < (1e-4 if OPSETS[version] == 17 else 0.02)
    done = machine.python(OPEN, bundle, "auto")
    assert done.returncode == 0, done.stderr
    description, remark, right, torch, kind = done.stdout.strip().split(" | ")
    assert description == f"TensorRT {facts['tensorrt']}, int8, Orin (nvgpu), CUDA graph"
    assert (remark.strip(), right, torch, kind) == ("", "True", "False", "TensorRtEngine")


def test_both_are_built_and_the_better_is_kept(machine: Machine, bundle: Path) -> None:
    result = machine.build(bundle, STUB_TRT="slow-fp16")
    assert result.returncode == 0, result.stderr
    facts = sidecar(bundle)
    name = f"orin-nvgpu-sm87__trt10.3.0__int8__{facts['onnx_sha256'][:12]}"
    assert left(bundle) == sorted([f"{name}.json", f"{name}.plan", "orin-nvgpu-sm87__trt10.3.0.timing"])
    assert [m["precision"] for m in facts["measured"]] == ["fp16", "int8"]
    assert "times as fast as fp16" in facts["chosen"]
    assert facts["host_only"]
    assert "This machine is no Jetson" in result.stdout
    # The second precision starts with what the first measured; the next build with what both did.
    assert (engines(bundle) / "orin-nvgpu-sm87__trt10.3.0.timing").read_text() == "++"
    again = machine.build(bundle)
    assert "an engine for this device is there already" in again.stdout
    rebuilt = machine.build(bundle, "--rebuild", STUB_TRT="slow-int8")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert sidecar(bundle)["chosen"].startswith("fp16: int8 is not faster by 5%")
    assert (engines(bundle) / "orin-nvgpu-sm87__trt10.3.0.timing").read_text() == "++++"
    assert len(left(bundle)) == 3
    assert machine.command("inspect", bundle).returncode == 0


def test_a_timing_cache_that_nobody_vouches_for_is_not_used(machine: Machine, bundle: Path) -> None:
    assert machine.build(bundle, "--precision", "fp16").returncode == 0
    timing = next(engines(bundle).glob("*.timing"))
    timing.write_text("forged")
    assert machine.build(bundle, "--precision", "fp16", "--rebuild").returncode == 0
    assert timing.read_text() == "+"


def test_an_engine_that_answers_wrongly_is_refused(machine: Machine, bundle: Path) -> None:
    result = machine.build(bundle, STUB_TRT="wrong-int8")
    assert result.returncode == 0, result.stderr
    facts = sidecar(bundle)
    assert facts["precision"] == "fp16"
    assert "does not answer like" in facts["refused"][0]["reason"]
    assert "int8 was refused" in facts["chosen"]
    line = refusal(machine.build(bundle, "--rebuild", STUB_TRT="wrong"))
    assert line.startswith("fp16: TensorRT 10.3.0, fp16")
    assert "; int8: TensorRT" in line
    assert sidecar(bundle)["precision"] == "fp16", "the engine that was there is gone"


@pytest.mark.parametrize(
    ("knob", "reason"),
    [
        ("crash-int8", "TensorRT's process died of SIGSEGV"),
        ("no-int8", "cannot build opset17.int8.onnx (no implementation of what it is told to refuse)"),
    ],
)
def test_a_precision_that_cannot_be_built(machine: Machine, bundle: Path, knob: str, reason: str) -> None:
    result = machine.build(bundle, STUB_TRT=knob)
    assert result.returncode == 0, result.stderr
    assert reason in sidecar(bundle)["refused"][0]["reason"]
    assert len(left(bundle)) == 3


def test_a_graph_that_cannot_be_parsed(machine: Machine, bundle: Path) -> None:
    line = refusal(machine.build(bundle, "--precision", "fp16", STUB_TRT="no-parse"))
    assert "cannot parse opset17.fp32.onnx (node 3: it is told to refuse)" in line
    assert left(bundle) == []


def test_two_builds_at_once(machine: Machine, bundle: Path) -> None:
    folder = engines(bundle)
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "another build is at work" in refusal(machine.build(bundle), 2)


def test_a_full_disk_leaves_nothing(machine: Machine, bundle: Path) -> None:
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200)); "
        "from edgepain.cli.main import main; main()"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    line = refusal(machine.python(limited, "build", bundle, "--precision", "fp16"))
    assert "File too large" in line
    assert left(bundle) == []


def test_a_folder_that_cannot_be_written(machine: Machine, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = refusal(machine.build(bundle, "--out", tmp_path / "file" / "engines"))
    assert "engines cannot be written to" in line
    assert "would make it another bundle" in refusal(machine.build(bundle, "--out", bundle / "engines"), 2)
    assert not (bundle / "engines").exists()


def test_an_interrupted_build_leaves_nothing(machine: Machine, bundle: Path) -> None:
    command = [sys.executable, "-m", "edgepain", "build", str(bundle)]
    process = subprocess.Popen(command, env=machine.environment(STUB_TRT="hang"), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(name.endswith("/job") for name in map(str, engines(bundle).rglob("job"))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert errors.strip() == "interrupted"
    assert left(bundle) == []


def test_what_a_killed_build_left_goes_with_the_next(machine: Machine, bundle: Path) -> None:
    (engines(bundle) / ".building-old").mkdir(parents=True)
    (engines(bundle) / ".building-old" / "fp16.plan").write_text("half")
    assert machine.build(bundle, "--precision", "fp16").returncode == 0
    assert not (engines(bundle) / ".building-old").exists()


def _built(machine: Machine, bundle: Path) -> Path:
    assert machine.build(bundle, "--precision", "fp16").returncode == 0
    return next(engines(bundle).glob("*.plan"))


def _sealed_again(bundle: Path, **changes: object) -> None:
    """State its files as they are now, as whoever made it can."""
    facts = {**json.loads((bundle / "manifest.json").read_text()), **changes}
    write_manifest(bundle, msgspec.convert(facts, Manifest))


def test_engines_that_come_with_a_bundle_are_not_used(machine: Machine, bundle: Path, tmp_path: Path) -> None:
    zipped = tmp_path / "b.zip"
    pack(bundle, zipped)
    for brought in (tmp_path / "b.engines", bundle / "engines"):
        assert machine.build(zipped, "--precision", "fp16", "--out", brought).returncode == 0
    done = machine.python(OPEN, bundle, "auto")
    assert "engines is not listed in the manifest" in done.stderr.splitlines()[-1]
    (bundle / "engines" / ".lock").unlink()
    _sealed_again(bundle)
    for source in (zipped, bundle):
        done = machine.python(OPEN, source, "auto")
        assert done.stdout.startswith("ONNX Runtime"), done.stderr
        assert "no engine in" in machine.python(OPEN, source, "tensorrt").stderr.splitlines()[-1]


@pytest.mark.parametrize(("what", "mode"), [("", 0o775), ("", 0o757), ("*.plan", 0o664), ("*.json", 0o646)])
def test_engines_that_others_may_write_are_refused(machine: Machine, bundle: Path, what: str, mode: int) -> None:
    _built(machine, bundle)
    open_to_others = next(engines(bundle).glob(what)) if what else engines(bundle)
    open_to_others.chmod(mode)
    reason = f"others may write to {open_to_others}, so its engines are not used; run: chmod go-w {open_to_others}"
    assert reason in machine.python(OPEN, bundle, "tensorrt").stderr.splitlines()[-1]
    done = machine.python(OPEN, bundle, "auto")
    assert done.stdout.startswith("ONNX Runtime"), done.stderr
    assert reason in done.stdout
    if not what:
        assert refusal(machine.build(bundle), 4) == reason


def test_engines_of_another_user_are_refused(machine: Machine, bundle: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    _built(machine, bundle)
    os.chown(engines(bundle), 12345, 12345)
    assert "belongs to another user" in machine.python(OPEN, bundle, "tensorrt").stderr.splitlines()[-1]


def test_a_build_under_a_lax_umask_is_used_all_the_same(machine: Machine, bundle: Path) -> None:
    code = "import os; os.umask(0); from edgepain.cli.main import main; main()"
    assert machine.python(code, "build", bundle, "--precision", "fp16").returncode == 0
    done = machine.python(OPEN, bundle, "tensorrt")
    assert done.stdout.startswith("TensorRT"), done.stderr


def test_the_folder_of_engines_without_and_with_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_DATA_HOME", unset)
        assert engines_folder("ab") == tmp_path / ".local" / "share" / "edgepain" / "engines" / "ab"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert engines_folder("ab") == tmp_path / "data" / "edgepain" / "engines" / "ab"


def test_a_folder_of_several_bundles_keeps_those_of_the_others(machine: Machine, bundle: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    assert machine.build(bundle, "--precision", "fp16", "--out", both).returncode == 0
    first = {path.name: path.read_bytes() for path in both.iterdir() if path.suffix in (".plan", ".json")}
    _sealed_again(bundle, name="another")
    done = machine.build(bundle, "--out", both, STUB_TRT="slow-fp16")
    assert done.returncode == 0, done.stderr
    now = {path.name: path.read_bytes() for path in both.iterdir() if path.suffix in (".plan", ".json")}
    assert len(first) == 2
    assert len(now) == 4
    assert first.items() <= now.items()


def test_a_bundle_exchanged_after_it_was_checked_is_refused(machine: Machine, bundle: Path) -> None:
    code = """
import sys
from pathlib import Path
from edgepain.bundle import open_bundle
from edgepain.engine.tensorrt.build import build
checked = open_bundle(sys.argv[1])
Path(sys.argv[1]).rename(sys.argv[1] + ".checked")
Path(sys.argv[2]).rename(sys.argv[1])
build(checked)
"""
    other = Path(shutil.copytree(bundle, bundle.with_name("other")))
    _sealed_again(other, name="another")
    checked = engines(bundle)
    done = machine.python(code, bundle, other)
    assert f"BundleError: {bundle} was exchanged after it was checked" in done.stderr
    assert [path.name for path in checked.iterdir()] == [".lock"]


def test_a_recipe_without_graphs_is_refused(machine: Machine, bundle: Path) -> None:
    recipe = bundle / "tensorrt" / "recipe.json"
    recipe.write_text(json.dumps({**json.loads(recipe.read_text()), "variants": []}))
    _sealed_again(bundle)
    assert "it has no graphs for any TensorRT" in refusal(machine.build(bundle), 4)


def test_an_engine_of_another_device_is_told_and_not_used(machine: Machine, bundle: Path) -> None:
    _built(machine, bundle)
    onnx = sidecar(bundle)["onnx_sha256"][:12]
    other = {"STUB_GPU": "NVIDIA Thor", "STUB_SM": "110"}
    done = machine.python(OPEN, bundle, "tensorrt", **other)
    assert (
        f"was built for Orin (nvgpu) / TensorRT 10.3.0 / sm_87 / ONNX {onnx}; this device has NVIDIA Thor / "
        f"TensorRT 10.3.0 / sm_110 / ONNX {onnx}; run: edgepain build {bundle}" in done.stderr
    )
    done = machine.python(OPEN, bundle, "auto", **other)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ONNX Runtime")
    assert "built for Orin (nvgpu)" in done.stdout, "nobody is told that the GPU is not used"
    machine.use("11.4.0.106")
    done = machine.python(OPEN, bundle, "auto")
    assert "this device has Orin (nvgpu) / TensorRT 11.4.0.106" in done.stdout


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing", "forged"])
def test_a_damaged_plan_is_not_loaded(machine: Machine, bundle: Path, damage: str) -> None:
    plan = _built(machine, bundle)
    data = plan.read_bytes()
    if damage == "missing":
        plan.unlink()
    else:
        plan.write_bytes({"flipped": b"?" + data[1:], "cut": data[:-1], "forged": b"no plan"}[damage])
    if damage == "forged":  # With a sidecar to match: it is no signature, and TensorRT has the last word.
        path = plan.with_suffix(".json")
        facts = json.loads(path.read_text())
        facts |= {"plan_sha256": hashlib.sha256(b"no plan").hexdigest(), "plan_bytes": 7}
        path.write_text(json.dumps(facts))
    done = machine.python(OPEN, bundle, "tensorrt")
    expected = {
        "missing": "cannot be read (No such file",
        "forged": "TensorRT 10.3.0 refuses the engine (magic tag does not match)",
    }
    assert expected.get(damage, "is damaged (SHA-256 differs)") in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("text", ["", "{}", "[1", '{"schema": 2}', "\x00", "[" * 100_000])
def test_any_sidecar_gives_a_line(machine: Machine, bundle: Path, text: str) -> None:
    engines(bundle).mkdir(parents=True)
    (engines(bundle) / "x.json").write_text(text)
    done = machine.python(OPEN, bundle, "tensorrt")
    assert "is no sidecar of an engine" in done.stderr.splitlines()[-1]


def test_without_a_capture_it_runs_and_says_so(machine: Machine, bundle: Path) -> None:
    done = machine.build(bundle, "--precision", "fp16", STUB_NO_CAPTURE="1")
    assert done.returncode == 0, done.stderr
    measured = sidecar(bundle)["measured"][0]
    assert not measured["cuda_graph"]
    assert "cuStreamEndCapture (CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)" in measured["graph_reason"]
    done = machine.python(OPEN, bundle, "tensorrt", STUB_NO_CAPTURE="1")
    assert done.returncode == 0, done.stderr
    assert "no CUDA graph (the CUDA driver failed in cuStreamEndCapture" in done.stdout


def test_an_engine_that_answers_wrongly_later_is_stopped(machine: Machine, bundle: Path) -> None:
    _built(machine, bundle)
    done = machine.python(OPEN, bundle, "tensorrt", STUB_TRT="wrong")
    assert "VerificationError" in done.stderr.splitlines()[-1]


def test_run_takes_the_engine_and_says_which(
    machine: Machine, bundle: Path, tmp_path: Path, simulate: Callable[..., Any]
) -> None:
    engines = tmp_path / "elsewhere"
    assert machine.build(bundle, "--precision", "fp16", "--out", engines).returncode == 0
    with simulate("--duration", 20) as simulation:
        options = ("--engines", engines, "--json", "--calibration", "2", "--duration", "1")
        done = machine.command("run", "--port", simulation.port, "--model", bundle, *options)
    assert done.returncode == 0, done.stderr
    header = json.loads(done.stdout.splitlines()[0])
    assert header["engine"] == "TensorRT 10.3.0, fp16, Orin (nvgpu), CUDA graph"


def test_a_bundle_without_engines_starts_nothing_of_tensorrt(machine: Machine, bundle: Path) -> None:
    code = OPEN + "\nassert 'tensorrt' not in sys.modules and 'edgepain.engine.tensorrt.driver' not in sys.modules"
    engines(bundle).mkdir(parents=True)
    code = code.replace("if hasattr", "if False and hasattr")
    done = machine.python(code, bundle, "onnx")
    assert done.returncode == 0, done.stderr
    done = machine.python(OPEN, bundle, "auto")
    assert done.stdout.startswith("ONNX Runtime"), done.stderr


def test_a_bundle_that_must_be_signed_takes_no_engine_unasked(jetson_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    engine, remark = choose_engine(replace(jetson_bundle, trusted=True), "auto", folder=tmp_path)
    assert isinstance(engine, OnnxEngine)
    assert "its engines are not covered by the signature" in remark
    with pytest.raises(EdgepainError, match="is no sidecar of an engine"):
        choose_engine(replace(jetson_bundle, trusted=True), "tensorrt", folder=tmp_path)


def test_fp32_is_no_precision_of_an_engine(jetson_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave --precision fp32 out"):
        choose_engine(jetson_bundle, "tensorrt", "fp32")
    (tmp_path / "x.json").write_text("{}")
    engine, remark = choose_engine(jetson_bundle, "auto", "fp32", tmp_path)
    assert (engine.precision, remark) == ("fp32", "")
