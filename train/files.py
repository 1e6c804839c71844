"""Files of a run that a kill at any moment leaves whole: the old content or the new, never half."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO

from edgepain.errors import CheckpointError


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises CheckpointError where that cannot be, as on a full disk."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file beside `path`, sync it, and move it into place.

    Raises CheckpointError where the disk is full or the folder cannot be written; `path` is then as before.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> CheckpointError:
    reason = error.strerror or error
    return CheckpointError(f"{path} cannot be written ({reason}); make room or check the folder's rights")


def write_text_atomically(path: Path, text: str) -> None:
    """`write_atomically` for text."""
    write_atomically(path, lambda file: file.write(text.encode()))


@contextmanager
def only_one_process(folder: Path, what: str = "", shared: bool = False) -> Iterator[None]:
    """Keep other processes out of this block for the same folder, and the same part of it; a kill releases it.

    shared: others that ask for it shared may be in it as well. Raises CheckpointError where another process is in it.
    """
    file = try_lock(folder / f".{what}.lock", shared)
    if file is None:
        raise CheckpointError(f"{folder} is being trained by another process; wait for it or stop it")
    with file:
        yield


@contextmanager
def one_after_the_other(path: Path) -> Iterator[None]:
    """Wait until no other process is in this block for the same lock file; a kill releases it."""
    with _open_lock(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def try_lock(path: Path, shared: bool = False) -> TextIO | None:
    """Lock a file until it is closed or this process ends; None where another process holds it."""
    file = _open_lock(path)
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _open_lock(path: Path) -> TextIO:
    try:
        return path.open("w")
    except OSError as error:
        raise _unwritable(path, error) from error
