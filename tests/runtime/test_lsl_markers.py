"""Markers of another program, over real LSL streams."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from edgepain.firmware_bridge import read_recording
from edgepain.runtime.lsl_markers import LslMarkers
from edgepain.signal import Marker


@pytest.fixture
def name() -> str:
    return f"stimuli {uuid4().hex[:8]}"


def outlet(lsl: Any, name: str, channels: int = 1, form: str = "string") -> Any:
    return lsl.StreamOutlet(lsl.StreamInfo(name, "Markers", channels, 0.0, form, uuid4().hex))


def until_found(markers: LslMarkers) -> None:
    deadline_s = time.monotonic() + 15
    while not markers.found:
        assert markers.poll() == []
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    # Nothing is sent to an inlet before it is connected.
    time.sleep(0.5)


def polled(markers: LslMarkers, least: int) -> list[Marker]:
    found: list[Marker] = []
    deadline_s = time.monotonic() + 15
    while len(found) < least and time.monotonic() < deadline_s:
        found += markers.poll()
        time.sleep(0.02)
    return found


def test_texts_become_markers_when_they_were_made(lsl, name: str):
    markers = LslMarkers(name)
    assert markers.poll() == []
    sender = outlet(lsl, name, 2)
    until_found(markers)
    markers.poll()
    sender.push_sample(["heat", "on"], lsl.local_clock() - 3.0)
    made_s = time.monotonic()
    sender.push_sample(["NRS 7", ""])
    sender.push_sample([b"\xff", ""])
    trouble, first, second = sorted(polled(markers, 3), key=lambda marker: (marker.source != "edgepain", marker.at_s))
    assert (first.label, first.value, first.source) == ("heat on", None, name)
    assert (second.label, second.value) == ("NRS", 7.0)
    assert (trouble.label, trouble.source) == ("a marker is missing here: it was no UTF-8", "edgepain")
    assert first.at_s == pytest.approx(made_s - 3.0, abs=0.1)
    assert second.at_s == pytest.approx(made_s, abs=0.1)
    assert second.unix_s - second.at_s == pytest.approx(time.time() - time.monotonic(), abs=0.1)
    markers.close()
    markers.close()


def test_a_stream_may_go_and_come_and_one_of_numbers_is_none(lsl, name: str):
    numbers = outlet(lsl, name, form="float32")
    markers = LslMarkers(name)
    sender = outlet(lsl, name)
    until_found(markers)
    markers.poll()
    sender.push_sample(["one"])
    assert [marker.label for marker in polled(markers, 1)] == ["one"]
    del sender
    deadline_s = time.monotonic() + 15
    while markers.found and time.monotonic() < deadline_s:
        markers.poll()
    sender = outlet(lsl, name)
    until_found(markers)
    markers.poll()
    sender.push_sample(["two"])
    assert [marker.label for marker in polled(markers, 1)] == ["two"]
    markers.close()
    del numbers


def test_the_last_words_of_a_sender_that_leaves_are_heard(lsl, name: str):
    sender = outlet(lsl, name)
    markers = LslMarkers(name)
    until_found(markers)
    sender.push_sample(["zero"])
    # Waits until the sender's clock is known.
    assert [marker.label for marker in polled(markers, 1)] == ["zero"]
    made_s = time.monotonic()
    for word in ("one", "two", "three"):
        sender.push_sample([word], lsl.local_clock() - 2.0)
    time.sleep(0.05)
    del sender
    # A session that is busy meanwhile.
    time.sleep(0.5)
    found = polled(markers, 3)
    assert [marker.label for marker in found] == ["one", "two", "three"]
    assert found[0].at_s == pytest.approx(made_s - 2.0, abs=0.1)
    markers.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "LSL markers"]


def test_they_are_recorded_with_the_signals(lsl, name: str, simulate, tmp_path: Path):
    log = tmp_path / "session.wire"
    sender = outlet(lsl, name)
    with simulate("--no-wait", "--loop") as device:
        command = [sys.executable, "-m", "edgepain", "record", str(log), "--port", device.port, "--json"]
        command += ["--lsl-markers", name, "--duration", "8"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            sent = 0
            for text in process.stdout:
                line = json.loads(text)
                if line["type"] == "signals":
                    sender.push_sample([f"tick {sent}"])
                    sent += 1
            assert process.wait(30) == 0
    kept = [entry for entry in read_recording(log) if isinstance(entry, Marker)]
    values = [marker.value for marker in kept]
    # The first went out before the stream was found.
    assert len(kept) >= 4
    assert values == sorted(values)
    assert {(marker.label, marker.source) for marker in kept} == {("tick", name)}
