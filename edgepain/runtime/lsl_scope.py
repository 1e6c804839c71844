"""Outlets of the Lab Streaming Layer that only this machine can see.

liblsl opens their ports on every interface, whatever its configuration says. Where a stream is to stay here, each of
its sockets is bound to the loopback device right after it was opened: the kernel then hands it nothing from elsewhere.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Iterator
from typing import Any

from edgepain.errors import ConfigError
from edgepain.lsl import load_lsl

_MULTICAST_PORT = 16571


def outlet(info: Any, everywhere: bool) -> Any:
    """A `pylsl.StreamOutlet`, for this machine alone unless `everywhere`. Raises ConfigError where that cannot be."""
    made = load_lsl().StreamOutlet(info)
    if not everywhere:
        ports = {int(port) for port in re.findall(r"_port>(\d+)<", made.get_info().as_xml())} | {_MULTICAST_PORT}
        for opened in _sockets():
            if _port(opened) in ports:
                _keep_here(opened)
    return made


def _sockets() -> Iterator[socket.socket]:
    """Copies of all sockets of this process, each closed when the next is asked for."""
    for name in os.listdir("/proc/self/fd"):
        try:
            copy = os.dup(int(name))
        except OSError:
            # Closed meanwhile.
            continue
        if not stat.S_ISSOCK(os.fstat(copy).st_mode):
            os.close(copy)
            continue
        with socket.socket(fileno=copy) as opened:
            yield opened


def _port(opened: socket.socket) -> int:
    """Where it takes what comes from anybody; 0 where it does not."""
    if opened.family not in (socket.AF_INET, socket.AF_INET6):
        return 0
    listens = opened.type is socket.SOCK_DGRAM or opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return int(opened.getsockname()[1]) if listens else 0


def _keep_here(opened: socket.socket) -> None:
    if opened.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo":
        return
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    except OSError as error:
        raise ConfigError(
            f"LSL streams cannot be kept on this machine ({error.strerror}): that takes Linux 5.7; let other machines "
            "see them with --lsl-scope network"
        ) from error
