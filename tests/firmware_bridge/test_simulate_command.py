"""`edgepain simulate` as a command: first line, errors, interruption."""

import os
import signal
import subprocess
import sys

import pytest

from edgepain.firmware_bridge import DeviceSource
from edgepain.firmware_bridge.edgeframe import FrameDecoder, FrameType
from edgepain.signal import Samples


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgepain", "simulate", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("options", "code", "complaint"),
    [
        (["--pause", "3"], 2, "expected AT:SECONDS"),
        (["--bit-errors", "2"], 2, "0<=x<=1"),
        (["--speed", "0"], 2, "speed must be a positive number"),
        (["--start", "100"], 2, "the recording is 60 s long"),
        (["--unplug", "70:1"], 2, "the recording ends at 60 s"),
        (["--link", "/no/such/folder/wearable"], 2, "cannot make the symlink"),
        (["--link", __file__], 2, "is not a symlink"),
    ],
)
def test_wrong_options_are_one_line(e4_session, options, code, complaint):
    done = run(e4_session, *options)
    assert done.returncode == code
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_no_session_is_unusable_data(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 3
    assert "EDA.csv" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_with_a_summary_and_without_its_link(e4_session, simulate, tmp_path, number):
    link = tmp_path / "wearable"
    with simulate(e4_session, "--loop", "--speed", 50, "--link", link) as device:
        with DeviceSource(str(link)) as source:
            received: list[Samples] = []
            while sum(part.times_s.size for part in received) < 5000:
                received += [event for event in source.recv(1.0) if isinstance(event, Samples)]
        assert max(part.times_s[-1] for part in received) > 60.0, "it starts over"
        device.process.send_signal(number)
        _, errors = device.process.communicate(timeout=120)
    assert device.process.returncode == 130
    assert "interrupted" in errors
    assert '"sent"' in errors
    assert not link.is_symlink()


def test_without_a_reader_it_begins_only_when_told_to(e4_session, simulate):
    with simulate(e4_session, "--no-wait", "--drop-when-full", "--speed", 5000) as device:
        report = device.report()
    assert report["samples"]["bvp"] > 0
    assert report["unread_bytes"] > 0


def test_bytes_that_wait_for_a_plain_reader_are_neither_echoed_nor_mangled(e4_session, simulate):
    with simulate(e4_session, "--no-wait", "--duration", 2, "--speed", 50) as device:
        port = os.open(device.port, os.O_RDONLY | os.O_NOCTTY)
        decoder = FrameDecoder()
        try:
            frames = []
            while len([frame for frame in frames if frame.type is FrameType.DATA]) < 8 + 26:
                frames += decoder.feed(os.read(port, 4096))
        finally:
            os.close(port)
    assert (decoder.counters.malformed, decoder.counters.crc_errors) == (0, 0)
    assert frames[0].type is FrameType.HELLO
