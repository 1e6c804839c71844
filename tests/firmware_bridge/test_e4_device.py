"""A session folder of an Empatica E4, played as a device."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgepain.bundle import Bundle
from edgepain.errors import ConfigError, PortError
from edgepain.firmware_bridge import DeviceSource, ReplaySource, read_e4
from edgepain.signal import LinkState, Modality

FAST = {"speed": "200"}


def test_files_come_through_whole_and_are_replayed_to_the_bit(e4_session: Path, tmp_path: Path, receive_all):
    log = tmp_path / "e4.wire"
    received = receive_all(source := DeviceSource(str(e4_session), device="e4", options=FAST, record_to=log))
    assert received.states == [LinkState.CONNECTED, LinkState.ENDED]
    assert received.changes[-1].detail == f"session {e4_session.name} was played"
    session = read_e4(e4_session).signals
    again = receive_all(ReplaySource(log))
    for modality in (Modality.EDA, Modality.BVP):
        np.testing.assert_array_equal(received.values(modality), session[modality].values)
        np.testing.assert_array_equal(received.times_s(modality), session[modality].times_s)
        np.testing.assert_array_equal(again.values(modality), received.values(modality))
        np.testing.assert_array_equal(again.times_s(modality), received.times_s(modality))
    assert source.stats().frames == sum(signal.values.size for signal in session.values())
    assert source.stats().frames_lost == 0


def test_real_sessions(shared_data: Path, receive_all):
    folder = min((shared_data / "stress_predict" / "raw").iterdir())
    received = receive_all(DeviceSource(str(folder), device="e4", options={"speed": "1000"}))
    for modality, signal in read_e4(folder).signals.items():
        np.testing.assert_array_equal(received.values(modality), signal.values)
        np.testing.assert_allclose(received.times_s(modality), signal.times_s, atol=1e-9)


def test_it_is_played_at_its_own_speed(e4_session: Path):
    begin_s = time.monotonic()
    with DeviceSource(str(e4_session), device="e4") as source:
        samples = []
        while not samples or samples[-1].times_s[-1] < 1.0:
            samples += [event for event in source.recv(0.2) if hasattr(event, "values")]
    for part in samples:
        # Never before it was measured.
        assert part.arrival_s - begin_s >= part.times_s[-1]


@pytest.mark.parametrize(
    ("port", "options", "error", "complaint"),
    [
        ("nothing", {}, PortError, "neither EDA.csv nor BVP.csv"),
        ("S99", {"speed": "0"}, ConfigError, "more than 0 and at most 1000 times"),
        ("S99", {"speed": "nan"}, ConfigError, "more than 0 and at most 1000 times"),
        ("S99", {"colour": "red"}, ConfigError, "unknown field `colour`"),
    ],
)
def test_what_cannot_be_played(e4_session: Path, port: str, options, error, complaint: str):
    with pytest.raises(error) as caught:
        DeviceSource(str(e4_session if port == "S99" else port), device="e4", options=options)
    assert complaint in str(caught.value)


def test_edgepain_run_decides_on_it_and_ends_with_it(exported: Bundle, e4_session: Path):
    command = [sys.executable, "-m", "edgepain", "run", "--device", "e4", "--port", str(e4_session), "--json"]
    command += ["--model", str(exported.root), "--device-option", "speed=20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1]["ended"] == f"session {e4_session.name} was played"
    assert lines[-1]["decisions"] > 20
