"""`edgepain replay` as a process: the bytes on the port, and what is said of a log."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import serial

from edgepain.firmware_bridge import DeviceSource, ReplaySource, open_recording, read_recording
from edgepain.firmware_bridge.edgeframe import encode
from edgepain.firmware_bridge.wearable import STATUS, Wearable
from edgepain.signal import Marker, Modality, Recording, Signal

COMMAND = [sys.executable, "-m", "edgepain", "replay"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """20 s at 64 Hz and 4 Hz with two seconds of silence and three markers, and the line opened twice."""
    path = tmp_path / "monday.wire"
    random = np.random.default_rng(1)
    signals = {
        Modality.EDA: Signal(Modality.EDA, random.uniform(1, 2, 80).astype(np.float32), 4.0),
        Modality.BVP: Signal(Modality.BVP, random.normal(size=1280).astype(np.float32), 64.0),
    }
    wearable = Wearable(Recording("s", "r", signals))
    with open_recording(path, {"device": "edgeframe"}) as recorder:
        recorder.write(1000.0, b"")
        for due in wearable.schedule():
            frame = wearable.hello(due.at_s) if due.stream < 0 else wearable.data(due)
            if due.stream == STATUS or frame is None or 8.0 <= due.at_s < 10.0:
                continue
            if due.stream < 0 and due.at_s == 14.0:
                recorder.write(1014.0, b"")
            recorder.write(1000.01 + due.at_s, encode(frame))
            if due.stream < 0 and due.at_s in (4.0, 6.0):
                recorder.note(Marker(1000.0 + due.at_s, 1.7e9 + due.at_s, "NRS", due.at_s, "key"))
    return path


def wire(log: Path) -> bytes:
    return b"".join(chunk.data for chunk in read_recording(log).chunks)


@pytest.mark.parametrize("speed", ["max", "10"])
def test_the_bytes_on_the_port_are_those_of_the_log(log, speed):
    expected = wire(log)
    with subprocess.Popen(
        [*COMMAND, str(log), "--speed", speed], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            port = serial.Serial(process.stdout.readline().split()[1], timeout=30)
            port.write(b"who are you?")
            assert port.read(len(expected)) == expected
            port.close()
            assert process.wait(timeout=60) == 0
            assert process.stderr.read() == f"{len(expected)} bytes played\n"
        finally:
            process.kill()


def test_what_is_recorded_of_it_is_the_log_again(log, tmp_path, receive_all):
    copy = tmp_path / "copy.wire"
    with subprocess.Popen(
        [*COMMAND, str(log), "--speed", "20", "--link", str(tmp_path / "port")], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            process.stdout.readline()
            live = receive_all(DeviceSource(str(tmp_path / "port"), record_to=copy, reconnect_s=0.3))
        finally:
            process.kill()
    assert wire(copy) == wire(log)
    again = receive_all(ReplaySource(log))
    np.testing.assert_array_equal(live.values(Modality.BVP), again.values(Modality.BVP))


def test_without_waiting_any_reader_will_do(log, tmp_path):
    expected = wire(log)
    command = [*COMMAND, str(log), "--speed", "max", "--no-wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            fd = os.open(process.stdout.readline().split()[1], os.O_RDONLY | os.O_NOCTTY)
            found = b""
            while len(found) < len(expected):
                found += os.read(fd, 65536)
            assert found == expected
            os.close(fd)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()


def checked(log: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, str(log), "--check", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_check_says_what_is_there_and_which_seconds_are_not(log):
    found = json.loads(checked(log, "--json").stdout)
    assert (found["starts"], found["openings"], found["damage"]) == (1, 2, [])
    bvp = found["signals"]["bvp"]
    assert (bvp["unit"], bvp["rate_hz"], bvp["gaps"]) == ("a.u.", 64.0, 1)
    (gap,) = bvp["missing"]
    assert gap["end_s"] - gap["begin_s"] == pytest.approx(2.0, abs=0.2)
    assert 7.5 < gap["begin_s"] < 8.1
    assert bvp["samples"] + round(64 * bvp["gaps_s"]) == 1280
    assert [(m["label"], m["value"]) for m in found["markers"]] == [("NRS", 4.0), ("NRS", 6.0)]
    assert [m["at_s"] for m in found["markers"]] == pytest.approx([4.0, 6.0], abs=0.3)
    text = checked(log).stdout
    assert "marker at" in text
    assert "the file is whole" in text


def test_damage_of_the_file_is_placed_in_time(log):
    whole = bytearray(log.read_bytes())
    whole[whole.index(b"CHNK", len(whole) // 2) + 30] ^= 1
    log.write_bytes(whole[:-3])
    found = json.loads(checked(log, "--json").stdout)
    inside, last = found["damage"]
    assert 0 < inside["lost_bytes"] < 1000
    assert inside["after_s"] < inside["before_s"]
    assert last["before_s"] is None
    assert found["wire"]["frames_lost"] >= 1
    assert "damaged: " in checked(log).stdout


def test_a_sleep_of_the_computer_is_time_that_went_by(tmp_path):
    """Its monotonic clock stood still for ten minutes after 30 s; the device measured on."""
    path = tmp_path / "slept.wire"
    values = np.zeros(64 * 700, np.float32)
    wearable = Wearable(Recording("s", "r", {Modality.BVP: Signal(Modality.BVP, values, 64.0)}))
    with open_recording(path, {"device": "edgeframe"}) as recorder:
        slept = False
        for due in wearable.schedule():
            frame = wearable.hello(due.at_s) if due.stream < 0 else wearable.data(due)
            if due.stream == STATUS or frame is None or 30.0 <= due.at_s < 630.0:
                continue
            if not slept and due.at_s >= 630.0:
                slept = True
                recorder.note(Marker(1030.0, 1.7e9 + 630, "the computer slept", 600.0, "host"))
            recorder.write(1000.0 + due.at_s - (600.0 if slept else 0.0), encode(frame))
        recorder.note(Marker(1100.0, 1.7e9 + 700, "end", None, "key"))
    found = json.loads(checked(path, "--json").stdout)
    assert found["slept_s"] == 600.0
    assert found["seconds"] == pytest.approx(700, abs=0.5)
    assert found["time_basis"] == ["offset", "fitted"]
    (gap,) = found["signals"]["bvp"]["missing"]
    assert gap["end_s"] - gap["begin_s"] == pytest.approx(600, abs=2.1)
    assert [marker["at_s"] for marker in found["markers"]] == pytest.approx([700], abs=0.5)


def test_what_a_log_says_is_not_obeyed_by_the_terminal(log):
    path = log.with_name("hostile.wire")
    with open_recording(path) as recorder:
        recorder.note(Marker(1.0, 1.7e9, "\x1b[2Jheat", None, "key"))
    assert "?[2Jheat" in checked(path).stdout


def test_a_damaged_description_is_said(log):
    log.write_bytes(log.read_bytes().replace(b'"device": ', b'"devise": '))
    done = checked(log)
    assert done.returncode == 0
    assert "damaged: what the log says of itself" in done.stdout


@pytest.mark.parametrize(
    ("options", "code", "complaint"),
    [
        (["{log}", "--speed", "fast"], 2, "expected a number or max"),
        (["{log}", "--speed", "0"], 2, "speed must be a positive number"),
        (["{log}", "--json"], 2, "--json is for --check"),
        (["{other}"], 3, "not a wire log"),
        (["{empty}"], 3, "no byte of a device"),
        (["{streams}"], 3, "a log of device lsl, which is on no serial port"),
    ],
)
def test_what_cannot_be_played(log, tmp_path, options, code, complaint):
    (tmp_path / "other").write_text("time_s\n")
    open_recording(tmp_path / "empty").close()
    with open_recording(tmp_path / "streams", {"device": "lsl"}) as streams:
        streams.write(0.0, b"message")
    names = {"log": log, **{name: tmp_path / name for name in ("other", "empty", "streams")}}
    done = subprocess.run(
        [*COMMAND, *(option.format(**names) for option in options)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
