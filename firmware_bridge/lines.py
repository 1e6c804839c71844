"""Bytes become lines of text: any start, any garbage, any split.

    … half a line LF | text [CR] LF | text [CR] LF | …

Garbage before: what comes before the first line end is no whole line ("540" cut to "40" still is a number), so it is
skipped. Garbage inside: stays in its line, which then fits no sketch. Garbage after: waits for the next line end.
A line longer than `MAX_LINE_BYTES` is dropped up to its end; no more than that is ever kept.
"""

from __future__ import annotations

MAX_LINE_BYTES = 1024


class LineSplitter:
    """Sans-IO. too_long: lines that were dropped for their length so far."""

    def __init__(self) -> None:
        self.too_long = 0
        self._rest = b""
        self._skipping = True

    def restart(self) -> None:
        """The line was cut or opened: what comes up to the next line end is half a line."""
        self._rest, self._skipping = b"", True

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without line ends and the blanks around them; blank ones are left out."""
        *ended, rest = data.split(b"\n")
        lines = []
        for piece in ended:
            self._keep(piece)
            if not self._skipping and (line := self._rest.strip()):
                lines.append(line)
            self._rest, self._skipping = b"", False
        self._keep(rest)
        return lines

    def _keep(self, piece: bytes) -> None:
        if self._skipping:
            return
        if len(self._rest) + len(piece) > MAX_LINE_BYTES:
            self.too_long += 1
            self._rest, self._skipping = b"", True
        else:
            self._rest += piece
