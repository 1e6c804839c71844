"""`edgepain bench ward` on four wearables, as a process."""

import json
import subprocess
import sys


def bench_ward(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgepain", "bench", "ward", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_nothing_is_missing_but_what_was_left_out():
    run = bench_ward("--devices", "4", "--minutes", "0.08", "--drop", "0.05", "--json")
    assert (run.returncode, run.stderr) == (0, "")
    report = json.loads(run.stdout)
    assert report["devices"] == 4
    assert report["frames"] == report["frames_sent"] > 300
    assert report["lost"] == report["swallowed"] > 3
    assert (report["full"], report["unaccounted"], report["dropped"], report["failed"]) == (0, 0, 0, {})
    assert report["samples"] == 10 * report["frames"]
    assert 0 < report["processor_percent_a_stream"] < report["processor_percent"]
    assert min(report["memory_mb"]) > 10
    for latency in (report["write_to_read_ms"], report["write_to_sample_ms"]):
        assert 0 < latency["p50"] <= latency["p99"]
    assert report["write_to_read_ms"]["p50"] <= report["write_to_sample_ms"]["p50"]


def test_the_table_is_for_a_person():
    run = bench_ward("--devices", "2", "--minutes", "0.05")
    assert run.returncode == 0
    assert "2 wearables, two signals of 128 Hz each, 3 s" in run.stdout
    assert "% of one core" in run.stdout
