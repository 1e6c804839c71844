"""`edgepain record` as a process, on simulated wearables: what it shows, keeps, and how it ends."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgepain.firmware_bridge import ReplaySource, read_recording
from edgepain.signal import LinkState, Marker, Samples

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
COMMAND = [sys.executable, "-m", "edgepain", "record"]


class Recording:
    """A process of `edgepain record --json`, what it says, and what is said to it."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "--json", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        self.lines: list[dict[str, Any]] = []
        self.errors = ""

    def until(self, enough: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))
            if enough(self.lines[-1]):
                return self.lines[-1]
        raise AssertionError(f"it ended before: {self.process.communicate()[1]}")

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self, number: signal.Signals | None = None) -> int:
        if number is not None:
            self.process.send_signal(number)
        text, self.errors = self.process.communicate(timeout=120)
        self.lines += [json.loads(line) for line in text.splitlines()]
        assert "Traceback" not in self.errors
        return self.process.returncode

    @property
    def summary(self) -> dict[str, Any]:
        assert self.lines[-1]["type"] == "summary"
        return self.lines[-1]


@pytest.fixture
def record() -> Callable[..., AbstractContextManager[Recording]]:
    @contextmanager
    def started(port: object, out: Path, *arguments: object) -> Iterator[Recording]:
        recording = Recording("--port", port, *arguments, out)
        with recording.process:
            try:
                yield recording
            finally:
                recording.process.kill()

    return started


def played(log: Path) -> list[Any]:
    """Everything that the log gives again."""
    source, events = ReplaySource(log), []
    while found := source.recv(0.0):
        events += found
    return events


def has_bvp(count: int) -> Callable[[dict[str, Any]], bool]:
    return lambda line: line["type"] == "signals" and line["signals"].get("bvp", {}).get("samples", 0) >= count


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_markers_and_losses_are_told_and_kept(record, simulate, e4_session, tmp_path, number):
    log = tmp_path / "monday.wire"
    if number == signal.SIGHUP:
        # Under `nohup` it would be ignored, by whatever is started here too.
        signal.signal(number, signal.SIG_DFL)
    with (
        simulate(e4_session, "--speed", 10, "--drop-frames", 0.05, "--seed", 3) as device,
        record(device.port, log) as recording,
    ):
        recording.until(has_bvp(200))
        recording.say("heat on")
        recording.say("NRS 7")
        told = recording.until(lambda line: line["type"] == "marker" and line["label"] == "NRS")
        recording.until(has_bvp(1500))
        assert recording.end(number) == 0
    assert (told["value"], told["source"]) == (7.0, "stdin")
    newest = [line for line in recording.lines if line["type"] == "signals"][-1]["signals"]
    assert newest["bvp"]["quality"] in ("ok", "gaps")
    assert (newest["eda"]["unit"], newest["eda"]["nominal_hz"]) == ("uS", 4.0)
    summary = recording.summary
    assert summary["ended"] == "interrupted"
    assert summary["markers"] == {"heat on": 1, "NRS": 1}
    assert summary["wire"]["frames_lost"] > 0
    assert (summary["clock_skew_ppm"], summary["clock_uncertainty_ms"]) == (None, None)
    assert "60 needed" in summary["clock_unknown"]
    events = played(log)
    assert [event.label for event in events if isinstance(event, Marker)] == ["heat on", "NRS"]
    bvp = sum(part.values.size for part in events if isinstance(part, Samples) and part.modality == "bvp")
    assert bvp == summary["samples"]["bvp"]
    assert read_recording(log).lost_bytes == 0


def test_what_is_killed_keeps_what_was_told(record, simulate, e4_session, tmp_path):
    log = tmp_path / "killed.wire"
    with simulate(e4_session, "--speed", 10) as device, record(device.port, log) as recording:
        recording.until(has_bvp(1))
        recording.say("before")
        recording.until(lambda line: line["type"] == "marker")
        told = recording.until(has_bvp(600))
        assert recording.end(signal.SIGKILL) == -signal.SIGKILL
    events = played(log)
    bvp = sum(part.values.size for part in events if isinstance(part, Samples) and part.modality == "bvp")
    assert bvp >= told["signals"]["bvp"]["samples"]
    assert [event.label for event in events if isinstance(event, Marker)] == ["before"]
    assert events[-1].state is LinkState.ENDED
    assert "damaged" not in events[-1].detail


def test_on_a_terminal_keys_mark_and_a_panel_shows(simulate, e4_session, tmp_path):
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    log = tmp_path / "keys.wire"
    with simulate(e4_session, "--speed", 10) as device:
        command = [*COMMAND, "--port", device.port, "--marker", "h=heat on", str(log)]
        process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=ENVIRONMENT)
        shown = b""

        def until(text: str) -> None:
            nonlocal shown
            while text.encode() not in shown:
                assert select.select([master], [], [], 60)[0], shown
                shown += os.read(master, 65536)

        try:
            until("h: heat on")
            os.write(master, b"h")
            until("marked: heat on")
            os.write(master, b"6x")
            until("NRS 10")
            until("bvp")
            process.send_signal(signal.SIGINT)
            until("0 reconnects, 0 restarts of the device")
            while process.poll() is None:
                if select.select([master], [], [], 0.1)[0]:
                    os.read(master, 65536)
            assert process.returncode == 0
        finally:
            process.kill()
            process.wait()
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)
    marked = [(event.label, event.value, event.source) for event in played(log) if isinstance(event, Marker)]
    assert marked == [("heat on", None, "key"), ("NRS", 6.0, "key"), ("NRS", 10.0, "key")]


@pytest.mark.parametrize(("how", "codes", "speed"), [("SIGTERM", {0}, 3), ("full disk", {3}, 3), ("port gone", {6}, 8)])
def test_the_terminal_gets_its_mode_back_however_it_ends(simulate, e4_session, tmp_path, how, codes, speed):
    master, slave = os.openpty()
    before, log = termios.tcgetattr(slave), tmp_path / "x.wire"
    limit = 6000 if how == "full disk" else -1
    limited = (
        f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); import runpy, sys; {RUN}"
    )
    with simulate(e4_session, "--speed", speed, "--duration", 59) as device:
        command = [sys.executable, "-c", limited, "record", "--port", device.port, "--give-up", "5"]
        process = subprocess.Popen(
            [*command, str(log)], stdin=slave, stdout=slave, stderr=subprocess.DEVNULL, env=ENVIRONMENT
        )
        try:
            changed = False
            while process.poll() is None:
                changed = changed or termios.tcgetattr(slave) != before
                # Without a sample it would end by the port.
                if how == "SIGTERM" and log.exists() and log.stat().st_size > 3000:
                    process.send_signal(signal.SIGTERM)
                if select.select([master], [], [], 0.05)[0]:
                    os.read(master, 65536)
        finally:
            process.kill()
    assert changed
    assert process.returncode in codes
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_elsewhere_than_on_a_terminal_lines_tell_what_happens(simulate, e4_session, tmp_path):
    with simulate(e4_session, "--speed", 20, "--duration", 10) as device:
        command = [*COMMAND, "--port", device.port, "--give-up", "1", str(tmp_path / "plain.wire")]
        done = subprocess.run(
            command, input="heat on\n", capture_output=True, text=True, timeout=60, env=ENVIRONMENT, check=False
        )
    assert done.returncode == 6
    told = done.stdout.splitlines()
    assert any(line.startswith("device: simulated wearable") for line in told)
    assert "marked: heat on" in told
    assert any("640 samples" in line for line in told)
    assert any("1 heat on" in line for line in told)
    assert "\x1b" not in done.stdout


def test_a_port_without_a_device_ends_with_its_reason_and_the_log(record, terminal, tmp_path):
    log = tmp_path / "nothing.wire"
    with record(terminal[1], log, "--duration", 1) as recording:
        recording.until(lambda line: line["type"] == "link")
        os.write(terminal[0], b"BPM=71, IBI=843\r\n")
        assert recording.end() == 6
    assert "17 bytes were recorded, 0 sound frames among them, but no sample" in recording.errors
    assert recording.summary["ended"] == "the time was up"
    assert b"".join(chunk.data for chunk in read_recording(log).chunks) == b"BPM=71, IBI=843\r\n"


def test_a_sensor_that_stops_ends_it_where_asked(record, simulate, e4_session, tmp_path):
    log = tmp_path / "short.wire"
    with (
        simulate(e4_session, "--speed", 20, "--duration", 20) as device,
        record(device.port, log, "--give-up", 2) as recording,
    ):
        assert recording.end() == 6
    assert recording.summary["samples"]["bvp"] == 20 * 64
    assert "no sample for 2 s" in recording.errors


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--marker", "begin"], "expected KEY=LABEL"),
        (["--marker", "5=five"], "self-reported pain"),
        (["--device", "toaster"], "no device that is known here"),
        ([], "exists already and is not overwritten"),
    ],
)
def test_wrong_options_are_one_line(record, terminal, tmp_path, arguments, complaint):
    log = tmp_path / "precious.wire"
    log.write_bytes(b"precious")
    with record(terminal[1], log, *arguments) as recording:
        assert recording.end() == 2
    assert complaint in recording.errors
    assert log.read_bytes() == b"precious"


def test_a_live_session_has_markers_where_asked(exported, simulate, e4_session, tmp_path):
    log = tmp_path / "live.wire"
    command = [sys.executable, "-m", "edgepain", "run", "--json", "--model", str(exported.root), "--record", str(log)]
    with (
        simulate(e4_session, "--speed", 10, "--no-wait", "--loop") as device,
        subprocess.Popen(
            [*command, "--port", device.port, "--device", "auto", "--marker", "h=heat on"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        ) as process,
    ):
        try:
            process.stdin.write("begin\n")
            process.stdin.flush()
            lines: list[dict[str, Any]] = []
            for text in process.stdout:
                lines.append(json.loads(text))
                if lines[-1]["type"] == "device":
                    process.stdin.write("NRS 4\n")
                    process.stdin.flush()
                if lines[-1]["type"] == "marker" and lines[-1]["label"] == "NRS":
                    break
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert (lines[-1]["label"], lines[-1]["value"], lines[-1]["source"]) == ("NRS", 4.0, "stdin")
    assert process.returncode == 0
    markers = [event for event in played(log) if isinstance(event, Marker)]
    assert [(event.label, event.value) for event in markers] == [("begin", None), ("NRS", 4.0)]
    assert markers[0].at_s < read_recording(log).chunks[0].arrival_s, "before the device was found"


def test_a_full_disk_ends_it_in_one_line_and_keeps_what_fitted(simulate, e4_session, tmp_path):
    log = tmp_path / "full.wire"
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000)); import runpy, sys; {RUN}"
    with simulate(e4_session, "--speed", 20) as device:
        command = [sys.executable, "-c", limited, "record", "--port", device.port, "--json", str(log)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, env=ENVIRONMENT, check=False
        )
    assert done.returncode == 3
    assert done.stderr == f"error: {log}: cannot record (File too large); free space or record elsewhere\n"
    assert json.loads(done.stdout.splitlines()[-1])["samples"]["bvp"] > 0
    assert sum(isinstance(event, Samples) for event in played(log)) > 5


RUN = "sys.argv[0] = 'edgepain'; runpy.run_module('edgepain', run_name='__main__')"


def test_a_device_that_is_found_out_is_recorded_by_its_name(record, simulate, e4_session, tmp_path):
    log = tmp_path / "auto.wire"
    with simulate(e4_session, "--speed", 4) as device, record(device.port, log, "--device", "auto") as recording:
        recording.say("heat on")
        recording.until(has_bvp(100))
        assert recording.end(signal.SIGINT) == 0
    kept = read_recording(log)
    assert kept.metadata["device"] == "edgeframe"
    # What was marked while the device was looked for has its own time.
    assert next(event.at_s for event in played(log) if isinstance(event, Marker)) < kept.chunks[0].arrival_s
    assert sum(isinstance(event, Samples) for event in played(log)) > 2


@pytest.mark.parametrize(
    ("command", "display", "trouble"),
    [
        (["record"], ["--json"], "stalls"),
        (["record"], [], "ends"),
        (["record"], [], "full"),
        (["run", "--record"], ["--json"], "stalls"),
        (["run", "--record"], ["--json"], "full"),
    ],
)
def test_whoever_takes_the_output_does_not_hold_up_the_recording(
    simulate, e4_session, tmp_path, command, display, trouble
):
    """A pipe that nobody reads, one that was closed, and a full disk: every sample is kept."""
    log = tmp_path / "log.wire"
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    if trouble == "full":
        os.close(writer)
        writer = os.open("/dev/full", os.O_WRONLY)
    if trouble == "ends":
        os.close(reader)
    with simulate(e4_session, "--speed", 10, "--duration", 30, "--drop-when-full") as device:
        process = subprocess.run(
            [sys.executable, "-m", "edgepain", *command, log, "--port", device.port, "--give-up", "2", *display],
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            timeout=60,
        )
    assert "Traceback" not in process.stderr
    assert process.returncode == 6, process.stderr
    bvp = [part for part in played(log) if isinstance(part, Samples) and part.modality == "bvp"]
    assert sum(part.values.size for part in bvp) == 30 * 64
