"""A wire log as a `Source`: the same bytes through the same decoder give the same samples again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from edgepain.errors import ConfigError, DataError
from edgepain.firmware_bridge.devices import DEFAULT_DEVICE, device_kind
from edgepain.firmware_bridge.driver import Driver
from edgepain.firmware_bridge.recorder import Chunk, WireRecording, read_recording
from edgepain.firmware_bridge.sleep_watch import is_sleep, told
from edgepain.signal import ClockSkew, LinkChange, LinkState, LinkStats, Marker, StreamEvent


class ReplaySource:
    """Gives what was read at once, at once: each chunk or marker of the log without waiting for its time.

    Arrival times are those of then, changes of the link are dated now. LinkChange(ENDED) comes last and says what of
    the file could not be used.

    recording: the log itself.

    Raises DataError where `path` cannot be read, is no wire log, or is one of a device that is not known here.
    """

    def __init__(self, path: Path | str) -> None:
        self.recording = recording = read_recording(path)
        self._path = path
        self._told = f"{path} was played"
        if recording.damaged_chunks:
            places = "1 place" if recording.damaged_chunks == 1 else f"{recording.damaged_chunks} places"
            self._told += f"; {recording.lost_bytes} bytes of it, in {places}, are damaged and were left out"
        self._entries = iter(recording)
        self._driver = _driver(recording, path)
        self._opened = 0
        self._over = False

    def recv(self, timeout_s: float) -> Sequence[StreamEvent]:
        """What the next chunk brings; empty only at the end, whatever `timeout_s`."""
        for entry in self._entries:
            if events := self._events(entry):
                return events
        if self._over:
            return []
        self._over = True
        return [self._change(LinkState.ENDED, self._told)]

    def stats(self) -> LinkStats:
        """Totals so far."""
        return self._driver.stats(max(self._opened - 1, 0))

    def host_s(self, device_s: float) -> float | None:
        """None: the clock of then says nothing of now."""
        return None

    def clock_skew(self) -> ClockSkew:
        """The device's clock against that of the machine which recorded it."""
        return self._driver.clock.skew()

    def close(self) -> None:
        """Nothing more will come."""
        self._entries, self._over = iter(()), True

    def _events(self, entry: Chunk | Marker) -> Sequence[StreamEvent]:
        if isinstance(entry, Marker):
            return [self._slept(entry)] if is_sleep(entry) else [entry]
        if entry.data:
            return self._driver.feed(entry.data, entry.arrival_s)
        self._opened += 1
        self._driver.cut()
        again = "again " if self._opened > 1 else ""
        return [self._change(LinkState.CONNECTED, f"the line was opened {again}in {self._path}")]

    def _slept(self, marker: Marker) -> LinkChange:
        """As in the session: what came meanwhile is missing, and the device's clock ran on."""
        self._driver.cut()
        self._driver.clock.reset()
        return self._change(LinkState.SUSPENDED, told(marker.value or 0.0))

    def _change(self, state: LinkState, detail: str) -> LinkChange:
        return LinkChange(state, time.monotonic(), detail)


def _driver(recording: WireRecording, path: Path | str) -> Driver:
    """That of the device which was recorded; logs that do not name one are of edgeframe devices."""
    name, options = recording.metadata.get("device", DEFAULT_DEVICE), recording.metadata.get("options", {})
    sound = isinstance(options, dict) and all(isinstance(value, str) for value in options.values())
    if not isinstance(name, str) or not sound:
        raise DataError(f"{path}: its description of the device is damaged; name another recording")
    try:
        return device_kind(name).driver(options)
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from error
