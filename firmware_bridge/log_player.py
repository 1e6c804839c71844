"""A wire log played on a pseudo-terminal: the same bytes at the same distances."""

from __future__ import annotations

import time
from collections.abc import Callable

from edgepain.errors import ConfigError, DataError, PortError
from edgepain.firmware_bridge.devices import device_kind
from edgepain.firmware_bridge.pty_link import PtyLink, drain
from edgepain.firmware_bridge.recorder import WireRecording
from edgepain.firmware_bridge.simulator import READER_GONE_S

_POLL_S = 0.01
# Serial libraries throw away what came while they set up the line.
_SETTLE_S = 0.3


class LogPlayer:
    """Plays one log once. What its reader sends is read and not answered: answers stand in the log.

    speed: seconds of the log a second; infinite for as fast as it is read. wait: begin when a reader has set up the
    line, as every serial library does. Reopenings of the line play as silence: the port stays.

    Raises ConfigError where the speed is not positive, DataError where the log has no bytes, or those of a device that
    is on no serial port.
    """

    def __init__(self, recording: WireRecording, link: PtyLink, speed: float = 1.0, wait: bool = True) -> None:
        if not speed > 0:
            raise ConfigError(f"speed must be a positive number or max, got {speed}")
        self._chunks = [chunk for chunk in recording.chunks if chunk.data]
        if not self._chunks:
            raise DataError("no byte of a device in this log; name another recording")
        device = recording.metadata.get("device")
        if _on_no_port(device):
            raise DataError(
                f"a log of device {device}, which is on no serial port: nothing can read it on one; use edgepain run "
                "--replay"
            )
        self._link = link
        self._speed = speed
        self._wait = wait
        self.duration_s = self._chunks[-1].arrival_s - self._chunks[0].arrival_s
        self.sent_bytes = self.unread_bytes = 0

    def run(self, on_port: Callable[[str], None], on_progress: Callable[[float], None] = lambda played_s: None) -> None:
        """Play to the end and until the reader has everything. `on_port`: the port's name.

        Raises PortError where nobody reads for half a minute.
        """
        try:
            self._link.plug()
            on_port(self._link.port)
            while self._wait and not self._link.configured:
                self._listen()
            if self._wait:
                self._until(time.monotonic() + _SETTLE_S)
            self._play(on_progress)
            self.unread_bytes = drain(self._link, self._listen)
        finally:
            self._link.unplug()

    def _play(self, on_progress: Callable[[float], None]) -> None:
        begun_s, first_s = time.monotonic(), self._chunks[0].arrival_s
        for chunk in self._chunks:
            due_s = begun_s + (chunk.arrival_s - first_s) / self._speed
            self._until(due_s)
            self._link.write(chunk.data)
            self.sent_bytes += len(chunk.data)
            self._until_taken()
            on_progress(chunk.arrival_s - first_s)

    def _until(self, due_s: float) -> None:
        while (left_s := due_s - time.monotonic()) > 0:
            self._listen(min(_POLL_S, left_s))

    def _until_taken(self) -> None:
        room_s, left = time.monotonic(), self._link.backlog
        while self._link.backlog:
            self._listen()
            if self._link.backlog != left:
                room_s, left = time.monotonic(), self._link.backlog
            elif time.monotonic() - room_s > READER_GONE_S:
                raise PortError(f"{self._link.port}: nobody has read for {READER_GONE_S:g} s; start the reader again")

    def _listen(self, timeout_s: float = _POLL_S) -> None:
        self._link.exchange(timeout_s)


def _on_no_port(device: object) -> bool:
    """Whether the device that a log names is known, and is none of a serial port."""
    try:
        return isinstance(device, str) and device_kind(device).baud is None
    except ConfigError:
        return False
