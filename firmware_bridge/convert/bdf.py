"""BDF+: as EDF+ (see `edf`), in 24 bits."""

from __future__ import annotations

from pathlib import Path

from edgepain.firmware_bridge.convert.edf import write_steps
from edgepain.firmware_bridge.logged import LoggedSession


def write(session: LoggedSession, path: Path) -> None:
    """Write `path`. Raises OSError, DataError where a value does not fit, MissingExtraError."""
    write_steps(session, path, bits=24)
