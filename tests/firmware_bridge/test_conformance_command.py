"""`edgepain conformance` on real pseudo-terminals."""

import json
import subprocess
import sys

import pytest

from edgepain.errors import PortError
from edgepain.firmware_bridge.conformance import RULES, Verdict, check_port, port_check
from edgepain.firmware_bridge.pty_link import PtyLink


def run(*arguments):
    command = [sys.executable, "-m", "edgepain", "conformance", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_simulated_wearable_conforms_on_a_port(simulate):
    with simulate("--duration", 30) as device:
        result = run(device.port, "--seconds", 5, "--json")
    report = json.loads(result.stdout)
    broken = {row["rule"]: row["seen"] for row in report["rules"] if row["verdict"] == "fail"}
    assert (result.returncode, report["conforms"], broken) == (0, True, {}), result.stderr
    assert [row["rule"] for row in report["rules"]] == list(RULES)


def test_a_broken_stream_is_told_in_words_with_exit_code_1(simulate):
    with simulate("--duration", 30, "--bit-errors", 1e-3) as device:
        result = run(device.port, "--seconds", 3)
    assert result.returncode == 1
    assert "FAIL      crc" in result.stdout
    assert "  do     start from FFFFFFFF" in result.stdout
    assert f"{device.port}: breaks " in result.stdout


def test_a_port_that_is_not_there_is_port_trouble(tmp_path):
    result = run(tmp_path / "none")
    assert (result.returncode, result.stdout) == (6, "")
    assert "no such port" in result.stderr


def test_a_port_that_goes_away_is_port_trouble(simulate, tmp_path):
    link = tmp_path / "wearable"
    with simulate("--link", link, "--unplug", "1:60"):
        result = run(link, "--seconds", 5)
    assert (result.returncode, result.stdout) == (6, "")
    assert "went away during the check" in result.stderr


def test_a_silent_port_is_port_trouble(monkeypatch):
    monkeypatch.setattr(port_check, "FIRST_FRAME_S", 0.3)
    link = PtyLink()
    link.plug()
    try:
        with pytest.raises(PortError, match=r"not a byte in 0\.3 s, asked or not"):
            check_port(link.port, 115_200, 3.0)
    finally:
        link.unplug()


def test_a_board_that_prints_text_is_told_so(monkeypatch, simulate):
    monkeypatch.setattr(port_check, "FIRST_FRAME_S", 2.0)
    with simulate("--device", "lines", "--duration", 30) as device:
        (framing,) = [each for each in check_port(device.port, 115_200, 3.0) if each.verdict is Verdict.FAIL]
    assert framing.rule.name == "framing"
    assert "there is text in it" in framing.seen
