"""A log whose description is damaged at its head is read by the copy that stands where the line was opened."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgepain.firmware_bridge import open_recording, read_recording
from edgepain.firmware_bridge.convert import convert_log
from edgepain.firmware_bridge.log_check import check_log
from edgepain.firmware_bridge.shimmer import GSR, INT_A13, encode_packets

INQUIRED = b"\xff\x02" + (256).to_bytes(2, "little") + bytes(4) + bytes([2, 1, INT_A13, GSR])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """20 s of a Shimmer3 at 128 Hz; the line was opened twice."""
    path = tmp_path / "shimmer.wire"
    raw = np.random.default_rng(1).integers(500, 3000, (2560, 2)).astype(np.uint16)
    packets = encode_packets(np.arange(2560) * 256, raw)
    with open_recording(path, {"device": "shimmer3", "options": {}}) as recorder:
        for begin in (0, 1280):
            recorder.write(1000.0 + begin / 128, b"")
            recorder.write(1000.1 + begin / 128, INQUIRED)
            for first in range(begin, begin + 1280, 64):
                recorder.write(1000.5 + first / 128, packets[first : first + 64].tobytes())
    return path


def flipped(log: Path, at: int) -> Path:
    damaged = bytearray(log.read_bytes())
    damaged[at] ^= 4
    path = log.with_name(f"flipped{at}.wire")
    path.write_bytes(damaged)
    return path


@pytest.mark.parametrize("place", ["length", "crc", "json"])
def test_a_flipped_bit_in_the_head_costs_no_sample(log, place):
    head = log.read_bytes().index(b"{")
    damaged = flipped(log, {"length": head - 8, "crc": head - 4, "json": head + 5}[place])
    assert read_recording(damaged).metadata == read_recording(log).metadata
    found, whole = check_log(damaged), check_log(log)
    assert found.described
    assert found.signals == whole.signals
    assert found.signals["eda"].samples == 2560
    assert found.begin == whole.begin
    assert (len(whole.damage), len(found.damage)) == (0, 1)
    assert found.damage[0].lost_bytes >= len(json.dumps(dict(read_recording(log).metadata)))
    for path in (log, damaged):
        convert_log(path, "csv", path.with_suffix(".csv"))
    assert damaged.with_suffix(".csv").read_bytes() == log.with_suffix(".csv").read_bytes()


def test_a_damaged_copy_costs_nothing_but_itself(log):
    whole = log.read_bytes()
    damaged = flipped(log, whole.index(b"{", whole.index(b"DESC")) + 5)
    assert read_recording(damaged).metadata == read_recording(log).metadata
    assert check_log(damaged).signals == check_log(log).signals
    assert read_recording(damaged).damaged_chunks == 1


def test_logs_without_copies_are_read_as_before(log):
    whole = log.read_bytes()
    size = 24 + len(json.dumps(dict(read_recording(log).metadata)))
    for at in sorted((k for k in range(len(whole)) if whole.startswith(b"DESC", k)), reverse=True):
        whole = whole[:at] + whole[at + size :]
    old = log.with_name("old.wire")
    old.write_bytes(whole)
    assert read_recording(old).chunks == read_recording(log).chunks
    assert check_log(old).signals == check_log(log).signals
    assert not read_recording(old).damage
