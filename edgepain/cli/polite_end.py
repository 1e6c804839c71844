"""How a command that runs until it is told to stop ends: by Ctrl-C, SIGTERM or a lost terminal, with its summary."""

from __future__ import annotations

import signal
from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def end_politely() -> None:
    """Let Ctrl-C, a service manager's SIGTERM and a terminal that goes away end a session alike, and a second one not
    cut the end short. `nohup` still lets it go on without its terminal.
    """
    numbers = [n for n in NUMBERS if n is not signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]

    def interrupt(number: int, frame: FrameType | None) -> None:
        # Handled by nothing, not ignored: Python complains of a signal that came before its handler was taken away.
        for each in numbers:
            signal.signal(each, lambda *_: None)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, interrupt)


def end_undisturbed() -> None:
    """Let no signal of these disturb the last steps of the process: call it when all work is done."""
    # Blocked first, so that none is left half handled; ignored then, because Python gives handlers back to the
    # deadly default while it shuts down.
    signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
    for number in NUMBERS:
        signal.signal(number, signal.SIG_IGN)
