"""A text file of numbers, possibly gzipped, read as something hostile: bounded, and text or an error."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from edgepain.errors import DataError


def read_text(path: Path, max_bytes: int) -> str:
    """The text of a file, unpacked where its name ends in `.gz`.

    Raises DataError where it cannot be read, holds more than `max_bytes` (unpacked), or is no UTF-8 text.
    """
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            data = file.read(max_bytes + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); check the name, or copy it again") from error
    if len(data) > max_bytes:
        raise DataError(f"{path}: more than {max_bytes // 2**20} MB of text; cut it into shorter recordings")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is no text; numbers in lines are expected") from error
