"""Many simulated wearables in one process, each on a pseudo-terminal of its own, for `edgepain bench ward`.

A frame holds 10 samples (f4) of EDA or of a pulse wave; every sample is the moment at which its frame was written, in
seconds of the monotonic clock modulo 64, so that the reader can say how long it took. Some frames are not sent, and
counted: the reader has to miss just those.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import select
import sys
import time
import tty
from collections import Counter

import msgspec
import numpy as np

from edgepain.firmware_bridge.edgeframe import DEVICE_STREAM, Frame, FrameType, encode
from edgepain.firmware_bridge.hello import Hello, StreamHello, encode_hello

SAMPLES_A_FRAME = 10
HELLO_PERIOD_S = 2.0
TURN_S = 64.0
# Of frames before the first and after the last one nobody can know; so those of the first and last second are sent.
_SURE_S = 1.0


class _Wearable:
    """EDA and a pulse wave at one rate, written to a pseudo-terminal that a reader may be slow to read."""

    def __init__(self, number: int, rate_hz: float, drop: float) -> None:
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.master, False)
        streams = tuple(StreamHello(name, unit, rate_hz, "f4") for name, unit in (("eda", "uS"), ("bvp", "a.u.")))
        self.hello = Hello(f"wearable {number}", "ward 1", number + 1, 0, streams)
        self.counts: Counter[str] = Counter()
        self._random = np.random.default_rng(number)
        self._drop = drop
        self._rate_hz = rate_hz
        self._seq = [0, 0]
        self._own_seq = 0

    def introduce(self, at_s: float) -> None:
        at_us = int(at_s * 1e6)
        payload = encode_hello(msgspec.structs.replace(self.hello, uptime_us=at_us))
        self._own_seq += 1
        self._write(encode(Frame(FrameType.HELLO, DEVICE_STREAM, self._own_seq, at_us, payload)))

    def measure(self, stream: int, sure: bool) -> None:
        """One frame, whose samples were just taken."""
        seq = self._seq[stream]
        self._seq[stream] += 1
        if not sure and self._random.random() < self._drop:
            self.counts["swallowed"] += 1
            return
        values = np.full(SAMPLES_A_FRAME, time.monotonic() % TURN_S, "<f4").tobytes()
        first_us = int(seq * SAMPLES_A_FRAME / self._rate_hz * 1e6)
        if self._write(encode(Frame(FrameType.DATA, stream, seq, first_us, values, 0, SAMPLES_A_FRAME))):
            self.counts["sent"] += 1
        else:
            self.counts["full"] += 1

    def _write(self, wire: bytes) -> bool:
        """Whether there was room; a frame goes as a whole, or a reader would take its rest for noise."""
        if not select.select([], [self.master], [], 0)[1]:
            return False
        with contextlib.suppress(BlockingIOError):
            return os.write(self.master, wire) == len(wire)
        return False


def play(count: int, rate_hz: float, seconds: float, drop: float) -> None:
    """Open the ports and print them, start at a line on stdin, play, and print what was sent: JSON a line."""
    wearables = [_Wearable(number, rate_hz, drop) for number in range(count)]
    _say([os.ttyname(wearable.slave) for wearable in wearables])
    sys.stdin.readline()
    began_s = time.monotonic()
    period_s = SAMPLES_A_FRAME / rate_hz
    # (when, wearable, stream or -1 for HELLO); spread over a period, as wearables are not in step.
    due = [(period_s * (1 + k / count), k, stream) for k in range(count) for stream in (0, 1)]
    due += [(HELLO_PERIOD_S * k / count, k, -1) for k in range(count)]
    for wearable in wearables:
        wearable.introduce(0.0)
    heapq.heapify(due)
    while due:
        at_s, number, stream = heapq.heappop(due)
        time.sleep(max(began_s + at_s - time.monotonic(), 0.0))
        if stream < 0:
            wearables[number].introduce(at_s)
        else:
            wearables[number].measure(stream, sure=not _SURE_S < at_s < seconds - _SURE_S)
        next_s = at_s + (HELLO_PERIOD_S if stream < 0 else period_s)
        if next_s <= seconds:
            heapq.heappush(due, (next_s, number, stream))
    _say([dict(wearable.counts) for wearable in wearables])
    # The ports stay until the reader has read them empty.
    sys.stdin.readline()


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    play(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
