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
# The harness ends by itself; this is for one that hangs.
_GRACE_S = 120
_PROGRESS = re.compile(r"^#(\d+)\s+(INITED|DONE)\s+cov: (\d+)", re.MULTILINE)
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
        progress(device, 0.0)
        rows.append(_row(device, seconds, seed))
    return GuidedReport(this_machine(), seed, tuple(rows))


def _row(device: str, seconds: float, seed: int) -> GuidedRow:
    with tempfile.TemporaryDirectory() as folder:
        write_seeds(fuzz_target(device), Path(folder))
        command = [sys.executable, "-m", "edgepain.benchmarks.fuzz_harness", device, folder]
        # 0 would be a seed by the time.
        command += [f"-max_total_time={max(round(seconds), 1)}", f"-seed={seed + 1}", f"-max_len={LONGEST_INPUT}"]
        command += ["-print_final_stats=1", f"-rss_limit_mb={MOST_MEMORY_MB}", f"-artifact_prefix=fuzz-{device}-"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", check=False, timeout=seconds + _GRACE_S
            )
            text, failed = done.stderr, done.returncode != 0
        except subprocess.TimeoutExpired as expired:
            text, failed = (expired.stderr or b"").decode(errors="replace"), True
    told = {kind: (int(runs), int(covered)) for runs, kind, covered in _PROGRESS.findall(text)}
    runs, coverage = told.get("DONE", (0, 0))
    return GuidedRow(
        device,
        seconds,
        runs,
        told.get("INITED", (0, 0))[1],
        coverage,
        _number(_NEW, text),
        _number(_MEMORY, text),
        "\n".join(text.splitlines()[-12:]) if failed else "",
    )


def _number(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    return int(found[1]) if found else 0
