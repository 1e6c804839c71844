"""What a person sees of a session, on a terminal and in a file."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from edgepain.bundle import Bundle
from edgepain.runtime import Abstention, Decision, OutputTotals, Percentiles, SignalState, Summary, TerminalView
from edgepain.signal import DeviceInfo, LinkChange, LinkState, Modality, StreamInfo

HOSTILE = "[/b] [bold]x[/bold] \\["
BAND = DeviceInfo(HOSTILE, "1", 1, (StreamInfo(Modality.EDA, "uS", 4.0),))
SUMMARY = Summary(
    seconds=61.0,
    decisions=2,
    labels={HOSTILE: 2},
    abstentions={"calibrating": 1},
    latency_ms=Percentiles(1.0, 2.0, 3.0),
    sensor_latency_ms=Percentiles(40.0, 50.0, 60.0),
    inference_ms=None,
    clock_skew_ppm=None,
    clock_uncertainty_ms=4.25,
    unknown={"inference_ms": "no decision", "clock_skew_ppm": HOSTILE},
    samples_out_of_order=3,
    bytes_read=10,
    frames=9,
    frames_lost=8,
    crc_errors=7,
    malformed=6,
    repeated=5,
    reconnects=4,
    restarts=2,
    out_of_order=1,
    clipped=11,
    range_switches=12,
    lost_is_minimum=True,
    ended=HOSTILE,
    outputs={"mqtt": OutputTotals(21, 22, 23, HOSTILE)},
)


def decision(abstain: Abstention | None = None) -> Decision:
    return Decision(
        index=3,
        start_s=3.0,
        end_s=8.5,
        host_time="2026-01-01T00:00:00.000+00:00",
        label=None if abstain else HOSTILE,
        probabilities=None if abstain else {HOSTILE: 0.75, "pain": 0.25},
        abstain=abstain,
        reason=f"eda: {HOSTILE}" if abstain else "",
        signals={"eda": SignalState("ok", 1.0, 0.0, 60.0, ("overrun",)), "bvp": SignalState("gaps", 0.4, 3.3, 12.0)},
        latency_ms=None if abstain else 3.25,
        sensor_latency_ms=None if abstain else 41.5,
        inference_ms=None if abstain else 1.5,
        frames_lost=2,
    )


def shown(*decisions: Decision, terminal: bool, width: int = 120) -> str:
    """Everything that a session leaves on a console, without colours."""
    file = StringIO()
    with TerminalView(Console(file=file, force_terminal=terminal, width=width, height=40), HOSTILE) as view:
        view.link(LinkChange(LinkState.CONNECTED, 0.0, HOSTILE))
        view.device(BAND)
        for decided in decisions:
            view.decision(decided)
        view.summary(SUMMARY)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())


def test_lines_in_a_file_say_everything_once() -> None:
    link, device, judged, abstained, *summary = shown(
        decision(), decision(Abstention.GAPS), terminal=False
    ).splitlines()
    assert link == f"link connected: {HOSTILE}"
    assert device == f"device: {HOSTILE}, firmware 1: eda 4 Hz in uS"
    assert judged == (
        f"    3.0 …     8.5 s  {HOSTILE}  ({HOSTILE} 75.0 %  pain 25.0 %)  "
        "3.2 ms after its last sample, 1.5 ms of it in the network, 41.5 ms since it was taken  [2 frames lost]"
    )
    assert f"no decision  gaps: eda: {HOSTILE}" in abstained
    text = "\n".join(summary)
    for row in (
        f"ended by .* {re.escape(HOSTILE)} ",
        r"length .* 61\.0 s",
        rf"decisions .* 2 \(2 {re.escape(HOSTILE)}\)",
        r"abstentions .* 1 \(1 calibrating\)",
        "10 bytes, 9 frames, at least 8 lost",
        "7 CRC errors, 5 repeated, 1 out of order, 6 malformed",
        "11 frames clipped, 12 switches of range",
        "4 reconnects, 2 restarts of the device",
        rf"to mqtt .* 21 sent, 22 not sent, 23 dropped \({re.escape(HOSTILE)}\)",
        "3 samples out of order",
        r"p50 1\.0 ms, p90 2\.0 ms, p99 3\.0 ms",
        r"from when it was taken .* p50 40\.0 ms, p90 50\.0 ms, p99 60\.0 ms",
        r"network alone .* n/a \(no decision\)",
        rf"the device's clock .* n/a \({re.escape(HOSTILE)}\)",
        r"its times .* within 4\.2 ms",
    ):
        assert re.search(row, text), row


@pytest.mark.parametrize(
    ("abstain", "parts"),
    [
        (None, ["████████████░░░░  75.0 %", "3.2 ms after its last sample, 1.5 ms of it in the network"]),
        (Abstention.GAPS, [f"no decision: gaps (eda: {HOSTILE})", f"1 {HOSTILE}, 1 no decision (gaps); 4 frames lost"]),
    ],
)
def test_a_panel_shows_device_link_signals_and_decision(abstain: Abstention | None, parts: list[str]) -> None:
    decisions = [decision()] if abstain is None else [decision(), decision(abstain)]
    text = shown(*decisions, terminal=True)
    for part in (
        "Ctrl-C ends the session",
        f"{HOSTILE}, firmware 1: eda 4 Hz in uS",
        "100 % valid  60 s of history  overrun",
        "ended by",
        *parts,
    ):
        assert part in text, part


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(len(line) for line in re.split(r"[\r\n]", shown(decision(), terminal=True, width=width))) <= width


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_on_a_real_terminal(exported: Bundle, simulate, e4_session: Path, number: signal.Signals) -> None:
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30", "OMP_NUM_THREADS": "1"}
    with simulate(e4_session, "--speed", 20) as device:
        command = [sys.executable, "-m", "edgepain", "run", "--port", device.port, "--model", str(exported.root)]
        with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment) as process:
            os.close(slave)
            text = b""
            while b" no pain" not in text:
                text += os.read(master, 4096)
            process.send_signal(number)
            try:
                while data := os.read(master, 4096):
                    text += data
            except OSError:
                pass  # The far side of the terminal is closed.
            assert process.wait(timeout=120) == 0
    os.close(master)
    screen = text.decode()
    assert "\x1b[?25l" in screen, "the cursor is hidden"
    assert screen.rindex("\x1b[?25h") > screen.rindex("\x1b[?25l"), "and comes back"
    assert "small · ONNX Runtime" in screen
    assert "of 10 s at rest" in screen
    assert re.search(r"ended by .* interrupted", screen)
    assert "Traceback" not in screen
