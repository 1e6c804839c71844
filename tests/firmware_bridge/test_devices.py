"""The list of devices: this package's, those of other packages, and what is no device."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgepain.errors import ConfigError, DataError
from edgepain.firmware_bridge import DeviceSource, ReplaySource, device_kind, device_names, open_recording

RING = """
from dataclasses import replace
from edgepain.firmware_bridge import device_kind
KIND = replace(device_kind("edgeframe"), name="ring", summary="a ring of another maker")
"""


def devices(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgepain", "devices", *arguments]
    environment = os.environ if path is None else {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)


@pytest.fixture
def other_package(tmp_path: Path) -> Path:
    """A folder with another installed package: a ring that works and a watch that does not."""
    (tmp_path / "ring_driver.py").write_text(RING)
    facts = tmp_path / "ring_driver-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: ring-driver\nVersion: 1.0\n")
    entries = ["[edgepain.devices]", "ring = ring_driver:KIND", "watch = ring_driver:WATCH", "odd = ring_driver:RING"]
    (facts / "entry_points.txt").write_text("\n".join(entries) + "\n")
    return tmp_path


@pytest.mark.parametrize("name", device_names())
def test_every_device_says_what_a_person_has_to_know(name):
    kind = device_kind(name)
    assert kind.name == name
    assert all((kind.summary, kind.signals, kind.rates, kind.wiring))
    assert kind.baud is None or kind.baud > 0
    driver = kind.driver({})
    assert not driver.introduced
    assert driver.stats(0).frames == 0
    shown = devices(name)
    assert shown.returncode == 0, shown.stderr
    assert kind.wiring in shown.stdout


def test_a_device_of_another_package_stands_in_the_list(other_package):
    shown = devices(path=other_package)
    assert shown.returncode == 0, shown.stderr
    assert "ring\n  a ring of another maker\n" in shown.stdout
    assert "watch\n  cannot be used: device watch: ring_driver:WATCH cannot be loaded" in shown.stdout
    broken = devices("watch", path=other_package)
    assert broken.returncode == 2
    assert "reinstall its package" in broken.stderr


def test_what_is_no_device_or_no_option_is_said():
    with pytest.raises(ConfigError, match="'toaster' is no device that is known here; there are: edgeframe"):
        DeviceSource("loop://", device="toaster")
    with pytest.raises(ConfigError, match=r"device edgeframe: .*`colour`; it takes no options"):
        DeviceSource("loop://", options={"colour": "red"})


@pytest.mark.parametrize("facts", [{"device": "toaster"}, {"device": 7}, {"options": ["a"]}, {"options": {"a": "b"}}])
def test_a_log_of_an_unknown_device_is_unusable_data(tmp_path, facts):
    open_recording(tmp_path / "x.wire", facts).close()
    with pytest.raises(DataError, match=r"x\.wire: "):
        ReplaySource(tmp_path / "x.wire")
