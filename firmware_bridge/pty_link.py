"""The simulated device's end of a pseudo-terminal that can be unplugged."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
import time
import tty
from collections.abc import Callable
from pathlib import Path

from edgepain.errors import ConfigError

# At the end the reader gets this long, from the last byte it took, to fetch the rest.
DRAIN_S = 3.0
# The kernel moves bytes through two buffers and shows one: what stays empty for so long is empty.
_SETTLED_S = 0.1
_READ_SIZE = 4096


class PtyLink:
    """A pseudo-terminal in raw mode; `link` is a symlink to it that is made again at each replug.

    It holds its own handle of the far side, so that bytes wait for a reader who comes or comes back, and so
    that what is still unread can be counted.

    Raises ConfigError where `link` is a file that is not a symlink, or (in `plug`) cannot be made.
    """

    def __init__(self, link: Path | None = None) -> None:
        if link is not None and link.exists() and not link.is_symlink():
            raise ConfigError(f"{link}: exists and is not a symlink; choose another name for --link")
        self.port = ""
        self._link = link
        self._fds: tuple[int, int] | None = None
        self._attributes: list[object] = []
        self._outgoing = b""

    @property
    def plugged(self) -> bool:
        """Whether the port is there."""
        return self._fds is not None

    @property
    def configured(self) -> bool:
        """Whether a reader has set the line up, as every serial library does when it opens a port."""
        return self._fds is not None and termios.tcgetattr(self._fds[1]) != self._attributes

    @property
    def backlog(self) -> int:
        """Bytes written that have not found room yet."""
        return len(self._outgoing)

    def plug(self) -> None:
        """Make the port appear. Raw before the first byte, or the line discipline echoes and mangles it."""
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        self._fds = (master, slave)
        self._attributes = termios.tcgetattr(slave)
        self.port = os.ttyname(slave)
        if self._link is not None:
            made = self._link.with_name(f".{self._link.name}.{os.getpid()}")
            try:
                made.unlink(missing_ok=True)
                made.symlink_to(self.port)
                made.replace(self._link)
            except OSError as error:
                raise ConfigError(f"{self._link}: cannot make the symlink ({error.strerror})") from error

    def unplug(self) -> None:
        """Make the port vanish: readers get a hang-up, unread bytes are gone."""
        if self._fds is not None:
            for fd in self._fds:
                os.close(fd)
        if self._link is not None and self._link.is_symlink():
            self._link.unlink()
        self._fds, self._outgoing = None, b""

    def write(self, data: bytes) -> None:
        """Send what there is room for and keep the rest; never blocks."""
        self._outgoing += data
        if self._fds is None:
            return
        try:
            while self._outgoing:
                self._outgoing = self._outgoing[os.write(self._fds[0], self._outgoing) :]
        except BlockingIOError:
            return

    def exchange(self, timeout_s: float) -> bytes:
        """Wait up to `timeout_s` for bytes from the host, or for room to send what is left; the bytes, if any."""
        if self._fds is None:
            select.select([], [], [], timeout_s)
            return b""
        master = self._fds[0]
        readable, writable, _ = select.select([master], [master] if self._outgoing else [], [], timeout_s)
        if writable:
            self.write(b"")
        return os.read(master, _READ_SIZE) if readable else b""

    def unread(self) -> int:
        """Bytes that the kernel holds for the reader right now (not those still on their way there)."""
        if self._fds is None:
            return 0
        count: int = struct.unpack("i", fcntl.ioctl(self._fds[1], termios.FIONREAD, b"\0" * 4))[0]
        return count


def drain(link: PtyLink, listen: Callable[[], object]) -> int:
    """Stay until the reader has everything, because what it has not read goes when the port does; bytes left unread.

    listen: called again and again meanwhile; waits a moment for what the reader says, and obeys.
    """
    left, moved_s, settled_s, unread = -1, time.monotonic(), time.monotonic(), 0
    while link.plugged:
        listen()
        now_s = time.monotonic()
        unread = link.backlog + link.unread()
        if unread != left:
            left, moved_s = unread, now_s
        if unread:
            settled_s = now_s
        if now_s - settled_s > _SETTLED_S or now_s - moved_s > DRAIN_S:
            break
    return unread
