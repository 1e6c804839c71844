"""Whether the computer slept: its monotonic clock stands still then, and the clock since boot does not."""

from __future__ import annotations

import time
from collections.abc import Callable

from edgepain.signal import Marker

# The two clocks are read one after the other, so that a little difference says nothing.
LEAST_S = 0.5
# How a sleep is noted in a recording.
SLEPT, HOST = "the computer slept", "host"

Clocks = Callable[[], tuple[float, float]]


def host_clocks() -> tuple[float, float]:
    """Seconds of the monotonic clock, and of the one that goes on in sleep; the same where the system has only one."""
    since_boot = getattr(time, "CLOCK_BOOTTIME", None)
    now_s = time.monotonic()
    return now_s, now_s if since_boot is None else time.clock_gettime(since_boot)


def is_sleep(marker: Marker) -> bool:
    """Whether it notes that the computer slept; its value is for how long."""
    return (marker.label, marker.source) == (SLEPT, HOST)


def told(seconds: float) -> str:
    """For a person."""
    return f"{SLEPT} for {seconds:.1f} s; what was measured meanwhile is missing"


class SleepWatch:
    """Says how long the computer slept since it was asked last."""

    def __init__(self, clocks: Clocks = host_clocks) -> None:
        self._clocks = clocks
        self._apart_s = self._measure()

    def slept_s(self) -> float:
        """Seconds; 0 where it did not sleep."""
        before_s, self._apart_s = self._apart_s, self._measure()
        slept_s = self._apart_s - before_s
        return slept_s if slept_s >= LEAST_S else 0.0

    def _measure(self) -> float:
        awake_s, since_boot_s = self._clocks()
        return since_boot_s - awake_s
