"""Many sources read at once, each by a thread of its own, into bounded queues: nothing ends unseen.

the source raises       LinkChange(CLOSED) with what it raised; the others read on
a reader hangs          LinkChange(STALLED), told by its heart, which beats at every turn; CONNECTED when it goes on
nobody takes the events the oldest samples of that source are dropped and counted; changes of the link never are
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from edgepain.errors import EdgepainError
from edgepain.signal import LinkChange, LinkState, LinkStats, Samples, Source, StreamEvent

POLL_S = 0.2
HUNG_S = 5.0
QUEUE_SAMPLES = 4096
CLOSE_S = 2.0
_OVER = (LinkState.CLOSED, LinkState.ENDED)


@dataclass(frozen=True)
class WardMember:
    """One source, as it is now. state: of its link. detail: why, for a person. dropped: events nobody took in time."""

    name: str
    state: LinkState
    detail: str
    dropped: int
    stats: LinkStats


class Ward:
    """Reads every source of `open`, a function that opens it by its name. A context manager.

    A source is opened by its own thread: one that cannot be opened ends like one that fails. hung_s: how long the heart
    of a reader may stand still. queue_samples: events of samples that are kept for each source.
    """

    def __init__(
        self, open: Mapping[str, Callable[[], Source]], *, hung_s: float = HUNG_S, queue_samples: int = QUEUE_SAMPLES
    ) -> None:
        self._news = threading.Condition()
        self._hung_s = hung_s
        self._readers = {name: _Reader(name, opener, self._news, queue_samples) for name, opener in open.items()}
        for reader in self._readers.values():
            reader.start()

    def recv(self, timeout_s: float) -> list[tuple[str, StreamEvent]]:
        """(name, event) of all sources since the last call, of each in order; waits up to `timeout_s` for the first."""
        deadline_s = time.monotonic() + timeout_s
        with self._news:
            while True:
                now_s = time.monotonic()
                self._look(now_s)
                events = [(name, event) for name, reader in self._readers.items() for event in reader.take()]
                if events or now_s >= deadline_s or not self.alive:
                    return events
                self._news.wait(min(deadline_s - now_s, POLL_S))

    @property
    def alive(self) -> bool:
        """Whether any source may still give something."""
        return any(reader.state not in _OVER for reader in self._readers.values())

    def members(self) -> list[WardMember]:
        """Every source, as it is now."""
        with self._news:
            self._look(time.monotonic())
            return [reader.member() for reader in self._readers.values()]

    def close(self) -> None:
        """End all readers and close their sources; one that hangs is left behind, and its member says so."""
        for reader in self._readers.values():
            reader.over.set()
        end_s = time.monotonic() + CLOSE_S
        for reader in self._readers.values():
            reader.join(max(end_s - time.monotonic(), 0.0))

    def _look(self, now_s: float) -> None:
        for reader in self._readers.values():
            reader.look(now_s, self._hung_s)

    def __enter__(self) -> Ward:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Reader(threading.Thread):
    """One source. What others see of it is guarded by `news`."""

    def __init__(self, name: str, opener: Callable[[], Source], news: threading.Condition, most: int) -> None:
        super().__init__(name=f"reader of {name}", daemon=True)
        self.over = threading.Event()
        self.state, self.detail = LinkState.LOST, "not open yet"
        self._member = name
        self._opener = opener
        self._news = news
        self._most = most
        self._queue: deque[StreamEvent] = deque()
        self._samples = self._dropped = 0
        self._stats = LinkStats()
        self._beat_s = time.monotonic()
        self._hung = False

    def run(self) -> None:
        # Whatever a source raises, and whatever of it was never meant to, has to be seen.
        try:
            self._read(self._opener())
        except BaseException as error:
            said = str(error) if isinstance(error, EdgepainError) else f"{type(error).__name__}: {error}"
            self._tell([LinkChange(LinkState.CLOSED, time.monotonic(), f"its reader failed: {said}")])
        else:
            if self.state not in _OVER:
                self._tell([LinkChange(LinkState.CLOSED, time.monotonic(), "closed here")])

    def look(self, now_s: float, hung_s: float) -> None:
        """Notice a heart that stands still, and one that beats again."""
        still_s = now_s - self._beat_s
        if self._hung == (still_s >= hung_s) or self.state in _OVER:
            return
        self._hung = not self._hung
        if self._hung:
            self._note(LinkChange(LinkState.STALLED, now_s, f"its reader has hung for {still_s:.1f} s"))
        else:
            self._note(LinkChange(LinkState.CONNECTED, now_s, "its reader goes on"))

    def take(self) -> list[StreamEvent]:
        """What is waiting."""
        taken = list(self._queue)
        self._queue.clear()
        self._samples = 0
        return taken

    def member(self) -> WardMember:
        return WardMember(self._member, self.state, self.detail, self._dropped, self._stats)

    def _read(self, source: Source) -> None:
        try:
            while not self.over.is_set() and self.state not in _OVER:
                self._beat_s = time.monotonic()
                self._tell(source.recv(POLL_S), source.stats())
        finally:
            source.close()

    def _tell(self, events: Sequence[StreamEvent], stats: LinkStats | None = None) -> None:
        with self._news:
            self._stats = stats or self._stats
            for event in events:
                self._note(event)
            if events:
                self._news.notify()

    def _note(self, event: StreamEvent) -> None:
        if isinstance(event, LinkChange):
            self.state, self.detail = event.state, event.detail
        self._queue.append(event)
        self._samples += isinstance(event, Samples)
        if self._samples > self._most:
            oldest = next(k for k, each in enumerate(self._queue) if isinstance(each, Samples))
            del self._queue[oldest]
            self._samples -= 1
            self._dropped += 1
