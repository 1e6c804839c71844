"""What a session tells the service manager that started it: ready, alive, stopping (systemd's sd_notify)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from edgepain.runtime.decision import Decision
from edgepain.runtime.session import Summary
from edgepain.signal import DeviceInfo, LinkChange, Marker


class ServiceManager:
    """A sink that sends datagrams to the socket in NOTIFY_SOCKET; without one it is silent.

    `pulse` is to be called while the session turns: the first time it says READY, then WATCHDOG each `hop_s` seconds,
    or twice within the time that the manager waits (WATCHDOG_USEC), where that is shorter. A session that hangs in its
    port or its engine does not call it, and is killed and started again.

    Nothing is raised where the manager does not listen: a session must not end for want of a listener, and one that
    is waited for in vain is ended by the manager.
    """

    def __init__(self, hop_s: float, environment: Mapping[str, str] = os.environ) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        # @ stands for the zero byte of a name that is in no directory.
        self._address = f"\0{name[1:]}" if name.startswith("@") else name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if name.startswith(("/", "@")) else None
        if self._socket is not None:
            self._socket.setblocking(False)
        watchdog_s = _watchdog_s(environment)
        self._period_s = None if watchdog_s is None else min(hop_s, watchdog_s / 2)
        self._ready = False
        self._next_s = 0.0

    def pulse(self) -> None:
        """The session goes on: its source answers, and all windows that are complete are judged."""
        if not self._ready:
            self._ready = True
            self._send("READY=1")
        now_s = time.monotonic()
        if self._period_s is not None and now_s >= self._next_s:
            self._next_s = now_s + self._period_s
            self._send("WATCHDOG=1")

    def device(self, device: DeviceInfo) -> None:
        """Show who is connected, in `systemctl status`."""
        self._send(f"STATUS={device.name} is connected")

    def link(self, change: LinkChange) -> None:
        """Show the state of the wire, in `systemctl status`."""
        self._send(f"STATUS={change.state}: {change.detail}")

    def decision(self, decision: Decision) -> None:
        """Nothing: every user of the machine may read the status of a service."""

    def marker(self, marker: Marker) -> None:
        """Nothing, as with decisions."""

    def summary(self, summary: Summary) -> None:
        """Say that the session is over."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.sendto(message.replace("\n", " ").encode(), self._address)


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """Within what time the manager wants to hear of this process. None: it does not wait."""
    microseconds, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not (microseconds.isascii() and microseconds.isdigit()) or pid not in ("", str(os.getpid())):
        return None
    return int(microseconds) / 1e6 or None
