"""A ward of simulated wearables read by one process: what is lost, how much memory and processor it takes, how late."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edgepain.benchmarks.machine import Machine, this_machine
from edgepain.benchmarks.ward_wearables import SAMPLES_A_FRAME, TURN_S
from edgepain.errors import VerificationError
from edgepain.firmware_bridge import DeviceSource
from edgepain.firmware_bridge.ward import Ward
from edgepain.signal import LinkState, Samples

STREAMS = 2
# One percent apart, from a microsecond to a minute.
_EDGES_S = 1e-6 * 1.01 ** np.arange(1800)
_SETTLE_S = 1.0
_OPEN_S = 20.0
_FIRST_MINUTE_S = 60.0


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds, to one percent."""

    p50: float
    p99: float
    most: float


class WardReport(msgspec.Struct, frozen=True):
    """What came of a ward. swallowed: frames that the wearables counted and did not send. lost: that the reader missed.

    full: that no port took, as its reader was late. unaccounted: frames neither received nor counted as lost. dropped:
    events that waited too long in the ward. failed: sources that ended before their time, and why. processor_percent:
    of one core, for all and for one stream (of two a wearable). memory_mb: resident, after a minute (or half the time)
    and at the end. write_to_read_ms: from the wearable's write to the read of the last byte; write_to_sample_ms:
    until the samples were in the hands of the ward's user.
    """

    machine: Machine
    devices: int
    rate_hz: float
    seconds: float
    frames_sent: int
    swallowed: int
    full: int
    frames: int
    lost: int
    unaccounted: int
    samples: int
    crc_errors: int
    dropped: int
    failed: dict[str, str]
    processor_percent: float
    processor_percent_a_stream: float
    memory_mb: tuple[float, float]
    write_to_read_ms: Latency
    write_to_sample_ms: Latency

    @property
    def sound(self) -> bool:
        """Whether nothing is missing but what was not sent."""
        clean = not (self.failed or self.dropped or self.crc_errors or self.full or self.unaccounted)
        return clean and self.lost == self.swallowed and self.frames == self.frames_sent


class _Meter:
    """Latencies in a histogram, so that a long run takes no more memory than a short one."""

    def __init__(self) -> None:
        self._counts: npt.NDArray[np.int64] = np.zeros(_EDGES_S.size + 1, np.int64)
        self._most_s = 0.0

    def add(self, seconds: float) -> None:
        self._counts[np.searchsorted(_EDGES_S, seconds)] += 1
        self._most_s = max(self._most_s, seconds)

    def latency(self) -> Latency:
        upto = np.cumsum(self._counts)
        p50, p99 = (
            float(_EDGES_S[min(np.searchsorted(upto, share * upto[-1]), _EDGES_S.size - 1)]) for share in (0.5, 0.99)
        )
        return Latency(p50 * 1e3, p99 * 1e3, self._most_s * 1e3)


def benchmark_ward(
    devices: int = 32,
    rate_hz: float = 128.0,
    seconds: float = 600.0,
    drop: float = 0.001,
    progress: Callable[[float], None] = lambda seconds: None,
) -> WardReport:
    """Read `devices` simulated wearables of two streams for so many seconds. drop: share of frames that are not sent.

    Raises VerificationError where the wearables could not be simulated.
    """
    with _wearables(devices, rate_hz, seconds, drop) as process:
        ports = _heard(process)
        with Ward({port: partial(DeviceSource, port) for port in ports}) as ward:
            return _read(ward, process, (devices, rate_hz, seconds), progress)


def _read(
    ward: Ward,
    process: subprocess.Popen[str],
    size: tuple[int, float, float],
    progress: Callable[[float], None],
) -> WardReport:
    devices, rate_hz, seconds = size
    arrived, in_hand = _Meter(), _Meter()
    samples = 0
    failed: dict[str, str] = {}
    _open_all(ward)
    _say(process)
    began_s, worked_s = time.monotonic(), time.process_time()
    memory_mb = [0.0, 0.0]
    while (now_s := time.monotonic() - began_s) < seconds + _SETTLE_S:
        for name, event in ward.recv(0.1):
            if isinstance(event, Samples):
                written_s = float(event.values[0])
                arrived.add((event.arrival_s - written_s) % TURN_S)
                in_hand.add((time.monotonic() - written_s) % TURN_S)
                samples += event.values.size
            elif getattr(event, "state", None) is LinkState.CLOSED:
                failed[name] = event.detail  # type: ignore[union-attr]
        if now_s < min(_FIRST_MINUTE_S, seconds / 2):
            memory_mb[0] = _resident_mb()
        progress(now_s)
    worked_s = time.process_time() - worked_s
    memory_mb[1] = _resident_mb()
    told: Counter[str] = sum((Counter(each) for each in _heard(process)), Counter())
    members = ward.members()
    lost = sum(member.stats.frames_lost for member in members)
    share = 100.0 * worked_s / (seconds + _SETTLE_S)
    return WardReport(
        machine=this_machine(),
        devices=devices,
        rate_hz=rate_hz,
        seconds=seconds,
        frames_sent=told["sent"],
        swallowed=told["swallowed"],
        full=told["full"],
        frames=samples // SAMPLES_A_FRAME,
        lost=lost,
        unaccounted=told["sent"] + told["swallowed"] - samples // SAMPLES_A_FRAME - lost,
        samples=samples,
        crc_errors=sum(member.stats.crc_errors + member.stats.malformed for member in members),
        dropped=sum(member.dropped for member in members),
        failed=failed,
        processor_percent=share,
        processor_percent_a_stream=share / (devices * STREAMS),
        memory_mb=(memory_mb[0], memory_mb[1]),
        write_to_read_ms=arrived.latency(),
        write_to_sample_ms=in_hand.latency(),
    )


def _open_all(ward: Ward) -> None:
    """Wait until every port is open: what is sent before is nobody's loss."""
    end_s = time.monotonic() + _OPEN_S
    while any(member.state is LinkState.LOST for member in ward.members()) and time.monotonic() < end_s:
        ward.recv(0.1)


@contextlib.contextmanager
def _wearables(devices: int, rate_hz: float, seconds: float, drop: float) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "edgepain.benchmarks.ward_wearables", *map(str, (devices, rate_hz, seconds, drop))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _heard(process: subprocess.Popen[str]) -> list[Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise VerificationError("the simulated wearables ended before their time; look at what they printed")
    told: list[Any] = json.loads(line)
    return told


def _say(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _resident_mb() -> float:
    """What this process holds now, of /proc; the most it ever held where there is none."""
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return float("nan")
