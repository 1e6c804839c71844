"""Coverage-guided fuzzing of drivers by atheris (libFuzzer), one process a device: see `fuzz_harness`."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from edgepain.benchmarks.fuzz_targets import TARGETS, fuzz_target, write_seeds
from edgepain.benchmarks.machine import Machine, this_machine
from edgepain.errors import MissingExtraError

LONGEST_INPUT = 4096
MOST_MEMORY_MB = 2048
# atheris keeps results of comparisons with arrays, so that a process grows by some 20 kB an input: it is begun anew.
ROUND_S = 60.0
# The harness ends by itself; this is for one that hangs.
_GRACE_S = 120
_PROGRESS = re.compile(r"^#(\d+)\s+(INITED|DONE)\s+cov: (\d+)", re.MULTILINE)
_RUNS = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
_NEW = re.compile(r"stat::new_units_added:\s+(\d+)")
_MEMORY = re.compile(r"stat::peak_rss_mb:\s+(\d+)")


class GuidedRow(msgspec.Struct, frozen=True):
    """One device. runs: inputs tried. coverage_seeds, coverage: branches of the bridge that the seeds reach, and all.

    new: inputs that reached something new. memory_mb: the most. error: what it said at the end where it failed.
    """

    device: str
    seconds: float
    runs: int
    coverage_seeds: int
    coverage: int
    new: int
    memory_mb: int
    error: str = ""


class GuidedReport(msgspec.Struct, frozen=True):
    """What was found on which machine. No two runs are the same: libFuzzer looks at the time."""

    machine: Machine
    seed: int
    rows: tuple[GuidedRow, ...]


def guided_fuzz(
    devices: Sequence[str] = tuple(TARGETS),
    seconds: float = 150.0,
    seed: int = 0,
    progress: Callable[[str, float], None] = lambda device, share: None,
) -> GuidedReport:
    """Fuzz each of `devices` for `seconds`. An input that fails is left in the folder of the caller.

    Raises MissingExtraError without atheris.
    """
    if importlib.util.find_spec("atheris") is None:
        raise MissingExtraError("atheris", "fuzz")
    rows = []
    for device in devices:
        rows.append(_row(device, seconds, seed, progress))
    return GuidedReport(this_machine(), seed, tuple(rows))


def _row(device: str, seconds: float, seed: int, progress: Callable[[str, float], None]) -> GuidedRow:
    runs = coverage_seeds = coverage = new = memory_mb = 0
    error, left_s, begun = "", seconds, 0
    with tempfile.TemporaryDirectory() as folder:
        write_seeds(fuzz_target(device), Path(folder))
        while left_s > 0 and not error:
            progress(device, 1.0 - left_s / seconds)
            # 0 would be a seed by the time.
            text, failed = _round(device, folder, min(left_s, ROUND_S), 1 + seed + begun)
            told = {kind: (int(tried), int(covered)) for tried, kind, covered in _PROGRESS.findall(text)}
            coverage_seeds = coverage_seeds or told.get("INITED", (0, 0))[1]
            coverage = max(coverage, told.get("DONE", (0, 0))[1])
            runs, new = runs + _number(_RUNS, text), new + _number(_NEW, text)
            memory_mb = max(memory_mb, _number(_MEMORY, text))
            error = "\n".join(text.splitlines()[-12:]) if failed else ""
            left_s, begun = left_s - ROUND_S, begun + 1
    return GuidedRow(device, seconds, runs, coverage_seeds, coverage, new, memory_mb, error)


def _round(device: str, folder: str, seconds: float, seed: int) -> tuple[str, bool]:
    """What the fuzzer said, and whether it failed. Inputs that reach something new are added to `folder`."""
    command = [sys.executable, "-m", "edgepain.benchmarks.fuzz_harness", device, folder]
    command += [f"-max_total_time={max(round(seconds), 1)}", f"-seed={seed}", f"-max_len={LONGEST_INPUT}"]
    command += ["-print_final_stats=1", f"-rss_limit_mb={MOST_MEMORY_MB}", f"-artifact_prefix=fuzz-{device}-"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=seconds + _GRACE_S
        )
    except subprocess.TimeoutExpired as expired:
        said = expired.stderr or ""
        said = said.decode(errors="replace") if isinstance(said, bytes) else said
        return f"{said}\nit did not end", True
    return done.stderr, done.returncode != 0


def _number(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    return int(found[1]) if found else 0
