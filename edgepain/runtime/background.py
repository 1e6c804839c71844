"""What shows a recording must not hold it up: a sink in a thread of its own, which may stall, fail or go away."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from types import TracebackType
from typing import Any

from edgepain.errors import DataError
from edgepain.runtime.decision import Decision
from edgepain.signal import DeviceInfo, LinkChange, Marker

# A quarter of an hour of decisions and markers.
WAITING = 1000
LAST_WAIT_S = 3.0


class Background:
    """Hands everything on to `sink` from another thread, in order, and never waits for it. A context manager.

    sink: with the methods that are called. opened: entered and left in that thread, such as a live display. first: what
    is called before all else. What does not fit a queue of 1000 is left out and counted. A sink that raises is told of
    once on standard error and gets nothing more.

    The end waits 3 s for what is left and raises DataError where not everything was handed on, unless something else
    is being raised.
    """

    def __init__(
        self,
        sink: Any,
        opened: AbstractContextManager[object] | None = None,
        first: Callable[[], None] | None = None,
    ) -> None:
        self._sink = sink
        self._opened = opened or nullcontext()
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue(WAITING)
        if first is not None:
            self._calls.put(first)
        self._left_out = 0
        self._failure = ""
        # A daemon: a write that never ends must not keep the process.
        self._thread = threading.Thread(target=self._work, name="display", daemon=True)

    def device(self, device: DeviceInfo) -> None:
        """See `Sink`."""
        self._put(partial(self._sink.device, device))

    def link(self, change: LinkChange) -> None:
        """See `Sink`."""
        self._put(partial(self._sink.link, change))

    def marker(self, marker: Marker) -> None:
        """See `Sink`."""
        self._put(partial(self._sink.marker, marker))

    def decision(self, decision: Decision) -> None:
        """See `Sink`."""
        self._put(partial(self._sink.decision, decision))

    def recorded(self, recorded: object) -> None:
        """See `RecordingSink`."""
        self._put(partial(self._sink.recorded, recorded))

    def summary(self, summary: object) -> None:
        """See `Sink` and `RecordingSink`."""
        self._put(partial(self._sink.summary, summary))

    def _put(self, call: Callable[[], None] | None) -> None:
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self._left_out += 1

    def _work(self) -> None:
        try:
            with self._opened:
                while (call := self._calls.get()) is not None:
                    call()
        # Whatever it is, it must be seen: nobody waits for this thread.
        except Exception as error:
            broken = isinstance(error, BrokenPipeError)
            self._failure = "its reader went away" if broken else str(error) or type(error).__name__
            with suppress(OSError, ValueError):
                print(f"the output ended ({self._failure}); the recording goes on", file=sys.stderr, flush=True)  # noqa: T201

    def __enter__(self) -> Background:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            with suppress(queue.Full):
                self._calls.put(None, timeout=LAST_WAIT_S)
            self._thread.join(LAST_WAIT_S)
        if kind is None and (trouble := self._trouble()):
            raise DataError(f"the recording is complete, but not what was shown of it: {trouble}")

    def _trouble(self) -> str:
        if self._failure:
            return self._failure
        if self._thread.is_alive():
            return f"nobody takes the output, {self._calls.qsize() + self._left_out} messages are left"
        return f"{self._left_out} messages were left out, the output was too slow" if self._left_out else ""
