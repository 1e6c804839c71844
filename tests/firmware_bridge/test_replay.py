"""A wire log as a source: damaged, without a device, and with a clock that runs off."""

from pathlib import Path

import numpy as np
import pytest

from edgepain.errors import DataError
from edgepain.firmware_bridge import ReplaySource, open_recording, read_recording
from edgepain.firmware_bridge.edgeframe import Frame, encode
from edgepain.firmware_bridge.wearable import STATUS, Due, Wearable
from edgepain.signal import LinkState, Modality, Recording, Signal


def frame(wearable: Wearable, due: Due) -> Frame | None:
    return wearable.data(due) if due.stream >= 0 else wearable.hello(due.at_s)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """100 s of a device that runs 200 ppm fast, each frame read 3 ms after it was sent, but for a late second."""
    path = tmp_path / "wire.log"
    values = np.arange(100 * 64, dtype=np.float32)
    person = Recording("s", "r", {Modality.BVP: Signal(Modality.BVP, values, 64.0)})
    wearable = Wearable(person, skew_ppm=200.0)
    with open_recording(path) as recorder:
        recorder.write(5000.0, b"")
        for due in wearable.schedule():
            if due.stream != STATUS and (sent := frame(wearable, due)) is not None:
                late_s = max(0.0, 41.0 - due.at_s) if due.at_s >= 40 else 0.0
                recorder.write(5000.003 + due.at_s + late_s, encode(sent))
    return path


def test_the_clocks_of_then_are_compared(log, receive_all):
    received = receive_all(source := ReplaySource(log))
    np.testing.assert_array_equal(received.values(Modality.BVP), np.arange(100 * 64))
    assert source.clock_skew().ppm == pytest.approx(200.0, abs=2.0)
    assert received.changes[-1].detail == f"{log} was played"


def test_damage_costs_what_it_hit_and_is_told(log, receive_all):
    whole = bytearray(log.read_bytes())
    data = next(chunk.data for chunk in read_recording(log).chunks if chunk.arrival_s > 5050 and len(chunk.data) < 60)
    whole[whole.index(data) + 6] ^= 1
    log.write_bytes(whole[:-3])
    recording = read_recording(log)
    assert recording.damaged_chunks == 2
    received = receive_all(source := ReplaySource(log))
    assert source.stats().frames_lost == 1, "the last one is missed by nothing after it"
    assert received.values(Modality.BVP).size in range(100 * 64 - 10, 100 * 64)
    expected = f"{log} was played; {recording.lost_bytes} bytes of it, in 2 places, are damaged and were left out"
    assert received.changes[-1].detail == expected


@pytest.mark.parametrize("arrival_s", [float("nan"), float("inf")])
def test_a_chunk_that_came_at_no_time_is_damaged(tmp_path, receive_all, arrival_s):
    path = tmp_path / "odd.log"
    with open_recording(path) as recorder:
        recorder.write(arrival_s, bytes(100))
        recorder.write(1.0, bytes(7))
    received = receive_all(source := ReplaySource(path))
    assert source.stats().bytes_read == 7
    assert received.states == [LinkState.ENDED]
    assert "; 124 bytes of it, in 1 place, are damaged" in received.changes[0].detail


def test_what_is_no_wire_log_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        ReplaySource(tmp_path / "missing")
    (tmp_path / "other").write_bytes(b"time_s,eda_us\n")
    with pytest.raises(DataError, match="name one made with --record"):
        ReplaySource(tmp_path / "other")


def test_a_closed_replay_gives_nothing_more(log):
    source = ReplaySource(log)
    source.recv(1.0)
    source.close()
    source.close()
    assert source.recv(1.0) == []


def test_a_line_opened_again_and_a_device_started_again(log, receive_all):
    """Half a frame before the cut spoils nothing after it, and the new clock is not laid on the old one."""
    values = np.zeros(10 * 64, dtype=np.float32)
    again = Wearable(Recording("s", "r", {Modality.BVP: Signal(Modality.BVP, values, 64.0)}), boot_id=2)
    sent = [(due.at_s, frame(again, due)) for due in again.schedule() if due.stream != STATUS]
    wires = [(at_s, encode(part)) for at_s, part in sent if part is not None]
    other = log.with_name("other.log")
    with open_recording(other) as recorder:
        for chunk in read_recording(log).chunks:
            recorder.write(chunk.arrival_s, chunk.data)
        recorder.write(5105.0, wires[0][1][:20])
        recorder.write(5110.0, b"")
        for at_s, wire in wires:
            recorder.write(5110.0 + at_s, wire)
    received = receive_all(source := ReplaySource(other))
    stats = source.stats()
    assert (stats.malformed, stats.crc_errors, stats.frames_lost) == (0, 0, 0)
    assert (stats.reconnects, stats.restarts) == (1, 1)
    assert [change.detail for change in received.changes[:2]] == [
        f"the line was opened in {other}",
        f"the line was opened again in {other}",
    ]
    assert source.clock_skew().reason.startswith("10 s of data since the device's clock began")
