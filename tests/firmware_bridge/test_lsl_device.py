"""Streams of the Lab Streaming Layer through real outlets on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from edgepain.errors import ConfigError, PortError
from edgepain.firmware_bridge import DeviceSource, ReplaySource
from edgepain.signal import DeviceInfo, LinkChange, LinkState, Modality, Samples, StreamEvent

Channels = Sequence[tuple[str, str, str]]
BAND: Channels = [("nSeq", "", ""), ("EDA", "", "microsiemens"), ("PPG", "", "")]


@pytest.fixture
def outlet(lsl: Any) -> Callable[..., Any]:
    """Make an outlet; channels are label, type and unit."""

    def made(name: str, channels: Channels, rate_hz: float = 64.0, form: str = "float32", **info: Any) -> Any:
        given = {"type": "", "source_id": name, **info}
        described = lsl.StreamInfo(name, given["type"], len(channels), rate_hz, form, given["source_id"])
        parent = described.desc().append_child("channels")
        for label, kind, unit in channels:
            channel = parent.append_child("channel")
            for tag, text in (("label", label), ("type", kind), ("unit", unit)):
                channel.append_child_value(tag, text)
        return lsl.StreamOutlet(described)

    return made


@pytest.fixture
def name() -> str:
    return f"band {uuid4().hex[:8]}"


def until(source: DeviceSource, enough: Callable[[list[StreamEvent]], bool]) -> list[StreamEvent]:
    """Events up to the moment that they are enough."""
    events: list[StreamEvent] = []
    deadline_s = time.monotonic() + 20
    while not enough(events):
        assert time.monotonic() < deadline_s, events
        events += source.recv(0.2)
    return events


def heard(*outlets: Any) -> None:
    """Wait until somebody listens: an inlet is open a moment before the outlet sends to it."""
    assert all(out.wait_for_consumers(10) for out in outlets)


def count(events: Sequence[StreamEvent], modality: Modality) -> int:
    return sum(e.values.size for e in events if isinstance(e, Samples) and e.modality is modality)


def joined(events: Sequence[StreamEvent], modality: Modality, what: str) -> np.ndarray:
    return np.concatenate([getattr(e, what) for e in events if isinstance(e, Samples) and e.modality is modality])


def test_what_an_outlet_sends_comes_through_and_is_replayed_to_the_bit(lsl, outlet, name, tmp_path, receive_all):
    out = outlet(name, BAND, form="double64")
    log = tmp_path / "lsl.wire"
    rng = np.random.default_rng(7)
    values = np.column_stack([np.arange(640), 2 + rng.normal(0, 0.1, 640), rng.normal(0, 50, 640)])
    begin_s = lsl.local_clock()
    with DeviceSource(name, device="lsl", record_to=log) as source:
        heard(out)
        for k, part in enumerate(np.split(values, 20)):
            stamps_s = begin_s + (k * 32 + np.arange(32)) / 64
            out.push_chunk(np.ascontiguousarray(part), stamps_s.tolist())
        events = until(source, lambda events: count(events, Modality.BVP) == 640)
        stats = source.stats()
    np.testing.assert_array_equal(joined(events, Modality.EDA, "values"), values[:, 1].astype(np.float32))
    np.testing.assert_array_equal(joined(events, Modality.BVP, "values"), values[:, 2].astype(np.float32))
    np.testing.assert_allclose(joined(events, Modality.EDA, "times_s"), np.arange(640) / 64, atol=1e-9)
    (info,) = [e for e in events if isinstance(e, DeviceInfo)]
    assert info.name.startswith(f"{name} (LSL, from ")
    assert [(s.modality, s.unit, s.rate_hz) for s in info.streams] == [
        (Modality.EDA, "uS", 64.0),
        (Modality.BVP, "a.u.", 64.0),
    ]
    assert (stats.frames, stats.frames_lost, stats.crc_errors, stats.malformed) == (640, 0, 0, 0)
    again = receive_all(ReplaySource(log))
    for modality in (Modality.EDA, Modality.BVP):
        for what in ("values", "times_s"):
            np.testing.assert_array_equal(
                np.concatenate([getattr(s, what) for s in again.samples if s.modality is modality]),
                joined(events, modality, what),
            )


def test_two_streams_are_one_device(lsl, outlet, name):
    """As EmotiBit sends them: a stream a signal, told by name and type, without a unit."""
    eda = outlet(f"{name} EDA", [("", "", "")], 16.0, type="EDA")
    ppg = outlet(f"{name} PPG", [("", "", "")], 64.0, type="PPGGreen")
    begin_s = lsl.local_clock()
    port = f"{name} EDA, name={name} PPG&type=PPGGreen"
    with DeviceSource(port, device="lsl", options={"eda_factor": "1"}) as source:
        heard(eda, ppg)
        eda.push_chunk(np.full((16, 1), 2.5, np.float32), (begin_s + np.arange(16) / 16).tolist())
        ppg.push_chunk(np.ones((64, 1), np.float32), (begin_s + np.arange(64) / 64).tolist())
        events = until(source, lambda events: count(events, Modality.BVP) == 64 and count(events, Modality.EDA) == 16)
    np.testing.assert_allclose(joined(events, Modality.EDA, "times_s"), np.arange(16) / 16, atol=1e-6)
    np.testing.assert_allclose(joined(events, Modality.BVP, "times_s"), np.arange(64) / 64, atol=1e-6)


def test_an_outlet_that_goes_away_is_waited_for(lsl, outlet, name):
    out = outlet(name, BAND)
    with DeviceSource(name, device="lsl", reconnect_s=30) as source:
        heard(out)
        out.push_chunk(np.ones((8, 3), np.float32))
        until(source, lambda events: count(events, Modality.EDA) == 8)
        del out
        lost = until(source, lambda events: any(isinstance(e, LinkChange) for e in events))
        assert [e.state for e in lost if isinstance(e, LinkChange)] == [LinkState.LOST]
        out = outlet(name, BAND)
        until(source, lambda events: any(isinstance(e, LinkChange) for e in events))
        heard(out)
        out.push_chunk(np.ones((8, 3), np.float32))
        events = until(source, lambda events: count(events, Modality.EDA) == 8)
        assert joined(events, Modality.EDA, "times_s")[0] > 0
        assert (source.stats().reconnects, source.stats().restarts) == (1, 1)


def test_what_one_stream_sent_is_kept_when_another_goes_away(outlet, name):
    eda = outlet(f"{name} EDA", [("EDA", "", "uS")], 16.0)
    ppg = outlet(f"{name} PPG", [("PPG", "", "")], 64.0)
    with DeviceSource(f"{name} EDA,{name} PPG", device="lsl", reconnect_s=30) as source:
        heard(eda, ppg)
        until(source, lambda events: any(isinstance(e, DeviceInfo) for e in events))
        eda.push_chunk(np.full((16, 1), 2.5, np.float32))
        del ppg
        time.sleep(0.5)
        events = until(
            source, lambda events: any(isinstance(e, LinkChange) and e.state is LinkState.LOST for e in events)
        )
    assert count(events, Modality.EDA) == 16
    del eda


@pytest.mark.parametrize(
    ("channels", "rate_hz", "form", "options", "complaint"),
    [
        (BAND, 0.0, "float32", {}, "is sampled at no regular rate and cannot be read"),
        ([("EDA", "", "kOhm")], 4.0, "float32", {}, "in 'kOhm'; give eda_factor"),
        ([("Fz", "EEG", "uV")], 250.0, "float32", {}, "no channel is named eda, ecg or bvp; there are: 1 'Fz' in uV"),
        ([("EDA", "", "")], 0.0, "string", {}, "is one of texts; read markers with --lsl-markers"),
        (BAND, 64.0, "int16", {"bvp": "4"}, "bvp=4: no channel is called so"),
    ],
)
def test_streams_that_cannot_be_read(outlet, name, channels, rate_hz, form, options, complaint):
    out = outlet(name, channels, rate_hz, form)
    with pytest.raises(ConfigError) as caught:
        DeviceSource(name, device="lsl", options=options)
    assert complaint in str(caught.value)
    del out


@pytest.mark.parametrize(
    ("port", "error", "complaint"),
    [
        ("nobody", PortError, "no LSL stream 'nobody' is there"),
        ("colour=red", ConfigError, "named by name, type, hostname or source_id, not 'colour'"),
        ("name='\"", ConfigError, "without quotation marks of both kinds"),
        (",", ConfigError, "`edgepain ports --lsl` lists them"),
    ],
)
def test_streams_that_are_not_there(lsl, port, error, complaint):
    with pytest.raises(error) as caught:
        DeviceSource(port, device="lsl")
    assert complaint in str(caught.value)


def test_two_outlets_of_one_name_are_told_apart(outlet, name):
    first = outlet(name, BAND, source_id=f"{name} 1")
    second = outlet(name, BAND, source_id=f"{name} 2")
    with pytest.raises(PortError, match="2 LSL streams are "):
        DeviceSource(name, device="lsl")
    with DeviceSource(f"source_id={name} 2", device="lsl") as source:
        heard(second)
        second.push_chunk(np.ones((8, 3), np.float32))
        until(source, lambda events: count(events, Modality.EDA) == 8)
    del first


def test_a_list_of_streams(outlet, name):
    out = outlet(name, BAND, type="Physio")
    command = [sys.executable, "-m", "edgepain", "ports", "--lsl"]
    text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert f"{name}\n  Physio, 3 channels, 64 Hz\n" in text
    text = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=60, check=True).stdout
    (stream,) = [each for each in json.loads(text) if each["name"] == name]
    assert (stream["channels"], stream["rate_hz"], stream["source_id"]) == (3, 64.0, name)
    del out
