"""What a device is read over: a serial port mostly, or anything else that gives bytes and may go away."""

from __future__ import annotations

from typing import Protocol

# A line waits at most this long for the first byte, so that stalls and deadlines are looked at in between.
READ_SLICE_S = 0.05


class LineGoneError(Exception):
    """The line was unplugged, switched off or closed at its other end. It may come back: open it anew."""


class LineEndedError(Exception):
    """All there is was read: what is played is over. The message says what it was."""


class LineDeafError(Exception):
    """The device took nothing in the time given: it does not read its line."""


class Line(Protocol):
    """An open line. What `read` gives is what a recording keeps and a `Driver` is fed with, so a transport of messages
    packs them into bytes that its driver unpacks."""

    def read(self, wait: bool) -> bytes:
        """All that has come; with `wait` and nothing there, waits up to `READ_SLICE_S` for some.

        Raises LineGoneError, LineEndedError.
        """
        ...

    def write(self, data: bytes) -> None:
        """Send. Raises LineGoneError, LineDeafError."""
        ...

    def close(self) -> None:
        """Release it. Never raises; may be called twice."""
        ...
