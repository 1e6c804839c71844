"""How long from a sample to the decision that needed it: a live session of its own processes, on a pseudo-terminal."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec

from edgepain.benchmarks.latency import NotMeasured
from edgepain.benchmarks.report import LiveLatency
from edgepain.bundle import Bundle
from edgepain.runtime import Summary

HOP_S = 0.25
CALIBRATION_S = 5.0
# Beyond calibration and measuring: to start, to fill the first window and to end.
PATIENCE_S = 60.0


def decide_live(bundle: Bundle, seconds: float) -> LiveLatency | NotMeasured:
    """Run `bundle` on the packaged simulated wearable at its true rate for `seconds`; or why that cannot be done."""
    play_s = seconds + CALIBRATION_S + bundle.manifest.window.seconds
    with _process("simulate", "--loop") as device:
        assert device.stdout
        port = device.stdout.readline().strip().removeprefix("port: ")
        options = ("--hop", HOP_S, "--calibration", CALIBRATION_S, "--duration", play_s, "--json")
        with _process("run", "--port", port, "--model", bundle.root, *options) as live:
            try:
                lines, errors = live.communicate(timeout=play_s + PATIENCE_S)
            except subprocess.TimeoutExpired:
                return NotMeasured("the live session did not end")
            finally:
                live.kill()
                device.kill()
    return _latency(lines) or NotMeasured(errors.strip().splitlines()[-1] if errors.strip() else "no decision came")


def _latency(lines: str) -> LiveLatency | None:
    last = lines.splitlines()[-1:]
    try:
        summary = msgspec.json.decode(last[0], type=Summary) if last else None
    except msgspec.DecodeError:
        return None
    if not summary or not summary.latency_ms or not summary.inference_ms:
        return None
    found = summary.latency_ms
    device = "simulated wearable on a pseudo-terminal, 115200 baud not enforced"
    return LiveLatency(summary.decisions, found.p50, found.p90, found.p99, summary.inference_ms.p50, device)


def _process(*arguments: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgepain", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
