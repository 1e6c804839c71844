"""Damaged bytes into every driver, in short, and that a driver which fails is found and named."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from edgepain.benchmarks.fuzz import benchmark_fuzz
from edgepain.benchmarks.fuzz_checks import Inspector
from edgepain.benchmarks.fuzz_targets import TARGETS, fuzz_target
from edgepain.benchmarks.mutations import cuts, mutate
from edgepain.firmware_bridge import device_kind
from edgepain.firmware_bridge.bitalino import BitalinoDecoder
from edgepain.signal import Modality, Samples

# Memory that Python and its allocator take without a leak.
SLACK_MB = 8.0


@pytest.mark.parametrize("device", TARGETS)
def test_a_million_damaged_bytes_raise_nothing_and_pass_no_frame_beyond_chance(device: str) -> None:
    (row,) = benchmark_fuzz([device], megabytes=1.0, seed=5).rows
    assert row.error == ""
    assert row.megabytes >= 1.0
    assert 0.5 * row.sent < row.accepted <= 1.1 * row.sent
    assert row.grown_mb < SLACK_MB
    if row.by_chance is not None:
        assert row.wrong <= row.by_chance


@pytest.mark.parametrize("device", TARGETS)
def test_what_is_damaged_is_a_stream_that_the_driver_reads(device: str) -> None:
    target = fuzz_target(device)
    driver = device_kind(device).driver(target.options)
    events = [*driver.feed(target.greeting, 0.0), *driver.feed(target.wire[:100_000], 1.0)]
    assert sum(isinstance(event, Samples) for event in events) > 0
    assert driver.introduced


def test_the_same_seed_gives_the_same_counts() -> None:
    first, again = (benchmark_fuzz(["shimmer3"], megabytes=0.3, seed=2).rows[0] for _ in range(2))
    assert (first.sent, first.accepted, first.wrong) == (again.sent, again.accepted, again.wrong)


def test_a_driver_that_raises_is_named_with_what_shows_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: BitalinoDecoder, data: bytes) -> list[object]:
        if data:
            raise IndexError("out of bounds")
        return []

    monkeypatch.setattr(BitalinoDecoder, "feed", fails)
    (row,) = benchmark_fuzz(["bitalino"], megabytes=0.2).rows
    assert "IndexError: out of bounds" in row.error


def test_a_decoder_that_believes_everything_is_beyond_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BitalinoDecoder, "_sound", lambda self, frames: np.ones(len(frames), bool))
    (row,) = benchmark_fuzz(["bitalino"], megabytes=1.0).rows
    assert row.by_chance is not None
    assert row.wrong > row.by_chance


@pytest.mark.parametrize(
    ("times_s", "told"), [([0.0, np.nan], "that are none"), ([1.0, 1.0], "that are none"), ([-5.0, 1.0], "goes back")]
)
def test_absurd_samples_are_found(times_s: list[float], told: str) -> None:
    def samples(times_s: list[float]) -> Samples:
        return Samples(Modality.EDA, np.array(times_s), np.zeros(len(times_s), np.float32), 4.0, 0.0)

    inspector = Inspector()
    inspector.inspect([samples([-1.0, -0.5])])
    with pytest.raises(ValueError, match=told):
        inspector.inspect([samples(times_s)])


def test_mutations_keep_to_bytes_and_cuts_lose_none() -> None:
    random, stream = np.random.default_rng(0), np.frombuffer(fuzz_target("lines").wire, np.uint8)
    for _ in range(300):
        damaged = mutate(stream[:500], stream, random)
        assert damaged.dtype == np.uint8
        pieces = list(cuts(damaged.size, random))
        assert b"".join(damaged[a:b].tobytes() for a, b in pieces) == damaged.tobytes()


def test_the_command_prints_its_counts() -> None:
    command = [sys.executable, "-W", "error", "-m", "edgepain", "bench", "fuzz", "--megabytes", "0.2"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, timeout=120)
    assert [row["device"] for row in json.loads(done.stdout)["rows"]] == list(TARGETS)
    done = subprocess.run([*command, "--device", "lines"], capture_output=True, text=True, check=True, timeout=120)
    assert "by chance" in done.stdout


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris (extra: fuzz) is not installed")
def test_branches_are_looked_for() -> None:
    command = [sys.executable, "-m", "edgepain", "bench", "fuzz", "--coverage-guided", "--seconds", "2", "--json"]
    done = subprocess.run([*command, "--device", "edgeframe"], capture_output=True, text=True, check=True, timeout=200)
    (row,) = json.loads(done.stdout)["rows"]
    assert row["runs"] > 100
    assert row["coverage"] > row["coverage_seeds"] > 50


@pytest.mark.skipif(importlib.util.find_spec("atheris") is not None, reason="atheris is installed")
def test_without_atheris_the_extra_is_named() -> None:
    command = [sys.executable, "-m", "edgepain", "bench", "fuzz", "--coverage-guided"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    assert "pip install 'edgepain[fuzz]'" in done.stderr
