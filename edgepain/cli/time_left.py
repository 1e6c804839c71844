"""How long a training in stages still takes."""

from __future__ import annotations

from collections.abc import Mapping

# Time of one epoch by kind of stage, beside one of the FCN: rough, as measured on a CPU. Used for kinds that have
# not been timed yet; how they relate changes with the processor.
COST = {"fcn": 1.0, "alstm": 0.35, "transformer": 3.5}
CROSSMOD_COST = {"pooled": 0.1, "sequence": 8.0}


class TimeLeft:
    """Counts epochs and their seconds. epochs: of every stage by its name, such as `fcn.eda`."""

    def __init__(self, epochs: Mapping[str, int], fusion: str) -> None:
        self._left = dict(epochs)
        self._cost = {**COST, "crossmod": CROSSMOD_COST[fusion]}
        self._timed: dict[str, list[float]] = {}

    def begin(self, stage: str, left: int) -> None:
        """A stage begins with so many epochs left."""
        self._left[stage] = left

    def add(self, stage: str, seconds: float) -> float:
        """An epoch of the stage took so many seconds. Returns the seconds left in all stages."""
        self._left[stage] -= 1
        self._timed.setdefault(_kind(stage), []).append(seconds)
        return sum(left * self._epoch_s(_kind(stage)) for stage, left in self._left.items())

    def _epoch_s(self, kind: str) -> float:
        if kind in self._timed:
            return sum(self._timed[kind]) / len(self._timed[kind])
        seconds = sum(sum(times) for times in self._timed.values())
        return self._cost[kind] * seconds / sum(self._cost[k] * len(times) for k, times in self._timed.items())


def _kind(stage: str) -> str:
    return stage.partition(".")[0]
