"""Lab Streaming Layer: its library, loaded when it is asked for, and set up once a process.

A configuration of your own (LSLAPICFG, ./lsl_api.cfg, ~/lsl_api/lsl_api.cfg, /etc/lsl_api/lsl_api.cfg) counts as it
stands. Without one, streams of this machine are found even where several programs offer some, and liblsl is silent.
"""

from __future__ import annotations

import contextlib
import os
import time
from functools import cache
from pathlib import Path
from typing import Any

from edgepain.errors import EdgepainError, MissingExtraError

# liblsl sends to one port of this machine otherwise, which only the last of several programs hears.
_CONFIGURATION = "[lab]\nKnownPeers = {127.0.0.1}\n[log]\nlevel = -3\n"
_READINGS = 3
_FILES = ("lsl_api.cfg", "~/lsl_api/lsl_api.cfg", "/etc/lsl_api/lsl_api.cfg")


@cache
def load_lsl() -> Any:
    """The module `pylsl`. Raises MissingExtraError, EdgepainError where its library cannot be loaded."""
    try:
        import pylsl
    except ModuleNotFoundError as error:
        raise MissingExtraError("pylsl", "lsl") from error
    except (RuntimeError, OSError) as error:
        # Wheels without liblsl: Linux on ARM, for one.
        raise EdgepainError(
            "pylsl is installed, but liblsl is not: install it from your distribution or conda-forge, and set "
            "PYLSL_LIB to its path"
        ) from error
    if not configured():
        # An older liblsl runs with its own defaults then.
        with contextlib.suppress(NotImplementedError, AttributeError):
            pylsl.set_config_content(_CONFIGURATION)
    return pylsl


def configured() -> bool:
    """Whether the person set up liblsl by a file."""
    return "LSLAPICFG" in os.environ or any(Path(name).expanduser().is_file() for name in _FILES)


def monotonic_offset_s() -> float:
    """What to add to a time of LSL's clock on this machine for `time.monotonic`: nothing to speak of on Linux."""
    clock = load_lsl().local_clock
    readings = [(time.monotonic(), float(clock()), time.monotonic()) for _ in range(_READINGS)]
    # Another process may have had the processor meanwhile.
    before_s, lsl_s, after_s = min(readings, key=lambda reading: reading[2] - reading[0])
    return 0.5 * (before_s + after_s) - lsl_s
