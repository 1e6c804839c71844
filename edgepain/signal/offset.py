"""The offset between two clocks, as it is used on signals."""

from __future__ import annotations

_TOLERANCE_S = 1e-3
_SLEW = 500e-6
# What is further off than this is no drift.
_STEP_S = 0.05


class SteadyOffset:
    """An offset that is measured again and again, followed without a step that would pass for a gap in a signal.

    What is within 1 ms is left alone; what is further off is approached by 500 ppm of the time that passes;
    what is 50 ms off or more, at once.
    """

    def __init__(self) -> None:
        self._offset_s: float | None = None
        self._at_s = 0.0

    def follow(self, measured_s: float, at_s: float) -> float:
        """The offset to use at `at_s`."""
        if self._offset_s is None:
            self._offset_s = measured_s
        off_s = measured_s - self._offset_s
        if abs(off_s) >= _STEP_S:
            self._offset_s = measured_s
        elif abs(off_s) > _TOLERANCE_S:
            most_s = _SLEW * max(at_s - self._at_s, 0.0)
            self._offset_s += min(max(off_s, -most_s), most_s)
        self._at_s = at_s
        return self._offset_s
