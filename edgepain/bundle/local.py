"""Where a device keeps what it makes of a bundle: with its user, never in the bundle, which a stranger may bring."""

from __future__ import annotations

import os
from pathlib import Path

from edgepain.errors import ConfigError


def engines_folder(manifest_sha256: str) -> Path:
    """`edgepain/engines/<manifest_sha256>` in `$XDG_DATA_HOME`, by default `~/.local/share`; it need not be there.

    manifest_sha256: hex, as the manifest states it of itself. Raises ConfigError where the user has no home.
    """
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    # One that is relative counts as not set, says the XDG base directory specification.
    if not data.is_absolute():
        try:
            data = Path.home() / ".local" / "share"
        except RuntimeError as error:
            raise ConfigError("this user has no home folder for engines; set HOME, or name a folder") from error
    return data / "edgepain" / "engines" / manifest_sha256
