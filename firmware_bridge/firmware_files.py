"""The C library for firmware, as it comes with the package."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

from edgepain.errors import ConfigError

NAME = "edgeframe"


def copy_firmware(folder: Path, *, force: bool = False) -> Path:
    """Copy the library to `folder`/edgeframe, laid out as the Arduino IDE expects it; the folder it made.

    force: replace the files of an earlier copy. Raises ConfigError where a copy is there, or cannot be written.
    """
    target = folder / NAME
    if target.exists() and not force:
        raise ConfigError(f"{target}: is there already; give --force to replace its files, or another folder")
    try:
        with resources.as_file(resources.files("edgepain.firmware_bridge") / "firmware") as source:
            shutil.copytree(source, target, dirs_exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written ({error.strerror or error}); choose another folder") from error
    return target
