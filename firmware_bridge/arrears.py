"""How many frames are missing of a device whose sequence number, or clock, is too short to tell.

A frame is measured every 1/rate and can arrive late, never early. The smallest delay of the last seconds is the floor;
what is above it is behind:

    behind     measured by now, by the floor, and not here: on the way still, or lost
    a silence  says nothing by itself: all of it may come yet
    backlog    what comes faster than it was measured; behind shrinks
    lost       what is still behind when it shrinks no more

So nothing is called lost until frames come as fast as they are measured again.
"""

from __future__ import annotations

from collections import deque

# Shorter pauses are the line's jitter.
SILENCE_S = 0.25
# The floor is that of this long ago at the most twice: two clocks part by less than a millisecond in it.
_FLOOR_S = 5.0
# Behind shrinks no more where its least in each quarter of this long is as good as the same.
_STEADY_S, _STEADY_FRAMES = 1.0, 16
_EQUAL_S = 0.004
# So many times that long (in arrivals, and in frames), then it is given up: a line that never comes to rest.
_PATIENCE, _MOST_FRAMES = 5, 50
_MOST_READS = 2048


class Arrears:
    """What is missing of a stream that counts to `turn` and begins anew, `rate_hz` a second, `step` a frame."""

    def __init__(self, rate_hz: float, turn: int, step: int = 1) -> None:
        self._rate_hz = rate_hz
        self._turn = turn
        self._steady_s = max(_STEADY_S, _STEADY_FRAMES * step / rate_hz)
        self._equal = _EQUAL_S * rate_hz
        self._slack = min(self._equal, turn / 4)
        self._arrival_s: float | None = None
        self._window_s = 0.0
        self._least_s = self._before_s = float("inf")
        self._trail: deque[tuple[float, float]] = deque(maxlen=_MOST_READS)
        self._doubt: tuple[float, int] | None = None

    def missing(self, count: int, arrival_s: float) -> int | None:
        """What was lost beside what is counted, a multiple of `turn`; None while that cannot be told.

        count: by the sequence number of the last frame that arrived at `arrival_s`, never less than before. What this
        gave is not to be added to it. The answer is the least that fits.
        """
        silent = self._arrival_s is not None and arrival_s - self._arrival_s >= SILENCE_S
        self._arrival_s = arrival_s
        offset_s = arrival_s - count / self._rate_hz
        if silent:
            self._trail.clear()
            self._doubt = self._doubt or (arrival_s, count)
        if self._doubt is None:
            self._lower(offset_s, arrival_s)
            return 0
        behind = (offset_s - min(self._least_s, self._before_s)) * self._rate_hz
        if behind < self._turn - self._slack:
            self._doubt = None
            self._lower(offset_s, arrival_s)
            return 0
        self._trail.append((arrival_s, behind))
        return self._settled(self._doubt, count, arrival_s)

    def _settled(self, since: tuple[float, int], count: int, arrival_s: float) -> int | None:
        while self._trail[0][0] <= arrival_s - self._steady_s:
            self._trail.popleft()
        least = [float("inf")] * 4
        for at_s, behind in self._trail:
            quarter = min(int(4 * (arrival_s - at_s) / self._steady_s), 3)
            least[quarter] = min(least[quarter], behind)
        if max(least) - min(least) <= self._equal:
            self._begin_anew(least[0])
            return int((min(least) + self._slack) // self._turn) * self._turn
        waited_s, waited = arrival_s - since[0], count - since[1]
        if waited_s > _PATIENCE * self._steady_s or waited > _MOST_FRAMES * self._steady_s * self._rate_hz:
            self._begin_anew(least[0])
            return 0
        return None

    def _begin_anew(self, behind: float) -> None:
        """Nobody is behind any more: what was is lost, or the line takes longer now."""
        self._least_s = min(self._least_s, self._before_s) + behind / self._rate_hz
        self._before_s = float("inf")
        self._doubt = None
        self._trail.clear()

    def _lower(self, offset_s: float, arrival_s: float) -> None:
        if arrival_s - self._window_s >= _FLOOR_S:
            self._before_s, self._least_s, self._window_s = self._least_s, float("inf"), arrival_s
        self._least_s = min(self._least_s, offset_s)
