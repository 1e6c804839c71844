"""The files of docs/deploy: systemd and udev take them, and edgepain takes what they say."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgepain.bundle import Bundle, make_keys, pack, read_private_key, sign_bundle

DEPLOY = Path(__file__).resolve().parents[2] / "docs" / "deploy"
UNIT = (DEPLOY / "edgepain.service").read_text()
RULES = (DEPLOY / "99-edgepain.rules").read_text()


def settings(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT, re.MULTILINE)


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd here")
    # The only thing that may be missing here is the program.
    unit = tmp_path / "edgepain.service"
    unit.write_text(UNIT.replace("/opt/edgepain/bin/edgepain", "/bin/true"))
    done = subprocess.run([analyze, "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_udev_takes_the_rules(tmp_path: Path) -> None:
    udevadm = shutil.which("udevadm")
    known = udevadm and subprocess.run([udevadm, "verify", "--help"], capture_output=True, check=False).returncode == 0
    if not udevadm or not known:
        pytest.skip("no udev here that checks rules (254 and newer do)")
    done = subprocess.run([udevadm, "verify", DEPLOY / "99-edgepain.rules"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_service_starts_as_the_unit_says(exported: Bundle, simulate, e4_session: Path, tmp_path: Path) -> None:
    """Its own command line, on files and a port of this machine, up to the end of its recording."""
    (command,) = settings("ExecStart")
    make_keys(tmp_path / "k")
    bundle = tmp_path / "bundle.zip"
    pack(exported.root, bundle)
    sign_bundle(bundle, read_private_key(tmp_path / "k"))
    with simulate(e4_session, "--speed", 20, "--duration", 20) as device:
        here = {
            "/opt/edgepain/bin/edgepain": f"{sys.executable} -m edgepain",
            "/dev/edgepain": device.port,
            "/etc/edgepain/bundle.zip": str(bundle),
            "/etc/edgepain/trusted.pub": str(tmp_path / "k.pub"),
        }
        for there, path in here.items():
            assert there in command
            command = command.replace(there, path)
        done = subprocess.run(
            [*shlex.split(command), "--give-up", "1"],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    assert done.returncode == 6, done.stderr
    assert '"label":"' in done.stdout


def test_unit_and_rules_and_page_name_the_same_things() -> None:
    (command,) = settings("ExecStart")
    page = (DEPLOY / "raspberry-pi.md").read_text()
    assert "/dev/edgepain" in command
    assert 'SYMLINK+="edgepain"' in RULES
    assert 'ENV{SYSTEMD_WANTS}+="edgepain.service"' in RULES
    for path in ("/etc/edgepain/bundle.zip", "/etc/edgepain/trusted.pub", "/opt/edgepain"):
        assert path in command
        assert path in page
    assert settings("StandardOutput") == ["append:/var/lib/edgepain/decisions.jsonl"]
    assert settings("StateDirectory") == ["edgepain"]
    assert "/var/lib/edgepain/decisions.jsonl" in page
    assert settings("Type") == ["notify"]
    # Exit codes for which trying again does not help, as edgepain.errors has them.
    assert settings("RestartPreventExitStatus") == ["2 4 5"]
