"""How far host times are off that a lower envelope gives, beside least squares, over SYNTHETIC links.

Nothing here was measured on a radio: delays are drawn from distributions, so that the true time is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from edgepain.firmware_bridge import DeviceClock

_Times = npt.NDArray[np.float64]

SECONDS, KNOWN_S = 180.0, 66.0
SKEW_PPM = 60.0
_STALL_S, _STALL_EVERY_S = (0.2, 0.9), 8.0


@dataclass(frozen=True)
class Link:
    """frame_s: time between frames. jitter_s: [n] delays beside the constant one, which nobody can see."""

    frame_s: float
    jitter_s: Callable[[np.random.Generator, int], _Times]


LINKS: Mapping[str, Link] = {
    "USB, 16 ms batches": Link(1 / 25, lambda random, n: random.uniform(0, 0.016, n)),
    "Bluetooth": Link(1 / 12, lambda random, n: random.gamma(2, 0.004, n)),
    "one frame a second": Link(1.0, lambda random, n: random.exponential(0.006, n)),
}


class ClockRow(msgspec.Struct, frozen=True):
    """One link, with stalls. Greatest errors in ms, the median of the sessions and the worst of them.

    envelope: of each newest sample, in the two minutes after the first. least_squares: of the same, by a line through
    all arrivals so far. first_minute: of the envelope before, where no skew is assumed. stated: what `ClockSkew` says.
    """

    link: str
    envelope_ms: tuple[float, float]
    least_squares_ms: tuple[float, float]
    first_minute_ms: tuple[float, float]
    stated_ms: float


def clock_rows(sessions: int = 10) -> tuple[ClockRow, ...]:
    """Every link, `sessions` of 3 minutes each."""
    return tuple(_row(name, sessions) for name in LINKS)


def synthetic_arrivals(link: Link, seconds: float, skew_ppm: float, seed: int) -> tuple[_Times, _Times, _Times]:
    """Device times, arrivals, and when each would have arrived without jitter, [n] s each.

    The link stalls for 0.2 to 0.9 s, 8 s apart in the mean; what was held up comes in a burst afterwards.
    """
    random = np.random.default_rng(seed)
    true_s = np.arange(0.0, seconds, link.frame_s)
    jitter_s = link.jitter_s(random, true_s.size)
    arrival_s, begin_s = true_s + jitter_s, random.exponential(_STALL_EVERY_S)
    while begin_s < seconds:
        end_s = begin_s + random.uniform(*_STALL_S)
        held_up = (arrival_s >= begin_s) & (arrival_s < end_s)
        arrival_s = np.where(held_up, end_s + jitter_s / 10, arrival_s)
        begin_s = end_s + random.exponential(_STALL_EVERY_S)
    return true_s * (1 + skew_ppm * 1e-6), 1000.0 + np.maximum.accumulate(arrival_s), 1000.0 + true_s


def _row(name: str, sessions: int) -> ClockRow:
    found = [_session(LINKS[name], seed) for seed in range(sessions)]
    envelope, squares, first, stated = (1e3 * np.array(column) for column in zip(*found, strict=True))
    return ClockRow(name, _told(envelope), _told(squares), _told(first), float(np.median(stated)))


def _told(errors_ms: _Times) -> tuple[float, float]:
    return float(np.median(errors_ms)), float(errors_ms.max())


def _session(link: Link, seed: int) -> tuple[float, float, float, float]:
    """Greatest errors in s of one session: envelope, least squares, envelope in the first minute; what is stated."""
    device_s, arrival_s, true_s = synthetic_arrivals(link, SECONDS, SKEW_PPM * (1 if seed % 2 else -1), seed)
    clock, offset_s = DeviceClock(), arrival_s - device_s
    errors: dict[str, list[float]] = {"envelope": [], "first": [], "squares": []}
    for k, (at_s, came_s) in enumerate(zip(device_s.tolist(), arrival_s.tolist(), strict=True)):
        clock.update(at_s, came_s)
        host_s = clock.host_s(at_s)
        if host_s is not None:
            errors["envelope" if at_s >= KNOWN_S else "first"].append(abs(host_s - true_s[k]))
        if at_s >= KNOWN_S:
            seen = slice(k + 1)
            line = np.polyfit(device_s[seen] - at_s, offset_s[seen], 1)
            # Its constant part is a mean delay, which is no error of a clock: only what changes counts.
            errors["squares"].append(float(at_s + line[1] - true_s[k]))
    squares = np.array(errors["squares"])
    wander_s = float(np.abs(squares - np.median(squares)).max())
    return max(errors["envelope"]), wander_s, max(errors["first"]), 1e-3 * (clock.skew().uncertainty_ms or 0.0)
