"""Many sources read at once: each one's end, hang and backlog is seen, and nothing else suffers from it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from edgepain.errors import PortError
from edgepain.firmware_bridge.ward import Ward
from edgepain.signal import LinkChange, LinkState, LinkStats, Modality, Samples, Source, StreamEvent


def samples(number: int) -> Samples:
    return Samples(Modality.EDA, np.array([float(number)]), np.zeros(1, np.float32), 4.0, 0.0)


class Script:
    """A source that does what each call of `recv` is told to."""

    def __init__(self, *steps: Callable[[], Sequence[StreamEvent]]) -> None:
        self._steps = list(steps)
        self.closed = threading.Event()

    def recv(self, timeout_s: float) -> Sequence[StreamEvent]:
        if self._steps:
            return self._steps.pop(0)()
        time.sleep(0.01)
        return []

    def stats(self) -> LinkStats:
        return LinkStats(frames=7)

    def close(self) -> None:
        self.closed.set()


def fail(error: BaseException) -> Callable[[], Sequence[StreamEvent]]:
    def step() -> Sequence[StreamEvent]:
        raise error

    return step


def opener(source: object) -> Callable[[], Source]:
    return lambda: source  # type: ignore[return-value]


def received(ward: Ward, seconds: float = 10.0) -> Iterator[tuple[str, StreamEvent]]:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        yield from ward.recv(0.05)


def change(ward: Ward, state: LinkState, of: str) -> LinkChange:
    for name, event in received(ward):
        if name == of and isinstance(event, LinkChange) and event.state is state:
            return event
    raise AssertionError(f"{of} was never {state}")


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("by nought"), PortError("no such port"), SystemExit(3), MemoryError()]
)
def test_whatever_a_reader_raises_is_seen_and_the_others_read_on(error):
    after = threading.Event()
    bad = Script(lambda: [samples(0)], fail(error))
    good = Script(lambda: [samples(1)] if after.wait(20) else [])
    with Ward({"bad": opener(bad), "good": opener(good)}) as ward:
        ended = change(ward, LinkState.CLOSED, "bad")
        assert "its reader failed: " in ended.detail
        assert str(error) in ended.detail
        assert bad.closed.is_set()
        assert ward.alive
        after.set()
        assert next(event for name, event in received(ward) if name == "good" and isinstance(event, Samples))
        members = {member.name: member for member in ward.members()}
        assert members["bad"].state is LinkState.CLOSED
        assert members["good"].state is not LinkState.CLOSED
        assert members["good"].stats.frames == 7
    assert good.closed.is_set()


def test_one_that_cannot_be_opened_is_seen():
    def no_port() -> Source:
        raise PortError("/dev/nothing: no such port")

    with Ward({"none": no_port}) as ward:
        assert change(ward, LinkState.CLOSED, "none").detail.endswith("/dev/nothing: no such port")
        assert not ward.alive
        assert ward.recv(60.0) == [], "at once: nothing can come any more"


def test_a_reader_that_hangs_is_seen_and_that_it_goes_on():
    release = threading.Event()

    def hang() -> Sequence[StreamEvent]:
        release.wait(20)
        return [samples(1)]

    with Ward({"slow": opener(Script(hang)), "good": opener(Script())}, hung_s=0.3) as ward:
        assert "its reader has hung for" in change(ward, LinkState.STALLED, "slow").detail
        release.set()
        assert change(ward, LinkState.CONNECTED, "slow").detail == "its reader goes on"


def test_a_reader_that_hangs_for_ever_does_not_keep_the_ward_open(monkeypatch):
    monkeypatch.setattr("edgepain.firmware_bridge.ward.CLOSE_S", 0.2)
    release = threading.Event()

    def hang() -> Sequence[StreamEvent]:
        release.wait(20)
        return []

    ward = Ward({"stuck": opener(Script(hang))})
    ward.close()
    assert [member.state for member in ward.members()] == [LinkState.LOST]
    release.set()


def test_what_nobody_takes_is_dropped_and_counted_oldest_first():
    lost = LinkChange(LinkState.LOST, 0.0, "went away")
    flood = Script(lambda: [lost], lambda: [samples(k) for k in range(50)])
    with Ward({"flood": opener(flood)}, queue_samples=20) as ward:
        end_s = time.monotonic() + 10
        while ward.members()[0].dropped < 30 and time.monotonic() < end_s:
            time.sleep(0.01)
        events = [event for _, event in ward.recv(1.0)]
        assert ward.members()[0].dropped == 30
    assert events[0] == lost, "a change of the link is kept"
    assert [event.times_s[0] for event in events if isinstance(event, Samples)] == list(range(30, 50))


def test_a_source_that_ends_by_itself_is_over():
    end = LinkChange(LinkState.ENDED, 0.0, "was played")
    with Ward({"log": opener(Script(lambda: [samples(0), end]))}) as ward:
        assert change(ward, LinkState.ENDED, "log") == end
        assert not ward.alive
