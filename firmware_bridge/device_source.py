"""A wearable on its line, mostly a serial port, as a `Source` of samples that survives unplugging.

Everything happens inside `recv`, in the caller's thread: there is no reader thread to die unseen. Nothing is lost
while the caller does other work for a while, because the kernel keeps what arrives: at least 4 kB a terminal,
which is 350 ms of a 115200 baud line filled to the brim, and about 7 s of EDA at 4 Hz and BVP at 64 Hz.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from edgepain.errors import ConfigError, PortError
from edgepain.firmware_bridge.devices import DEFAULT_DEVICE, device_kind
from edgepain.firmware_bridge.holders import holders
from edgepain.firmware_bridge.identify import AUTO, identify
from edgepain.firmware_bridge.line import Line, LineDeafError, LineEndedError, LineGoneError
from edgepain.firmware_bridge.recorder import WireRecorder, open_recording
from edgepain.firmware_bridge.serial_ports import BY_ID, numbered_anew, stable_name
from edgepain.firmware_bridge.sleep_watch import HOST, SLEPT, Clocks, SleepWatch, host_clocks, told
from edgepain.signal import ClockSkew, LinkChange, LinkState, LinkStats, Marker, StreamEvent

FIRST_RETRY_S = 0.1
LAST_RETRY_S = 2.0
_OVER = (LinkState.CLOSED, LinkState.ENDED)


class DeviceSource:
    """Reads one device. A context manager; not thread-safe.

    port: device path, pyserial URL, or what else the device is reached by. device: what speaks there, a name in
    `devices`, or `auto` to find out (see `identify`); `device` of the source tells then. options: its settings, such as
    calibration, a text each. baud: None for the device's own. record_to: log of everything that comes over the wire
    (see `recorder`). stall_s: silence after which the link counts as stalled. reconnect_s: how long to wait for a port
    that went away; None waits for ever. by_id: folder of names that stay; a device that is plugged in again under
    another number is opened by its name there. A pseudo-terminal that is named without a link to it is not opened
    again: its number goes to another. clocks: those of this machine that tell that it slept.

    Raises PortError where the port cannot be opened at first or nobody knows what speaks there, ConfigError where
    `record_to` exists, device or options are unknown, or `baud` is given for what is no serial port.
    """

    def __init__(
        self,
        port: str,
        *,
        device: str = DEFAULT_DEVICE,
        options: Mapping[str, str] | None = None,
        baud: int | None = None,
        record_to: Path | None = None,
        stall_s: float = 3.0,
        reconnect_s: float | None = None,
        by_id: Path = BY_ID,
        clocks: Clocks = host_clocks,
    ) -> None:
        found = ""
        if device == AUTO:
            device, options, baud, found = _found(port, options or {}, baud)
        self.device = device
        self._kind = kind = device_kind(device)
        if baud is not None and kind.baud is None:
            raise ConfigError(f"device {device} is on no serial port and has no baud rate; leave that out")
        self._options = kind.parse(options or {})
        self._driver = kind.open(self._options)
        self._name, self._stable_name = port, stable_name(port, by_id)
        self._sleep_watch = SleepWatch(clocks)
        self._baud = baud or kind.baud or 0
        self._stall_s = stall_s
        self._reconnect_s = reconnect_s
        self._events: list[StreamEvent] = []
        self._reconnects = 0
        self._alive_s = time.monotonic()
        self._lost_s = self._next_retry_s = self._retry_s = 0.0
        self._state = LinkState.CLOSED
        self._line: Line | None = self._open()
        self._recorder: WireRecorder | None = None
        if record_to is not None:
            try:
                facts = {"port": port, "baud": self._baud, "device": device, "options": dict(options or {})}
                self._recorder = open_recording(record_to, facts)
            except BaseException:
                self._line.close()
                raise
        self._connected((f"{port} at {self._baud} baud" if self._baud else port) + found)

    def recv(self, timeout_s: float) -> Sequence[StreamEvent]:
        """Events since the last call, in order; waits up to `timeout_s` for the first. Empty when none came.

        Raises DataError where the recording cannot be written any more.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            if (slept_s := self._sleep_watch.slept_s()) and self._state not in _OVER:
                self._slept(slept_s)
            if self._line is not None:
                self._read(self._line, deadline_s)
            elif self._state is LinkState.LOST:
                self._retry(deadline_s)
            if self._events or self._state in _OVER or time.monotonic() >= deadline_s:
                events, self._events = self._events, []
                return events

    def mark(self, marker: Marker) -> None:
        """Note a marker among what came: it stands in the recording and comes out of `recv`, now and in a replay.

        Raises DataError where the recording cannot be written any more.
        """
        if self._recorder is not None:
            self._recorder.note(marker)
        self._events.append(marker)

    def stats(self) -> LinkStats:
        """Totals since the source was opened."""
        return self._driver.stats(self._reconnects)

    def host_s(self, device_s: float) -> float | None:
        """When a sample of session time `device_s` was taken, on this machine's clock, or None: see `Source`."""
        return self._driver.clock.host_s(device_s)

    def clock_skew(self) -> ClockSkew:
        """The device's clock against this machine's."""
        return self._driver.clock.skew()

    def close(self) -> None:
        """Close the port and the recording. `recv` then gives what is left, with LinkChange(CLOSED) at the end."""
        self._close("closed here")

    def _open(self) -> Line:
        return self._kind.line(self._stable_name, self._baud, self._options)

    def _slept(self, seconds: float) -> None:
        """The computer slept: what came meanwhile is gone, and the device's clock ran on."""
        now_s = time.monotonic()
        self._driver.cut()
        self._driver.clock.reset()
        self._alive_s = now_s
        if self._recorder is not None:
            self._recorder.note(Marker(now_s, time.time(), SLEPT, seconds, HOST))
        self._events.append(LinkChange(LinkState.SUSPENDED, now_s, told(seconds)))

    def _read(self, line: Line, deadline_s: float) -> None:
        try:
            self._speak(line)
            data = line.read(wait=not self._events and time.monotonic() < deadline_s)
        except LineGoneError:
            self._lost()
            return
        except LineEndedError as ended:
            self._close(str(ended), LinkState.ENDED)
            return
        now_s = time.monotonic()
        if data:
            self._take(data, now_s)
        elif self._recorder is not None:
            self._recorder.sync_when_due()
        self._watch(now_s)

    def _take(self, data: bytes, arrival_s: float) -> None:
        if self._recorder is not None:
            self._recorder.write(arrival_s, data)
        frames = self._driver.frames
        events = self._driver.feed(data, arrival_s)
        if events or (self._driver.frames > frames and self._driver.introduced):
            self._back_to_life(arrival_s)
        self._events += events

    def _speak(self, line: Line) -> None:
        request = self._driver.request(time.monotonic())
        if not request:
            return
        try:
            line.write(request)
        except LineDeafError:
            self._driver.deaf()

    def _watch(self, now_s: float) -> None:
        silent_s = now_s - self._alive_s
        if self._state is not LinkState.CONNECTED or silent_s < self._stall_s:
            return
        detail = self._driver.complaint() or f"no data for {silent_s:.1f} s on {self._name}"
        self._change(LinkState.STALLED, now_s, detail + self._sharers())

    def _back_to_life(self, now_s: float) -> None:
        if self._state is LinkState.STALLED:
            self._change(LinkState.CONNECTED, now_s, f"data again after {now_s - self._alive_s:.1f} s")
        self._alive_s = now_s

    def _connected(self, detail: str) -> None:
        now_s = time.monotonic()
        self._alive_s = now_s
        if self._recorder is not None:
            self._recorder.write(now_s, b"")
        self._change(LinkState.CONNECTED, now_s, detail + self._sharers())

    def _sharers(self) -> str:
        """Who else reads the port, for a person."""
        others = holders(self._stable_name) if self._kind.baud is not None else []
        if not others:
            return ""
        return f"; it is open in {', '.join(map(str, others))} too, which takes part of the bytes: close that"

    def _lost(self) -> None:
        now_s = time.monotonic()
        self._release_line()
        self._driver.cut()
        self._lost_s = now_s
        self._retry_s = FIRST_RETRY_S
        self._next_retry_s = now_s + FIRST_RETRY_S
        self._change(LinkState.LOST, now_s, f"{self._name} went away: unplugged, or switched off")

    def _retry(self, deadline_s: float) -> None:
        until_s = min(deadline_s, self._next_retry_s)
        time.sleep(max(until_s - time.monotonic(), 0.0))
        now_s = time.monotonic()
        if now_s < self._next_retry_s:
            return
        try:
            if numbered_anew(self._stable_name):
                raise PortError("a pseudo-terminal comes back under another number; name a link to it instead")
            self._line = self._open()
        except PortError as error:
            if self._reconnect_s is not None and now_s - self._lost_s >= self._reconnect_s:
                self._close(f"gave up after {now_s - self._lost_s:.1f} s: {error}")
                return
            self._retry_s = min(2 * self._retry_s, LAST_RETRY_S)
            self._next_retry_s = now_s + self._retry_s
            if self._reconnect_s is not None:
                self._next_retry_s = min(self._next_retry_s, self._lost_s + self._reconnect_s)
        else:
            self._reconnects += 1
            now = os.path.realpath(self._stable_name)
            moved = f" as {now}" if os.path.realpath(self._name) != now else ""
            self._connected(f"{self._name} is back{moved} after {now_s - self._lost_s:.1f} s")

    def _close(self, detail: str, state: LinkState = LinkState.CLOSED) -> None:
        self._take_leave()
        self._release_line()
        if self._recorder is not None:
            self._recorder.close()
        if self._state not in _OVER:
            self._change(state, time.monotonic(), detail)

    def _take_leave(self) -> None:
        farewell = self._driver.farewell()
        if self._line is None or not farewell:
            return
        with contextlib.suppress(LineGoneError, LineDeafError):
            self._line.write(farewell)

    def _release_line(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def _change(self, state: LinkState, at_s: float, detail: str) -> None:
        self._state = state
        self._events.append(LinkChange(state, at_s, detail))

    def __enter__(self) -> DeviceSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _found(port: str, options: Mapping[str, str], baud: int | None) -> tuple[str, Mapping[str, str], int, str]:
    """Device, options and baud rate of what was found on `port`, and how, for a person. Raises PortError."""
    identified = identify(port, baud)
    finding = identified.finding
    if finding.wants and not options:
        raise PortError(f"{port}: {identified}")
    return finding.device, {**finding.options, **options}, identified.baud, f": {identified}"
