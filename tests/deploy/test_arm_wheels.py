"""Every dependency of the base install has a wheel for 64-bit ARM, so that a device compiles nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]
WANTED = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["sign"]]
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64")


def resolve(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What pip would install, without installing it."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--report", "-"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=200)


@pytest.mark.parametrize("version", ["310", "312"])
def test_all_wheels_are_there(version: str, tmp_path: Path) -> None:
    if resolve("click").returncode != 0:
        pytest.skip("no package index can be reached here")
    abis = [f"--abi={abi}" for abi in (f"cp{version}", "abi3", "none")]
    platforms = [f"--platform={platform}" for platform in PLATFORMS]
    target = ("--only-binary=:all:", "--implementation=cp", f"--python-version={version}", f"--target={tmp_path}")
    done = resolve(*target, *abis, *platforms, *WANTED)
    assert done.returncode == 0, done.stderr[-2000:]
    wheels = {
        item["metadata"]["name"].lower(): item["download_info"]["url"] for item in json.loads(done.stdout)["install"]
    }
    for wanted in WANTED:
        name = wanted.split(">")[0].strip()
        assert wheels[name].endswith(("aarch64.whl", "none-any.whl")), wheels[name]
    assert wheels["onnxruntime"].endswith("aarch64.whl")
    assert list(tmp_path.iterdir()) == []
