"""What lands in a user's environment: the wheel, its packages, and the base install on its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("train", "export", "firmware_bridge", "benchmarks")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built from a source distribution as a release is."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return next(out.glob("*.whl"))


def test_every_package_is_listed() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = set()
    for folder in ("edgepain", *ROOMS):
        for path in (ROOT / folder).rglob("__init__.py"):
            parts = path.parent.relative_to(ROOT).parts
            if "edgepain" not in parts[1:] and not (parts[0] == "edgepain" and len(parts) > 1 and parts[1] in ROOMS):
                found.add(".".join(parts if parts[0] == "edgepain" else ("edgepain", *parts)))
    assert listed == found


def test_the_four_symlinks_lead_to_the_rooms() -> None:
    for room in ROOMS:
        assert os.readlink(ROOT / "edgepain" / room) == f"../{room}"


def test_wheel_holds_one_top_level_package_and_the_demonstration(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edgepain"}
    assert "edgepain/py.typed" in names
    assert "edgepain/train/configs/paper.toml" in names
    assert {"edgepain/train/report/page.html.jinja", "edgepain/train/report/page.css"} <= set(names)
    assert "edgepain/demo/bundle/manifest.json" in names
    firmware = {f"edgepain/firmware_bridge/firmware/{name}" for name in ("library.properties", "src/edgeframe.c")}
    firmware |= {"edgepain/firmware_bridge/firmware/examples/edgeframe_eda_ppg/edgeframe_eda_ppg.ino"}
    assert firmware <= set(names)
    assert "edgepain/demo/recording.csv.gz" in names
    assert sum(i.file_size for i in zipfile.ZipFile(wheel).infolist() if "/demo/bundle/" in i.filename) < 5_000_000


def test_base_install_runs_live_on_the_demonstration_bundle(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel]
    result = subprocess.run(install, capture_output=True, text=True, check=False)
    if "No matching distribution" in result.stderr or "NewConnectionError" in result.stderr:
        pytest.skip("the base dependencies cannot be downloaded here")
    assert result.returncode == 0, result.stderr[-2000:]

    installed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout.lower()
    assert not {"torch", "pandas", "matplotlib", "scipy", "onnx"} & set(installed.split())

    edgepain = str(environment / "bin" / "edgepain")
    link = tmp_path / "wearable"
    play = [edgepain, "simulate", "--link", str(link), "--speed", "20", "--duration", "100"]
    with subprocess.Popen(play, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as simulator:
        assert simulator.stdout is not None
        assert simulator.stdout.readline().startswith("port: ")
        command = [edgepain, "run", "--port", str(link), "--give-up", "60"]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as live:
            assert simulator.wait(120) == 0
            live.send_signal(signal.SIGINT)
            out, err = live.communicate(timeout=60)
    assert live.returncode == 0, err
    assert "demonstration bundle" in err
    assert "simulated people" in err
    assert re.search(r"s  (no )?pain  \(no pain", out), out[-2000:]
    assert "frames lost" not in out.replace("0 frames lost", "")
