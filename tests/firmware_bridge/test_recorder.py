"""The wire log keeps what was read through kills, cuts and damage."""

import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from edgepain.errors import ConfigError, DataError
from edgepain.firmware_bridge import open_recording, read_recording
from edgepain.signal import Marker

CHUNKS = [(float(i), bytes([i]) * (i % 50 + 1)) for i in range(100)]


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "wire.log"
    with open_recording(path, {"port": "loop://"}) as recorder:
        for arrival_s, data in CHUNKS:
            recorder.write(arrival_s, data)
    return path


def contents(recording) -> list[tuple[float, bytes]]:
    return [(chunk.arrival_s, chunk.data) for chunk in recording.chunks]


def test_round_trip(log):
    recording = read_recording(log)
    assert contents(recording) == CHUNKS
    assert recording.metadata["port"] == "loop://"
    assert abs(recording.metadata["started_unix_s"] - time.time()) < 3600
    assert (recording.damaged_chunks, recording.lost_bytes) == (0, 0)


def test_markers_stand_where_they_were_made_and_survive_damage_beside_them(tmp_path):
    path = tmp_path / "wire.log"
    markers = [Marker(1.5, 1e9, "heat on", source="key"), Marker(2.5, 1e9 + 1, "NRS", 7.0, "key")]
    with open_recording(path) as recorder:
        recorder.write(1.0, b"one")
        recorder.note(markers[0])
        recorder.write(2.0, b"two")
        recorder.note(markers[1])
    recording = read_recording(path)
    assert [getattr(entry, "data", entry) for entry in recording] == [b"one", markers[0], b"two", markers[1]]
    assert contents(recording) == [(1.0, b"one"), (2.0, b"two")]
    path.write_bytes(path.read_bytes().replace(b"heat on", b"heat off"[:7]))
    recording = read_recording(path)
    assert [getattr(entry, "data", entry) for entry in recording] == [b"one", b"two", markers[1]]
    assert recording.damaged_chunks == 1


def test_an_existing_file_is_not_overwritten(log):
    before = log.read_bytes()
    with pytest.raises(ConfigError, match="exists already"):
        open_recording(log)
    assert log.read_bytes() == before


def test_a_log_whose_beginning_the_disk_does_not_take_leaves_nothing(tmp_path):
    path = tmp_path / "full.wire"
    before, open_files = resource.getrlimit(resource.RLIMIT_FSIZE), set(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (30, before[1]))
    try:
        with pytest.raises(DataError, match=r"cannot record .*; free space or record elsewhere"):
            open_recording(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert set(os.listdir("/proc/self/fd")) <= open_files
    assert not list(tmp_path.iterdir())
    open_recording(path).close()
    assert read_recording(path).damage == ()


def test_a_cut_tail_costs_only_the_chunk_that_was_cut(log):
    whole = log.read_bytes()
    header = whole.index(b"CHNK")
    for end in range(header, len(whole), 37):
        log.write_bytes(whole[:end])
        recording = read_recording(log)
        assert contents(recording) == CHUNKS[: len(recording.chunks)]
        kept = sum(24 + len(data) for _, data in contents(recording))
        assert recording.lost_bytes == end - header - kept < 24 + 50


def test_a_zeroed_tail_is_reported(log):
    whole = log.read_bytes()
    log.write_bytes(whole + bytes(4096))
    recording = read_recording(log)
    assert contents(recording) == CHUNKS
    assert (recording.damaged_chunks, recording.lost_bytes) == (1, 4096)


def test_a_flipped_bit_costs_one_chunk_wherever_it_is(log):
    whole = log.read_bytes()
    for at in range(whole.index(b"CHNK"), len(whole), 41):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        log.write_bytes(damaged)
        recording = read_recording(log)
        missing = [chunk for chunk in CHUNKS if chunk not in contents(recording)]
        assert len(missing) == recording.damaged_chunks == 1
        assert recording.lost_bytes == 24 + len(missing[0][1])


def test_damaged_metadata_do_not_cost_the_data(log):
    damaged = bytearray(log.read_bytes())
    damaged[damaged.index(b"loop")] ^= 1
    log.write_bytes(damaged)
    recording = read_recording(log)
    assert contents(recording) == CHUNKS
    assert recording.metadata == {}
    assert recording.damaged_chunks == 1


def test_other_files_are_refused(tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"time_s,eda_us\n")
    with pytest.raises(DataError, match="not a wire log"):
        read_recording(other)
    with pytest.raises(DataError, match="cannot be read"):
        read_recording(tmp_path / "missing")
    with pytest.raises(DataError, match="cannot record here"):
        open_recording(tmp_path / "no" / "folder")


WRITER = """
import itertools, sys
from edgepain.firmware_bridge import open_recording
recorder = open_recording(sys.argv[1])
for i in itertools.count():
    recorder.write(float(i), i.to_bytes(8, "little") * 20)
    print(i, flush=True)
"""


def test_a_killed_writer_loses_nothing_it_had_written(tmp_path):
    path = tmp_path / "killed.log"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    with writer:
        while (written := int(writer.stdout.readline())) < 2000:
            pass
        writer.send_signal(signal.SIGKILL)
        written = 1 + int((str(written).encode() + b"\n" + writer.stdout.read()).split()[-1])
    recording = read_recording(path)
    assert len(recording.chunks) >= written
    assert all(c.data == i.to_bytes(8, "little") * 20 for i, c in enumerate(recording.chunks))
