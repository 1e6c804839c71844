"""`edgepain run` as a person or a service starts it: what it refuses, how it ends, what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepain.bundle import Bundle, write_manifest
from edgepain.firmware_bridge import ReplaySource, open_recording, read_recording
from edgepain.firmware_bridge.edgeframe import Frame, FrameType, encode
from edgepain.firmware_bridge.hello import Hello, StreamHello, encode_hello
from edgepain.signal import Samples

EDA, BVP = StreamHello("eda", "uS", 4.0), StreamHello("bvp", "a.u.", 64.0)


def hello(*streams: StreamHello, device: str = "band") -> bytes:
    return encode(Frame(FrameType.HELLO, 255, 0, 0, encode_hello(Hello(device, "1", 7, 0, streams))))


def refused(run, code: int) -> str:
    """The one line that a run which must fail ends with."""
    assert run.end() == code, run.errors
    (line,) = run.errors.splitlines()
    return line


def is_decision(line: dict[str, object]) -> bool:
    return line["type"] == "decision"


def test_a_port_that_does_not_exist(live):
    with live("/dev/nothing") as run:
        assert "/dev/nothing: no such port; " in refused(run, 6)
    assert run.lines == []


def test_a_port_that_another_program_has(live, terminal):
    hold = "import serial, sys; s = serial.Serial(sys.argv[1], exclusive=True); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold, terminal[1]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with live(terminal[1]) as run:
            expected = rf"error: {terminal[1]}: busy; \S+ \(pid {other.pid}\) has it open, close that first"
            assert re.fullmatch(expected, refused(run, 6))
        other.communicate()


def test_a_port_without_permission(exported: Bundle, terminal):
    os.chmod(terminal[1], 0)
    drop = "import os; os.setuid(65534)\n" if os.geteuid() == 0 else ""
    # Imported and opened as root, so that only the port is out of reach.
    code = (
        "import sys; from edgepain.bundle import open_bundle; from edgepain.cli import main, run; "
        "from edgepain.engine import open_engine; import edgepain.firmware_bridge, edgepain.runtime, rich.console\n"
        "bundle = open_bundle(sys.argv[4]); engine = open_engine(bundle)\n"
        f"{drop}"
        "import edgepain.bundle, edgepain.engine\n"
        "edgepain.bundle.open_bundle = lambda path, **_: bundle\n"
        "edgepain.engine.choose_engine = lambda *_: (engine, '')\n"
        "sys.argv[1:1] = ['run']; main.main()"
    )
    command = [sys.executable, "-c", code, "--port", terminal[1], "--model", str(exported.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 6, done.stderr
    (line,) = done.stderr.splitlines()
    assert "permission denied; join the group of the port: sudo usermod -aG dialout $USER" in line


def test_a_line_on_which_nothing_arrives(live, terminal):
    with live(terminal[1], "--give-up", 0.5) as run:
        line = refused(run, 6)
    assert line.startswith(f"error: nothing arrives (connected: {terminal[1]} at 115200 baud); check that the device")
    assert run.summary["ended"] == line.removeprefix("error: ")


def test_garbage_on_the_line(live, terminal):
    """In the default time: 10 s, in which a stall is told too."""
    master, port = terminal
    os.set_blocking(master, False)
    over = threading.Event()

    def chatter() -> None:
        while not over.wait(0.05):
            # The line is full while the reader starts, and after its end.
            with contextlib.suppress(BlockingIOError):
                os.write(master, os.urandom(200))

    with live(port) as run:
        writer = threading.Thread(target=chatter)
        writer.start()
        try:
            line = refused(run, 6)
        finally:
            over.set()
            writer.join()
    assert "bytes arrived, 0 sound frames among them, but no device introduced itself; check the baud rate" in line
    assert [link["state"] for link in run.of("link")] == ["connected", "stalled"]
    assert "wrong baud rate or not an edgeframe device?" in run.of("link")[1]["detail"]
    assert run.summary["malformed"] + run.summary["crc_errors"] > 10


@pytest.mark.parametrize(
    ("streams", "complaint"),
    [
        ([EDA], "needs bvp, but band gives eda; connect a sensor with bvp"),
        ([EDA, StreamHello("bvp", "mV", 64.0)], "needs bvp in a.u., but band gives it in mV"),
        ([EDA, StreamHello("bvp", "a.u.", 2000.0)], "accepts bvp at 4 to 1000 Hz, but band gives 2000 Hz"),
        ([StreamHello("temperature", "C", 1.0)], "needs eda, but band gives no signal it knows"),
        ([EDA, StreamHello("ecg", "mV", 250.0)], "needs bvp, but band gives eda, ecg; connect a sensor with bvp"),
        ([StreamHello("eda", "kOhm", 4.0), BVP], "needs eda in uS, but band gives it in kOhm; set the device's unit"),
        ([StreamHello("eda", "us", 4.0), BVP], "needs eda in uS, but band gives it in us"),
        ([StreamHello("eda", "uS", 3.9), BVP], "accepts eda at 4 to 1000 Hz, but band gives 3.9 Hz; change its rate"),
    ],
)
def test_a_sensor_that_the_bundle_is_not_for(live, terminal, streams, complaint):
    master, port = terminal
    with live(port) as run:
        assert os.read(master, 1000), "it asks who is there"
        os.write(master, hello(*streams))
        assert complaint in refused(run, 4)
    assert run.summary["ended"].startswith("bundle 'small'")


def test_a_device_that_is_another_after_a_restart(live, terminal):
    master, port = terminal
    with live(port) as run:
        assert os.read(master, 1000)
        os.write(master, hello(EDA, BVP))
        run.until(lambda line: line["type"] == "device")
        os.write(master, hello(StreamHello("eda", "kOhm", 4.0), BVP))
        assert "needs eda in uS, but band gives it in kOhm" in refused(run, 4)
    assert run.of("decision") == []


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_engine_that_answers_otherwise_than_at_export(live, terminal, bundle_copy: Bundle, precision: str):
    """Sound hashes, another answer: as on a processor that computes differently. Nothing is asked of the device."""
    path = bundle_copy.root / "golden.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays[f"logits_{precision}"][3, 0] += 1.0
    np.savez(path, **arrays)
    write_manifest(bundle_copy.root, bundle_copy.manifest)
    os.set_blocking(terminal[0], False)
    with live(terminal[1], "--precision", precision, model=bundle_copy.root) as run:
        line = refused(run, 5)
    assert "does not answer like" in line
    assert "probabilities of the golden windows are off by up to" in line
    assert run.lines == []
    with pytest.raises(BlockingIOError):
        os.read(terminal[0], 1)


def _truncate(bundle: Bundle) -> None:
    file = bundle.root / "model.int8.onnx"
    file.write_bytes(file.read_bytes()[:1000])


def _edit(bundle: Bundle) -> None:
    file = bundle.root / "model.int8.onnx"
    data = bytearray(file.read_bytes())
    data[5000] ^= 1
    file.write_bytes(data)


def _from_the_future(bundle: Bundle) -> None:
    file = bundle.root / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema": 99}))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_truncate, "has 1000 bytes, the manifest says"),
        (_edit, "was changed after export (SHA-256 differs); copy or export the bundle again"),
        (_from_the_future, "and has schema 99, this edgepain"),
        (lambda bundle: (bundle.root / "manifest.json").unlink(), "has no manifest.json, so it is not a bundle"),
    ],
)
def test_a_bundle_that_cannot_be_trusted(live, terminal, bundle_copy: Bundle, damage, complaint):
    damage(bundle_copy)
    with live(terminal[1], model=bundle_copy.root) as run:
        assert complaint in refused(run, 4)
    assert run.lines == []


def test_a_bundle_that_is_not_there(live, terminal, tmp_path: Path):
    with live(terminal[1], model=tmp_path / "nothing") as run:
        assert "nothing is not a bundle directory; make one with: edgepain export" in refused(run, 4)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--hop", "0"], "0.05<=x<=3600"),
        (["--hop", "nan"], "hop must be in (0, 3600] seconds"),
        (["--calibration", "-1"], "0<=x<=86400"),
        (["--give-up", "nan"], "must be a time above 0 s"),
        (["--duration", "0"], "x>0"),
        (["--precision", "fp16"], "'fp32', 'int8'"),
        (["--record", "{file}"], "exists already and is not overwritten; choose another name"),
    ],
)
def test_wrong_options(live, terminal, tmp_path: Path, options: list[str], complaint: str):
    file = tmp_path / "precious"
    file.write_text("kept")
    with live(terminal[1], *(option.format(file=file) for option in options)) as run:
        assert run.end() == 2
    assert complaint in run.errors
    assert run.lines == []
    assert file.read_text() == "kept"


def test_a_recording_in_a_folder_that_is_not_there(live, terminal, tmp_path: Path):
    with live(terminal[1], "--record", tmp_path / "no" / "file") as run:
        assert "cannot record here (No such file or directory)" in refused(run, 3)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_summary_and_a_complete_recording(
    live, simulate, e4_session: Path, tmp_path: Path, number: signal.Signals
):
    log = tmp_path / "wire.log"
    with simulate(e4_session, "--speed", 10) as device, live(device.port, "--record", log) as run:
        run.until(lambda line: is_decision(line) and line["label"])
        assert run.end(number) == 0
        assert run.errors == ""
    assert run.summary["ended"] == "interrupted"
    assert "s of data since the device's clock began, 60 needed" in run.summary["unknown"]["clock_skew_ppm"]
    session, link, who = run.lines[:3]
    assert [line["type"] for line in run.lines[:3]] == ["session", "link", "device"]
    assert (session["bundle"], session["hop_s"], session["calibration_s"]) == ("small", 1.0, 10.0)
    assert (session["port"], link["state"], who["name"]) == (device.port, "connected", "simulated wearable")
    times = [line["host_time"] for line in run.lines[1:-1]]
    assert times == sorted(times)
    recording = read_recording(log)
    assert recording.damaged_chunks == 0
    assert sum(len(chunk.data) for chunk in recording.chunks) == run.summary["bytes_read"]
    assert recording.metadata["port"] == device.port


def test_a_second_interrupt_does_not_cut_the_end_short(live, simulate, e4_session: Path):
    with simulate(e4_session, "--speed", 10) as device, live(device.port) as run:
        run.until(is_decision)
        run.process.send_signal(signal.SIGINT)
        run.process.send_signal(signal.SIGTERM)
        assert run.end(signal.SIGINT) == 0
    assert run.summary["ended"] == "interrupted"


def test_what_was_recorded_survives_a_kill(live, simulate, e4_session: Path, tmp_path: Path):
    log = tmp_path / "wire.log"
    with simulate(e4_session, "--speed", 10) as device, live(device.port, "--record", log) as run:
        last = run.until(lambda line: is_decision(line) and line["index"] == 8)
        assert run.end(signal.SIGKILL) == -signal.SIGKILL
    recording = read_recording(log)
    assert recording.lost_bytes == 0
    source, samples = ReplaySource(log), []
    while events := source.recv(0.0):
        samples += [event for event in events if isinstance(event, Samples)]
    assert max(part.times_s[-1] for part in samples) >= last["end_s"]


def played_again(log: Path, bundle: Bundle, *options: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Decisions of a replay, and its other lines."""
    command = [sys.executable, "-m", "edgepain", "run", "--replay", str(log), "--model", str(bundle.root), "--json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [line for line in lines if is_decision(line)], [line for line in lines if not is_decision(line)]


def test_a_replay_decides_as_the_session_did(live, simulate, exported: Bundle, e4_session: Path, tmp_path: Path):
    """Through noise, a pulled cable and a restart; windows that the session gave up in silence are left to it."""
    log, link = tmp_path / "wire.log", tmp_path / "wearable"
    faults = ("--unplug", "20:2", "--reboot", 38, "--bit-errors", 1e-5, "--drop-frames", 0.01, "--seed", 2)
    with simulate(e4_session, "--speed", 8, *faults, "--link", link), live(link, "--record", log) as run:
        run.until(lambda line: is_decision(line) and line["start_s"] > 44 and bool(line["label"]))
        run.end(signal.SIGINT)
    again, (session, *_, last) = played_again(log, exported)
    assert len(again) >= len(run.of("decision"))
    said = ("index", "start_s", "label", "probabilities", "abstain", "reason", "signals")
    waited = [(then, now) for then, now in zip(run.of("decision"), again, strict=False) if then["abstain"] != "no_data"]
    assert [[then[name] for name in said] for then, _ in waited] == [[now[name] for name in said] for _, now in waited]
    assert {"calibrating", "gaps", None} <= {then["abstain"] for then, _ in waited}
    assert sum(bool(then["label"]) for then, _ in waited) > 10
    assert {(now["latency_ms"], now["sensor_latency_ms"]) for now in again} == {(None, None)}
    assert all(now["inference_ms"] > 0 for now in again if now["label"])
    assert (session["port"], session["replay"]) == (None, str(log))
    assert last["ended"] == f"{log} was played"
    for count in ("bytes_read", "frames", "frames_lost", "crc_errors", "reconnects", "restarts"):
        assert last[count] >= run.summary[count]
    assert (last["reconnects"], last["restarts"]) == (1, 1)

    log.write_bytes(log.read_bytes()[:-5])
    slower, (*_, last) = played_again(log, exported, "--hop", "2")
    assert [d["probabilities"] for d in slower[:20]] == [d["probabilities"] for d in again[:40:2]]
    assert "in 1 place, are damaged and were left out" in last["ended"]


@pytest.mark.parametrize(
    ("options", "code", "complaint"),
    [
        ([], 2, "give either --port or --replay"),
        (["--port", "x", "--replay", "{log}"], 2, "give either --port or --replay"),
        (["--replay", "{log}", "--baud", "9600"], 2, "--baud is for a port; leave it out with --replay"),
        (["--replay", "{log}", "--record", "{log}2"], 2, "--record is for a port"),
        (["--replay", "{log}", "--give-up", "3"], 2, "--give-up is for a port"),
        (["--replay", "{log}2"], 3, "cannot be read (No such file or directory); check the name"),
        (["--replay", "{log}"], 3, "{log} was played: no sample that the bundle needs in it"),
        (["--replay", "{other}"], 3, "not a wire log of edgepain"),
    ],
)
def test_what_cannot_be_replayed(exported: Bundle, tmp_path: Path, options: list[str], code: int, complaint: str):
    log, other = tmp_path / "wire.log", tmp_path / "other"
    open_recording(log).close()
    other.write_text("time_s,eda_us")
    arguments = [option.format(log=log, other=other) for option in options]
    command = [sys.executable, "-m", "edgepain", "run", "--json", "--model", str(exported.root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code
    assert complaint.format(log=log) in done.stderr.splitlines()[-1]


def test_a_clock_that_is_played_fast_is_not_believed(live, simulate, e4_session: Path):
    with simulate(e4_session, "--speed", 40, "--loop") as device, live(device.port) as run:
        last = run.until(lambda line: is_decision(line) and line["start_s"] > 75)
        run.end(signal.SIGINT)
    assert last["latency_ms"] is not None
    assert {d["sensor_latency_ms"] for d in run.of("decision")} == {None}
    assert (run.summary["clock_skew_ppm"], run.summary["sensor_latency_ms"]) == (None, None)
    assert "times as fast: no true time, or no quartz" in run.summary["unknown"]["clock_skew_ppm"]


def test_a_pause_is_abstained_on_and_told(live, simulate, e4_session: Path):
    with simulate(e4_session, "--speed", 10, "--pause", "25:10") as device, live(device.port) as run:
        run.until(lambda line: is_decision(line) and line["end_s"] > 52)
        run.end(signal.SIGINT)
    decisions = run.of("decision")
    assert [d["index"] for d in decisions] == list(range(len(decisions)))
    inside = [d for d in decisions if d["start_s"] >= 24 and d["end_s"] <= 36]
    assert {d["abstain"] for d in inside} == {"gaps"}
    assert sum(d["frames_lost"] for d in decisions) == run.summary["frames_lost"] > 50
    assert run.summary["abstentions"]["gaps"] >= len(inside)
    assert decisions[-1]["label"]


def test_an_unplugged_sensor_is_waited_for_and_decisions_go_on(live, simulate, e4_session: Path, tmp_path: Path):
    """The cable is out for 5 s: longer than a window is waited for."""
    link = tmp_path / "wearable"
    with (
        simulate(e4_session, "--speed", 5, "--duration", 58, "--unplug", "20:25", "--link", link),
        live(link) as run,
    ):
        run.until(lambda line: is_decision(line) and line["start_s"] > 46 and bool(line["label"]))
        run.end(signal.SIGINT)
    assert [line["state"] for line in run.of("link")[:3]] == ["connected", "lost", "connected"]
    assert run.of("link")[1]["detail"] == f"{link} went away: unplugged, or switched off"
    assert (run.summary["reconnects"], run.summary["restarts"], len(run.of("device"))) == (1, 0, 1)
    decisions = run.of("decision")
    assert [d["index"] for d in decisions] == list(range(len(decisions)))
    away = [d for d in decisions if d["abstain"] == "no_data"]
    went = f"lost: {link} went away: unplugged, or switched off"
    assert re.fullmatch(rf"no sample for \d+ s \({re.escape(went)}\)", away[0]["reason"])


def test_a_restarted_sensor_introduces_itself_again_and_decisions_go_on(live, simulate, e4_session: Path):
    with simulate(e4_session, "--speed", 10, "--reboot", 25) as device, live(device.port) as run:
        run.until(lambda line: is_decision(line) and line["start_s"] > 35 and bool(line["label"]))
        run.end(signal.SIGINT)
    assert (run.summary["restarts"], len(run.of("device"))) == (1, 2)
    decisions = run.of("decision")
    assert [d["start_s"] for d in decisions] == list(range(len(decisions)))


def test_a_sensor_that_stops_ends_it_where_asked(live, simulate, e4_session: Path):
    with simulate(e4_session, "--speed", 20, "--duration", 20) as device, live(device.port, "--give-up", 3) as run:
        line = refused(run, 6)
    went = f"lost: {device.port} went away: unplugged, or switched off"
    expected = rf"error: no sample for \d+ s \({went}\); check the sensor's battery and cable, then start again"
    assert re.fullmatch(expected, line)
    assert run.summary["ended"] == line.removeprefix("error: ")


def test_an_electrode_that_falls_off(live, simulate, tmp_path: Path):
    rows = ["time_s,eda_us,bvp_au"]
    for i in range(64 * 40):
        eda = "" if i % 16 else "0" if 20 <= i / 64 < 30 else f"{2 + (i * 7 % 13) / 100}"
        rows.append(f"{i / 64},{eda},{(i * 37 % 101) / 10}")
    (tmp_path / "session.csv").write_text("\n".join(rows) + "\n")
    with simulate(tmp_path / "session.csv", "--speed", 20) as device, live(device.port) as run:
        run.until(lambda line: is_decision(line) and line["index"] == 33)
        run.end(signal.SIGINT)
    reasons = {d["start_s"]: d["reason"] for d in run.of("decision") if d["abstain"] == "no_contact"}
    assert {21.0, 22.0, 23.0, 24.0} <= set(reasons)
    assert set(reasons.values()) == {"eda: values say that the electrode does not touch skin"}
    assert run.of("decision")[33]["label"]


def test_the_reader_of_its_output_may_go_away(live, simulate, e4_session: Path):
    with simulate(e4_session, "--speed", 10) as device, live(device.port) as run:
        run.until(is_decision)
        run.process.stdout.close()
        run.process.stdout = None
        assert run.process.wait(timeout=120) == 1
        assert run.process.stderr.read() == ""


def test_a_full_disk_under_its_output_is_one_line(exported: Bundle, terminal):
    command = [sys.executable, "-m", "edgepain", "run", "--json", "--port", terminal[1], "--model", str(exported.root)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert done.returncode == 3
    expected = "error: decisions cannot be written (No space left on device); free space or write elsewhere"
    assert done.stderr.splitlines() == [expected]


def test_nothing_heavy_is_imported_in_a_whole_session(exported: Bundle, simulate, e4_session: Path):
    code = (
        "import sys; from edgepain.cli.main import main\n"
        "try: main()\n"
        "finally: print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    with simulate(e4_session, "--speed", 20) as device:
        command = [sys.executable, "-c", code, "run", "--port", device.port, "--model", str(exported.root), "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                assert any(json.loads(line).get("label") for line in process.stdout)
                process.send_signal(signal.SIGINT)
                _, errors = process.communicate(timeout=120)
            finally:
                process.kill()
    assert process.returncode == 0, errors
    loaded = set(errors.split())
    assert {"onnxruntime", "numpy", "serial"} <= loaded
    assert not loaded & {"torch", "pandas", "matplotlib", "scipy", "sklearn", "onnx", "neurokit2"}
    assert not loaded & {"pylsl", "paho", "brainflow", "ssl"}


def test_the_help_says_how_and_imports_next_to_nothing():
    command = [sys.executable, "-X", "importtime", "-m", "edgepain", "run", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    loaded = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "click" in loaded
    assert not loaded & {"torch", "pandas", "matplotlib", "scipy", "onnx", "onnxruntime", "numpy", "serial"}
    assert "edgepain run --port /dev/ttyUSB0 --model bundles/biovid --record monday.wire" in done.stdout
    assert "a sensor that stops is too, for ever" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--device", "toaster"], "'toaster' is no device that is known here; there are: edgeframe"),
        (["--device-option", "colour=red"], "it takes no options"),
        (["--device-option", "colour"], "expected NAME=VALUE"),
    ],
)
def test_a_device_that_is_not_known(live, terminal, arguments, complaint):
    with live(terminal[1], *arguments) as run:
        assert run.end() == 2, run.errors
        assert complaint in run.errors
