"""Markers that another program sends as a stream of the Lab Streaming Layer."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from edgepain.lsl import load_lsl, monotonic_offset_s
from edgepain.runtime.markers import parse_line
from edgepain.signal import Marker

# A stream that is not there (yet, or any more) is looked for so often.
_LOOK_PERIOD_S = 1.0
_FORGET_S = 5.0


@dataclass
class _Inlet:
    inlet: Any
    waiting: list[tuple[list[str], float]] = field(default_factory=list)


class LslMarkers:
    """A stream of texts by its name; see `MarkerSource`. It may come and go: it is looked for again and again.

    Each text is a label, with a value where a number stands at its end: `NRS 7`. Several channels are joined by blanks.
    Its time is the sender's, moved to this machine's clock.

    Raises MissingExtraError.
    """

    def __init__(self, name: str) -> None:
        self._lsl = lsl = load_lsl()
        self._name = name
        self._resolver: Any = lsl.ContinuousResolver(prop="name", value=name, forget_after=_FORGET_S)
        self._inlets: dict[str, _Inlet] = {}
        self._looked_s = float("-inf")

    @property
    def found(self) -> bool:
        """Whether the stream is there."""
        return bool(self._inlets)

    def poll(self) -> list[Marker]:
        """Markers since the last call."""
        if self._resolver is not None and time.monotonic() - self._looked_s >= _LOOK_PERIOD_S:
            self._looked_s = time.monotonic()
            self._look()
        return [marker for uid in list(self._inlets) for marker in self._pull(uid)]

    def close(self) -> None:
        """Leave the stream."""
        self._resolver = None
        self._inlets.clear()

    def _look(self) -> None:
        for info in self._resolver.results():
            if info.uid() not in self._inlets and info.channel_format() == self._lsl.cf_string:
                self._inlets[info.uid()] = _Inlet(self._lsl.StreamInlet(info, recover=False))

    def _pull(self, uid: str) -> list[Marker]:
        each = self._inlets[uid]
        try:
            texts, stamps_s = each.inlet.pull_chunk(timeout=0.0)
            each.waiting += zip(texts, stamps_s, strict=True)
            to_here_s = each.inlet.time_correction(timeout=0.0) + monotonic_offset_s()
        except self._lsl.util.LostError:
            del self._inlets[uid]
            return []
        except self._lsl.util.TimeoutError:
            # The first answer of the other clock takes a moment; markers wait for it.
            return []
        waiting, each.waiting = each.waiting, []
        markers = [self._marker(" ".join(text), stamp_s + to_here_s) for text, stamp_s in waiting]
        return [marker for marker in markers if marker is not None]

    def _marker(self, text: str, at_s: float) -> Marker | None:
        parsed = parse_line(text)
        if parsed is None:
            return None
        return Marker(at_s, time.time() + at_s - time.monotonic(), *parsed, self._name)
