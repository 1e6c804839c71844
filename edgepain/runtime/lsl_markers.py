"""Markers that another program sends as a stream of the Lab Streaming Layer."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from edgepain.lsl import load_lsl, monotonic_offset_s
from edgepain.runtime.markers import parse_line
from edgepain.signal import Marker

# A stream that is not there (yet, or any more) is looked for so often.
_LOOK_PERIOD_S = 1.0
_FORGET_S = 5.0
# Long, because a sender that leaves between two pulls is lost with its last words; `close` waits for the end of one.
_PULL_S = 0.5


class _Inlet:
    """One sender. liblsl throws away what waits when a sender leaves, so a thread takes each text as it comes.

    over: nothing more will come; what waits is all.
    """

    def __init__(self, lsl: Any, info: Any) -> None:
        self._lsl = lsl
        self._inlet = lsl.StreamInlet(info, recover=False)
        self._correction_s: float | None = None
        self._stopped = threading.Event()
        self._waiting: deque[tuple[str, float, float]] = deque()
        self.trouble: deque[str] = deque()
        self._thread = threading.Thread(target=self._run, name="LSL markers", daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    def take(self) -> list[tuple[str, float]]:
        """Texts and their times on this machine's monotonic clock."""
        over = self.over
        with contextlib.suppress(self._lsl.util.LostError, self._lsl.util.TimeoutError):
            self._correction_s = self._inlet.time_correction(timeout=0.0)
        if self._correction_s is None and not over:
            # The first answer of the other clock takes a moment; markers wait for it.
            return []
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if self._correction_s is None:
            return [(text, came_s) for text, _, came_s in taken]
        to_here_s = self._correction_s + monotonic_offset_s()
        return [(text, stamp_s + to_here_s) for text, stamp_s, _ in taken]

    def stop(self) -> None:
        self._stopped.set()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._pull()
        except self._lsl.util.LostError:
            return
        # Whatever it was: without its thread nobody would see it.
        except Exception as error:
            self.trouble.append(f"markers may be missing here: {error}")

    def _pull(self) -> None:
        try:
            texts, stamp_s = self._inlet.pull_sample(timeout=_PULL_S)
        except UnicodeDecodeError:
            self.trouble.append("a marker is missing here: it was no UTF-8")
            return
        if texts is not None:
            self._waiting.append((" ".join(texts), stamp_s, time.monotonic()))


class LslMarkers:
    """A stream of texts by its name; see `MarkerSource`. It may come and go: it is looked for again and again.

    Each text is a label, with a value where a number stands at its end: `NRS 7`. Several channels are joined by blanks.
    Its time is the sender's, moved to this machine's clock; or when it came, where the sender left before its clock was
    known. What went wrong is told as a marker.

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
        return [marker for uid in list(self._inlets) for marker in self._take(uid)]

    def close(self) -> None:
        """Leave the stream."""
        self._resolver = None
        for each in self._inlets.values():
            each.stop()
        for each in self._inlets.values():
            each.join()
        self._inlets.clear()

    def _look(self) -> None:
        for info in self._resolver.results():
            if info.uid() not in self._inlets and info.channel_format() == self._lsl.cf_string:
                self._inlets[info.uid()] = _Inlet(self._lsl, info)

    def _take(self, uid: str) -> Iterator[Marker]:
        each = self._inlets[uid]
        if each.over:
            del self._inlets[uid]
        for text, at_s in each.take():
            if parsed := parse_line(text):
                yield _marker(at_s, *parsed, self._name)
        while each.trouble:
            yield _marker(time.monotonic(), each.trouble.popleft(), None, "edgepain")


def _marker(at_s: float, label: str, value: float | None, source: str) -> Marker:
    return Marker(at_s, time.time() + at_s - time.monotonic(), label, value, source)
