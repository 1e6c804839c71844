"""What TensorRT says while it works: kept for the error that may follow, and not on a live session's screen."""

from __future__ import annotations

from collections import deque
from typing import Any

KEPT = 20


def logger_of(trt: Any) -> Any:
    """A logger for builder, parser and runtime; `last()` gives its last warning or error in one line."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._lines: deque[str] = deque(maxlen=KEPT)

        def log(self, severity: Any, message: str) -> None:
            """Called by TensorRT, from any thread."""
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR, trt.ILogger.WARNING):
                self._lines.append(" ".join(message.split()))

        def last(self) -> str:
            """The last line, errors and warnings alike."""
            return self._lines[-1][:300] if self._lines else "it does not say why"

    return Log()
