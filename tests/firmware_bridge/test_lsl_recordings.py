"""Real recordings, sent as OpenSignals and EmotiBit's Oscilloscope send them, and read as an LSL device."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from edgepain.firmware_bridge import DeviceSource
from edgepain.signal import Modality, Samples


@pytest.fixture
def name() -> str:
    return uuid4().hex[:8]


def received(source: DeviceSource, wanted: Mapping[Modality, int]) -> dict[Modality, tuple[np.ndarray, np.ndarray]]:
    """Times and values of each modality, when as many as wanted have come."""
    found: dict[Modality, list[Samples]] = {modality: [] for modality in wanted}
    deadline_s = time.monotonic() + 30
    while any(sum(s.values.size for s in found[m]) < count for m, count in wanted.items()):
        assert time.monotonic() < deadline_s
        for event in source.recv(0.2):
            if isinstance(event, Samples) and event.modality in found:
                found[event.modality].append(event)
    return {
        m: (np.concatenate([s.times_s for s in parts]), np.concatenate([s.values for s in parts]))
        for m, parts in found.items()
    }


def test_opensignals(lsl: Any, name: str, shared_data: Path):
    """One stream: the sequence number first, which its description leaves out, then BVP in raw counts at 1000 Hz."""
    rows = np.loadtxt(shared_data / "opensignals" / "bvp_sample_first3000.txt", comments="#", usecols=(0, 2))
    info = lsl.StreamInfo(f"OpenSignals {name}", "00:07:80:3B:46:61", 2, 1000.0, "float32", name)
    channel = info.desc().append_child("channels").append_child("channel")
    channel.append_child_value("sensor", "BVP")
    channel.append_child_value("unit", "n.a.")
    outlet = lsl.StreamOutlet(info)
    with DeviceSource(f"OpenSignals {name}", device="lsl") as source:
        assert outlet.wait_for_consumers(10)
        begin_s = lsl.local_clock()
        for part in np.array_split(rows, 30):
            outlet.push_chunk(part.astype(np.float32), (begin_s + part[:, 0] / 1000).tolist())
        times_s, values = received(source, {Modality.BVP: len(rows)})[Modality.BVP]
        stats = source.stats()
    np.testing.assert_array_equal(values, rows[:, 1])
    np.testing.assert_allclose(times_s, rows[:, 0] / 1000, atol=1e-6)
    assert (stats.frames_lost, stats.out_of_order, stats.malformed) == (0, 0, 0)


def packets(file: Path, tag: str) -> Iterator[tuple[float, np.ndarray]]:
    """Device time in seconds and values of each packet of one type."""
    for line in file.read_text().splitlines():
        fields = line.split(",")
        if len(fields) > 6 and fields[3] == tag:
            yield int(fields[0]) / 1000, np.array(fields[6:], np.float64)


def test_emotibit(lsl: Any, name: str, shared_data: Path):
    """Two streams, EDA 15 Hz and green PPG 25 Hz: the values of a packet at once, stamped when it came."""
    file = shared_data / "emotibit" / "2025-06-27_09-56-59-929206.csv"
    sent = {Modality.EDA: list(packets(file, "EA")), Modality.BVP: list(packets(file, "PG"))}
    described = {Modality.EDA: ("EDA", "EDA", 15.0), Modality.BVP: ("PPG_GRN", "PPGGreen", 25.0)}
    outlets = {
        m: lsl.StreamOutlet(lsl.StreamInfo(f"{label} {name}", kind, 1, rate_hz, "float32", f"{label} {name}"))
        for m, (label, kind, rate_hz) in described.items()
    }
    values = {m: np.concatenate([part for _, part in each]).astype(np.float32) for m, each in sent.items()}
    begin_s = lsl.local_clock() - min(each[0][0] for each in sent.values())
    port = f"EDA {name},PPG_GRN {name}"
    with DeviceSource(port, device="lsl", options={"eda_factor": "1"}) as source:
        assert all(outlet.wait_for_consumers(10) for outlet in outlets.values())
        for _, modality, at_s, part in sorted((at_s, m, at_s, part) for m, e in sent.items() for at_s, part in e):
            outlets[modality].push_chunk(part[:, np.newaxis].astype(np.float32), [begin_s + at_s] * part.size)
        found = received(source, {m: v.size for m, v in values.items()})
        stats = source.stats()
    for modality, (times_s, read) in found.items():
        rate_hz = described[modality][2]
        np.testing.assert_array_equal(read, values[modality])
        steps = np.diff(times_s) * rate_hz
        assert steps.min() > 0
        # Spread evenly: nothing that windows would take for a gap.
        assert np.quantile(steps, 0.99) < 1.5
        packet_s = np.array([at_s for at_s, _ in sent[modality]])
        assert times_s[-1] - times_s[0] == pytest.approx(packet_s[-1] - packet_s[0], abs=1.0)
    assert stats.lost_is_minimum
    assert stats.malformed == 0
