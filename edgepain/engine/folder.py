"""A folder of engines is code that runs as the user: nobody else but root may write to it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edgepain.errors import EdgepainError

FOLDER_MODE, FILE_MODE = 0o755, 0o644


class EngineError(EdgepainError):
    """A plan is damaged, could be anybody's, or is for another device, TensorRT or graph."""

    exit_code = 4


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, writable by the user alone whatever the umask. Raises OSError."""
    for each in reversed([folder, *folder.parents]):
        if not each.exists():
            each.mkdir(FOLDER_MODE, exist_ok=True)


def require_own(path: Path) -> None:
    """Raise EngineError where others than the user and root may write to a file or folder; what is not there passes."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise EngineError(f"{path} cannot be read ({error.strerror}); name another folder of engines") from error
    if facts.st_uid not in (0, os.geteuid()):
        raise EngineError(f"{path} belongs to another user, so its engines are not used; build them again as yourself")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise EngineError(f"others may write to {path}, so its engines are not used; run: chmod go-w {path}")
