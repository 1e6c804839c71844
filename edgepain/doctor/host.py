"""Where the doctor looks: the folders in which Linux tells about itself, and what it is asked."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgepain.firmware_bridge.sleep_watch import Clocks, host_clocks

_TIMEX_BYTES = 512
_RECORD_BYTES = 65_536
# priority, number, microseconds of the kernel's clock, flags; what happened
_WOKE = re.compile(rb"\d+,\d+,(\d+),[^;]*;PM: suspend exit")


def _clock_state() -> int:
    """What adjtimex(2) answers: 0 to 4 for a clock that is kept in time, 5 for one that is not, -1 where it may not be
    asked."""
    try:
        return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    except (AttributeError, OSError):
        return -1


def _may_open(port: Path) -> bool:
    return os.access(port, os.R_OK | os.W_OK)


@dataclass(frozen=True)
class Host:
    """This machine; a made-up tree in tests. root: the folder that `/` is taken to be.

    may_open: whether this user may read and write a port. clock_state: see adjtimex(2). clocks: monotonic, and since
    boot.
    """

    root: Path = Path("/")
    may_open: Callable[[Path], bool] = field(default=_may_open)
    clock_state: Callable[[], int] = field(default=_clock_state)
    clocks: Clocks = field(default=host_clocks)

    @property
    def proc(self) -> Path:
        return self.root / "proc"

    @property
    def sys(self) -> Path:
        return self.root / "sys"

    @property
    def dev(self) -> Path:
        return self.root / "dev"

    def rules(self) -> list[Path]:
        """udev's rule files; one in /etc takes the place of those of its name elsewhere."""
        found: dict[str, Path] = {}
        for folder in ("usr/lib/udev/rules.d", "lib/udev/rules.d", "run/udev/rules.d", "etc/udev/rules.d"):
            found |= {path.name: path for path in sorted((self.root / folder).glob("*.rules"))}
        return list(found.values())

    def programs(self) -> set[str]:
        """Names of the programs that run."""
        return {name for path in self.proc.glob("[0-9]*/comm") if (name := text(path))}

    def woke_s(self) -> float | None:
        """When the computer last woke, on the monotonic clock, by the kernel's log; None where that may not be read."""
        woke_s = None
        for record in _records(self.dev / "kmsg"):
            if (told := _WOKE.match(record)) is not None:
                woke_s = int(told[1]) / 1e6
        return woke_s


def _records(log: Path) -> Iterator[bytes]:
    """Each read of /dev/kmsg gives one record; a file gives its lines."""
    with contextlib.suppress(OSError):
        fd = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
        try:
            # At the end there is nothing to wait for, which is an error of its own.
            while data := os.read(fd, _RECORD_BYTES):
                yield from data.split(b"\n")
        finally:
            os.close(fd)


def text(path: Path) -> str:
    """A file's text without its ends; empty where it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
