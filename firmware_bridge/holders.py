"""Which programs have a port open: two that read one port get part of its bytes each."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC, DEV = Path("/proc"), Path("/dev")
# Who holds the near end of a pseudo-terminal is the device on it, not another reader.
_NEAR_ENDS = frozenset(("/dev/ptmx", "/dev/pts/ptmx"))


@dataclass(frozen=True)
class Holder:
    """A program that has a port open."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


def holders(port: str, proc: Path = PROC, dev: Path = DEV) -> list[Holder]:
    """Other programs that have `port` open, as far as this user may see them: root sees all, others their own."""
    device = os.path.realpath(port)
    if not Path(device).is_relative_to(dev):
        return []
    found = []
    for process in _others(proc):
        open_files = set(_open_files(process))
        if device in open_files and not open_files & _NEAR_ENDS:
            found.append(Holder(int(process.name), _name(process)))
    return sorted(found, key=lambda holder: holder.pid)


def _others(proc: Path) -> Iterator[Path]:
    own = str(os.getpid())
    try:
        names = os.listdir(proc)
    except OSError:
        return
    yield from (proc / name for name in names if name.isdigit() and name != own)


def _open_files(process: Path) -> Iterator[str]:
    # Processes end and close files while they are looked at, and those of others may not be looked into.
    with contextlib.suppress(OSError):
        for name in os.listdir(process / "fd"):
            with contextlib.suppress(OSError):
                yield os.readlink(process / "fd" / name)


def _name(process: Path) -> str:
    try:
        text = (process / "comm").read_text(errors="replace").strip()
    except OSError:
        return "a program"
    return "".join(filter(str.isprintable, text)) or "a program"
