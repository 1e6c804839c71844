"""`edgepain bench bridge` as a process: what it says, and that decoders and loops agree."""

import json
import subprocess
import sys

import pytest

from edgepain.benchmarks import byte_loops
from edgepain.benchmarks.bridge import benchmark_bridge


def bench(*arguments: str) -> str:
    command = [sys.executable, "-W", "error", "-m", "edgepain", "bench", "bridge", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_decoder_stands_beside_its_loop():
    report = json.loads(bench("--megabytes", "1", "--rounds", "1", "--json"))
    assert [row["decoder"] for row in report["rows"]] == [
        "edgeframe",
        "BITalino, 4 channels",
        "BITalino, 6 channels",
        "Shimmer3, GSR and PPG",
        "text lines, three numbers",
    ]
    assert [row["device"].split(",")[0] for row in report["streams"]] == [
        "edgeframe",
        "BITalino",
        "Shimmer3",
        "text lines",
    ]
    for row in report["streams"]:
        assert 0 < row["byte_to_sample_us"] <= row["byte_to_sample_p99_us"]
        assert 0 < row["processor_percent"] < 100
    # The loop over text checks nothing of what it reads, and is faster.
    assert all(row["large_mb_s"] > row["loop_mb_s"] > 0 for row in report["rows"][:-1])
    assert all(row["frames"] > 1000 for row in report["rows"])
    assert all(row["envelope_ms"][1] < 5 for row in report["clocks"])
    assert all(row["least_squares_ms"][0] > 2 * row["envelope_ms"][1] for row in report["clocks"])


def test_a_person_gets_a_table():
    text = bench("--megabytes", "1", "--rounds", "1")
    assert "byte loop" in text
    assert "become samples in" in text
    assert "% of a core" in text
    assert "lower envelope" in text


def test_a_loop_that_finds_other_frames_is_not_compared(monkeypatch):
    monkeypatch.setattr(byte_loops, "edgeframe_frames", lambda wire: [])
    with pytest.raises(ValueError, match=r"edgeframe: the decoder found .* frames, the loop 0"):
        benchmark_bridge(1.0, 1)
