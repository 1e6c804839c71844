"""When the values of a line were taken: by the board's clock where lines carry it, else by this machine's.

Both give session time: 0 at the first value, never backwards, on after a restart by the host's clock.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgepain.firmware_bridge.assembler import RESTART_GAP_S

MIN_RATE_HZ, MAX_RATE_HZ = 0.5, 10_000.0
# Times of two lines that follow each other; what is further ahead is a gap or a damaged digit, and the next line tells.
_JUMP_S, _JUMP_LINES = 0.25, 5
# Longer steps of times that tell a rate are none.
_LEARNT_STEPS = 8
# Lines of different signals may be sent a little out of order.
_SLACK_S = 1.0
_SILENCE_S = 2.0
_WINDOW_S = 1.0
# A delay that stays for a whole window is a gap, not jitter.
_GAP_S = 0.25
# Share of a window's delay by which the spacing (half of it, for one window) and the rate (a tenth) are corrected.
_SLEW, _LEARN = 0.5, 0.1


def rate_of(times_s: Sequence[float]) -> tuple[float, float]:
    """Lines a second by their times, where some may be missing or doubled, and by what share of that it is uncertain
    (standard error of the regression); 0 where these tell no rate."""
    steps_s = np.diff(times_s)
    usual_s = float(np.median(steps_s))
    usual = (steps_s > 0.5 * usual_s) & (steps_s < 1.5 * usual_s)
    if usual_s <= 0 or not usual.any():
        return 0.0, 0.0
    usual_s = float(steps_s[usual].mean())
    # A clock that wrapped or began again, or a damaged digit, tells nothing.
    steps_s = np.where((steps_s >= 0) & (steps_s <= _LEARNT_STEPS * usual_s), steps_s, usual_s)
    at_s, number = np.cumsum(steps_s), np.cumsum(np.rint(steps_s / usual_s))
    spread = number - number.mean()
    period_s = float(spread @ at_s / (spread @ spread)) if number[-1] > number[0] else usual_s
    rest_s = at_s - at_s.mean() - period_s * spread
    error = float(np.sqrt((rest_s @ rest_s) / max(rest_s.size - 2, 1) / max(spread @ spread, 1.0))) / period_s
    return (1.0 / period_s, error) if MIN_RATE_HZ <= 1.0 / period_s <= MAX_RATE_HZ else (0.0, 0.0)


class BoardTimes:
    """Session times by the board's clock, which wraps every `wrap_s`. starts: how often it began."""

    def __init__(self, wrap_s: float) -> None:
        self.starts = 0
        self._wrap_s = wrap_s
        self._jump_s, self._slack_s = _JUMP_S, _SLACK_S
        self._latest_s: float | None = None
        self._doubtful_s: float | None = None
        self._turns_s = self._zero_s = self._base_s = self._end_s = self._arrival_s = 0.0

    def expect(self, rate_hz: float) -> None:
        """So many lines a second at least, those of the slowest signal."""
        self._jump_s = max(_JUMP_S, _JUMP_LINES / rate_hz)
        self._slack_s = max(_SLACK_S, self._jump_s)

    def cut(self) -> None:
        """The line was cut: the board may have restarted."""
        self._latest_s = self._doubtful_s = None

    def place(self, board_s: float, arrival_s: float) -> float | None:
        """Session time of what the board took at `board_s`; None where it is not to be believed."""
        time_s = board_s + self._turns_s
        if self._latest_s is None:
            self._begin(board_s, arrival_s)
        elif -self._slack_s <= time_s - self._latest_s <= self._jump_s:
            self._latest_s = max(self._latest_s, time_s)
        elif 0 < time_s + self._wrap_s - self._latest_s <= self._jump_s:
            self._turns_s += self._wrap_s
            self._latest_s = time_s + self._wrap_s
        elif self._doubtful_s is None or not -self._slack_s <= board_s - self._doubtful_s <= self._jump_s:
            self._doubtful_s = board_s
            return None
        elif time_s > self._latest_s:
            self._latest_s = time_s
        else:
            self._begin(board_s, arrival_s)
        self._doubtful_s = None
        at_s = self._base_s + board_s + self._turns_s - self._zero_s
        self._end_s, self._arrival_s = max(self._end_s, at_s), arrival_s
        return at_s

    def _begin(self, board_s: float, arrival_s: float) -> None:
        if self.starts:
            self._base_s = self._end_s + max(arrival_s - self._arrival_s, RESTART_GAP_S)
        self.starts += 1
        self._turns_s = 0.0
        self._zero_s = self._latest_s = board_s


class HostTimes:
    """Session times of lines that carry none: evenly spaced, held to the earliest arrivals of every second.

    A line can arrive late, never early, so the smallest delay of a second says how far the spacing is off. What stays
    late for a whole second is a gap of that length, and times jump over it.
    """

    def __init__(self, rate_hz: float) -> None:
        self._nominal_s = self._period_s = 1.0 / rate_hz
        self._zero_s: float | None = None
        self._last_s = -self._period_s
        self._arrival_s = self._window_s = self._owed_s = 0.0
        self._slew = 1.0
        self._least_s = float("inf")
        self._fresh = True

    def cut(self) -> None:
        """The line was cut: what comes next is placed by its arrival."""
        self._fresh = True

    def place(self, count: int, arrival_s: float) -> list[float]:
        """Session times of the `count` values that were read at `arrival_s`."""
        if self._zero_s is None:
            self._zero_s = arrival_s - (count - 1) * self._period_s
        silent = arrival_s - self._arrival_s > _SILENCE_S + count * self._nominal_s
        if self._fresh or silent:
            first_s = arrival_s - self._zero_s - (count - 1) * self._period_s
            self._open_window(arrival_s)
            self._owed_s, self._slew = max(first_s - self._last_s - self._period_s, 0.0), 1.0
        step_s = self._period_s * self._slew
        times_s = [self._last_s + self._owed_s + step_s * k for k in range(1, count + 1)]
        self._last_s, self._arrival_s, self._owed_s, self._fresh = times_s[-1], arrival_s, 0.0, False
        self._least_s = min(self._least_s, arrival_s - self._zero_s - self._last_s)
        if arrival_s - self._window_s >= _WINDOW_S:
            self._settle(arrival_s)
        return times_s

    def _settle(self, arrival_s: float) -> None:
        late_s = self._least_s
        if late_s > _GAP_S:
            self._owed_s, self._slew = late_s, 1.0
        else:
            share = max(late_s / (arrival_s - self._window_s), -1.0)
            self._slew = 1.0 + _SLEW * share
            learnt_s = self._period_s * (1.0 + _LEARN * share)
            self._period_s = min(max(learnt_s, self._nominal_s / 2), self._nominal_s * 2)
        self._open_window(arrival_s)

    def _open_window(self, arrival_s: float) -> None:
        self._window_s, self._least_s = arrival_s, float("inf")
