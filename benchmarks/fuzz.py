"""Damaged bytes by the hundred million into every driver: does it raise, grow, or believe what was never sent?

The driver is fed as a port feeds it, in reads of any size with stalls between them. A second decoder, fed with the
same bytes, is held against what was sent: that is where wrong frames are counted.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from edgepain.benchmarks.fuzz_checks import Inspector
from edgepain.benchmarks.fuzz_targets import TARGETS, Target, fuzz_target
from edgepain.benchmarks.machine import Machine, this_machine
from edgepain.benchmarks.mutations import cuts, mutate
from edgepain.firmware_bridge import Driver, device_kind

PIECE_BYTES = 65_536
BYTES_A_SECOND = 11_520
# Of the bytes, before memory counts.
WARM_UP = 0.1


class FuzzRow(msgspec.Struct, frozen=True):
    """One device. sent: sound frames before the damage. accepted, wrong: frames taken, and those that were never sent.

    by_chance: how many wrong ones its check value lets pass at the most; None without one. grown_mb: memory of the
    process after a tenth of the bytes and at the end. mb_s: of processor time in the driver. error: where it raised.
    """

    device: str
    check: str
    megabytes: float
    sent: int
    accepted: int
    wrong: int
    by_chance: float | None
    grown_mb: float
    mb_s: float
    error: str = ""


class FuzzReport(msgspec.Struct, frozen=True):
    """What was found on which machine. The same seed and size give the same bytes."""

    machine: Machine
    seed: int
    rows: tuple[FuzzRow, ...]


def benchmark_fuzz(
    devices: Sequence[str] = tuple(TARGETS),
    megabytes: float = 100.0,
    seed: int = 0,
    progress: Callable[[str, float], None] = lambda device, share: None,
) -> FuzzReport:
    """Feed `megabytes` of damaged bytes to the driver of each of `devices`. Raises KeyError for an unknown one."""
    rows = tuple(_row(fuzz_target(device), megabytes, seed, progress) for device in devices)
    return FuzzReport(this_machine(), seed, rows)


class _Feeder:
    """A driver on a line, with a clock of its own. Raises what the driver raises, or ValueError for absurd samples."""

    def __init__(self, target: Target) -> None:
        self.fed = 0
        self.busy_s = 0.0
        self.witness = target.witness()
        self._target = target
        self._driver: Driver = device_kind(target.device).driver(target.options)
        self._now_s = 1000.0
        self._inspector = Inspector()
        self.greet()

    def greet(self) -> None:
        self._driver.cut()
        self.witness.cut()
        self._feed(self._target.greeting)
        if self._target.device == "lines":
            self.witness.feed(self._target.greeting)

    def feed(self, data: bytes, random: np.random.Generator) -> None:
        pause_s = len(data) / BYTES_A_SECOND * random.uniform(0.5, 1.5)
        self._now_s += pause_s + (random.exponential(1.0) if random.random() < 0.02 else 0.0)
        self._driver.request(self._now_s)
        self._feed(data)
        self.witness.feed(data)
        self._driver.complaint()
        self._driver.clock.host_s(self._now_s)
        self._driver.stats(0)

    def _feed(self, data: bytes) -> None:
        begin = time.process_time()
        events = self._driver.feed(data, self._now_s)
        self.busy_s += time.process_time() - begin
        self.fed += len(data)
        self._inspector.inspect(events)


def _row(target: Target, megabytes: float, seed: int, progress: Callable[[str, float], None]) -> FuzzRow:
    random, feeder = np.random.default_rng(seed), _Feeder(target)
    stream, total = np.frombuffer(target.wire, np.uint8), megabytes * 1e6
    sent_bytes, warm_mb, error = 0, 0.0, ""
    try:
        while feeder.fed < total:
            begin = sent_bytes % stream.size
            piece = stream[begin : begin + PIECE_BYTES]
            sent_bytes += piece.size
            damaged = mutate(piece, stream, random).tobytes()
            for start, end in cuts(len(damaged), random):
                feeder.feed(damaged[start:end], random)
            if random.random() < 0.02:
                feeder.greet()
            if not warm_mb and feeder.fed >= WARM_UP * total:
                warm_mb = _memory_mb()
            progress(target.device, min(feeder.fed / total, 1.0))
    except Exception as raised:
        at = traceback.extract_tb(raised.__traceback__)[-1]
        error = f"after {feeder.fed} bytes: {type(raised).__name__}: {raised} ({at.filename}:{at.lineno})"
    witness = feeder.witness
    return FuzzRow(
        target.device,
        target.check,
        feeder.fed / 1e6,
        sent_bytes * target.frames // stream.size,
        witness.accepted,
        witness.wrong,
        witness.by_chance,
        _memory_mb() - warm_mb if warm_mb else 0.0,
        feeder.fed / 1e6 / max(feeder.busy_s, 1e-9),
        error,
    )


def _memory_mb() -> float:
    """Of this process, resident."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
