"""A wire log as a `Source`: the same bytes through the same decoder give the same samples again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from edgepain.firmware_bridge.receiver import Receiver
from edgepain.firmware_bridge.recorder import Chunk, read_recording
from edgepain.signal import ClockSkew, LinkChange, LinkState, LinkStats, StreamEvent


class ReplaySource:
    """Gives what was read at once, at once: one chunk of the log after the other, without waiting for their time.

    Arrival times are those of then, changes of the link are dated now. LinkChange(ENDED) comes last and says what of
    the file could not be used.

    Raises DataError where `path` cannot be read, or is no wire log.
    """

    def __init__(self, path: Path | str) -> None:
        recording = read_recording(path)
        self._path = path
        self._told = f"{path} was played"
        if recording.damaged_chunks:
            places = "1 place" if recording.damaged_chunks == 1 else f"{recording.damaged_chunks} places"
            self._told += f"; {recording.lost_bytes} bytes of it, in {places}, are damaged and were left out"
        self._chunks = iter(recording.chunks)
        self._receiver = Receiver()
        self._opened = 0
        self._over = False

    def recv(self, timeout_s: float) -> Sequence[StreamEvent]:
        """What the next chunk brings; empty only at the end, whatever `timeout_s`."""
        for chunk in self._chunks:
            if events := self._events(chunk):
                return events
        if self._over:
            return []
        self._over = True
        return [self._change(LinkState.ENDED, self._told)]

    def stats(self) -> LinkStats:
        """Totals so far."""
        return self._receiver.stats(max(self._opened - 1, 0))

    def host_s(self, device_s: float) -> float | None:
        """None: the clock of then says nothing of now."""
        return None

    def clock_skew(self) -> ClockSkew:
        """The device's clock against that of the machine which recorded it."""
        return self._receiver.clock.skew()

    def close(self) -> None:
        """Nothing more will come."""
        self._chunks, self._over = iter(()), True

    def _events(self, chunk: Chunk) -> Sequence[StreamEvent]:
        if chunk.data:
            return self._receiver.feed(chunk.data, chunk.arrival_s)
        self._opened += 1
        self._receiver.cut()
        again = "again " if self._opened > 1 else ""
        return [self._change(LinkState.CONNECTED, f"the line was opened {again}in {self._path}")]

    def _change(self, state: LinkState, detail: str) -> LinkChange:
        return LinkChange(state, time.monotonic(), detail)
