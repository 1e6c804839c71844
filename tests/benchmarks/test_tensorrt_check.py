"""`python -m edgepain.benchmarks.tensorrt_check` where there is no GPU. What it measures needs one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgepain.bundle import Bundle


def test_without_a_gpu_it_says_so(jetson_bundle: Bundle) -> None:
    if shutil.which("nvidia-smi") or Path("/dev/nvhost-gpu").exists():
        pytest.skip("this machine has a GPU")
    command = [sys.executable, "-m", "edgepain.benchmarks.tensorrt_check", str(jetson_bundle.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no NVIDIA driver here")
    assert done.stdout == ""
