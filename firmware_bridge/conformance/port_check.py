"""The check on a real port."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from edgepain.errors import PortError
from edgepain.firmware_bridge.conformance.checker import ConformanceChecker
from edgepain.firmware_bridge.conformance.findings import Finding
from edgepain.firmware_bridge.line import Line, LineDeafError, LineGoneError
from edgepain.firmware_bridge.ports import open_port

# Opening a port restarts boards such as the Arduino Uno, whose boot loader then waits up to 2 s.
FIRST_FRAME_S = 10.0


def check_port(
    port: str,
    baud: int,
    seconds: float,
    on_progress: Callable[[float], None] = lambda done_s: None,
) -> list[Finding]:
    """Listen and ask for `seconds` from the first sound frame on. on_progress: told how many of them are over.

    Raises PortError where the port cannot be opened, goes away, or gives no byte at all for 10 s.
    """
    checker = ConformanceChecker(baud)
    line = open_port(port, baud)
    try:
        return _listen(checker, line, port, seconds, on_progress)
    except LineGoneError as error:
        raise PortError(f"{port}: went away during the check; plug it in and start again") from error
    finally:
        line.close()


def _listen(
    checker: ConformanceChecker, line: Line, port: str, seconds: float, on_progress: Callable[[float], None]
) -> list[Finding]:
    start_s = now_s = time.monotonic()
    first_s: float | None = None
    anything = False
    while now_s - start_s < FIRST_FRAME_S if first_s is None else now_s - first_s < seconds:
        question = checker.request(now_s)
        # A device that does not read its line is found by the answers that are missing.
        with contextlib.suppress(LineDeafError):
            if question:
                line.write(question)
        data = line.read(wait=True)
        now_s = time.monotonic()
        if data:
            anything = True
            checker.feed(data, now_s)
        if first_s is None and checker.frames:
            first_s = now_s
        on_progress(0.0 if first_s is None else now_s - first_s)
    if not anything:
        raise PortError(
            f"{port}: not a byte in {FIRST_FRAME_S:g} s, asked or not; is the firmware running, and on this port?"
        )
    return checker.findings(now_s)
