"""Clients that others wrote, against the simulated devices. They stay out of the project's own environment:

python -m venv clients
clients/bin/pip install pyshimmer brainflow numpy
clients/bin/pip install --no-deps bitalino
EDGEPAIN_INTEROP_PYTHON=clients/bin/python pytest tests/interop
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepain.firmware_bridge import read_csv
from edgepain.firmware_bridge.shimmer_units import ShimmerOptions, eda_us
from edgepain.signal import Modality

CLIENTS = Path(__file__).parent / "clients"
PYTHON = os.environ.get("EDGEPAIN_INTEROP_PYTHON", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="EDGEPAIN_INTEROP_PYTHON names no Python that has the clients")


def ask(module: str, script: str, *arguments: str) -> dict[str, Any]:
    """What a client printed as JSON; skipped where it is not installed."""
    if subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True, check=False).returncode:
        pytest.skip(f"{module} is not installed with {PYTHON}")
    run = subprocess.run(
        [PYTHON, CLIENTS / script, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert run.returncode == 0, run.stderr
    told: dict[str, Any] = json.loads(next(line for line in run.stdout.splitlines() if line.startswith("{")))
    return told


@pytest.fixture(scope="session")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of 5 µS, an ECG of 0.5 mV and a pulse wave that swings."""
    path = tmp_path_factory.mktemp("steady") / "steady.csv"
    times_s = np.arange(60 * 64) / 64
    lines = [f"{t:.6f},5.0,0.5,{np.sin(6 * t):.4f}" for t in times_s]
    path.write_text("time_s,eda_us,ecg_mv,bvp_au\n" + "\n".join(lines) + "\n")
    assert Modality.ECG in read_csv(path).signals
    return path


def test_pyshimmer_reads_a_gsr_unit(simulate, steady):
    with simulate(steady, "--device", "shimmer3") as device:
        told = ask("pyshimmer", "shimmer_client.py", device.port, "gsr")
    assert told["firmware"] == ["LogAndStream", "0", "16", "9"]
    assert (told["rate_hz"], set(told["channels"])) == (128.0, {"GSR_RAW", "INTERNAL_ADC_13"})
    assert len(told["times"]) > 200
    assert set(np.diff(told["times"]) % 2**24) == {256}
    gsr = np.array([gsr for gsr, _ in told["values"]], np.int32)
    assert eda_us(gsr, ShimmerOptions()) == pytest.approx(5.0, abs=0.05)
    assert np.ptp([ppg for _, ppg in told["values"]]) > 2000


def test_pyshimmer_reads_an_ecg_unit(simulate, steady):
    with simulate(steady, "--device", "shimmer3", "--device-option", "unit=exg") as device:
        told = ask("pyshimmer", "shimmer_client.py", device.port, "exg")
    assert told["gain"] == 12
    assert told["channels"] == ["EXG_ADS1292R_1_STATUS", "EXG_ADS1292R_1_CH1_24BIT", "EXG_ADS1292R_1_CH2_24BIT"]
    first, second = np.array(told["values"], dtype=float).T
    assert first * 2420 / 12 / (2**23 - 1) == pytest.approx(0.5, abs=1e-4)
    assert not second.any()


def test_brainflow_reads_a_gsr_unit(simulate, steady):
    """Of its EDA only that it is there and steady: it is known to be off (docs/devices.md)."""
    with simulate(steady, "--device", "shimmer3") as device:
        told = ask("brainflow", "brainflow_client.py", device.port)
    assert told["samples"] > 100
    eda = np.array(told["rows"]["eda_channels"])
    assert np.ptp(eda) < 0.05 * eda.mean()


def test_the_bitalino_package_reads_a_bitalino(simulate, steady):
    with simulate(steady, "--device", "bitalino") as device:
        told = ask("bitalino", "bitalino_client.py", device.port)
    assert told["version"] == "BITalino_v5.2"
    data = np.array(told["data"])
    assert set(np.diff(data[:, 0]) % 16) == {1}
    assert (data[:, 5] / 1024 - 0.5) * 3300 / 1100 == pytest.approx(0.5, abs=0.01)
    assert data[:, 6] / 1024 * 3.3 / 0.132 == pytest.approx(5.0, abs=0.05)
