"""Numeric text tables with a header line, read with every way they can be broken turned into one message."""

from __future__ import annotations

import gzip
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from edgepain.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    import pandas

# No trial of the datasets read here has more rows; what has is no such file.
MAX_ROWS = 2_000_000
_T = TypeVar("_T")


def find_table(path: Path) -> Path | None:
    """`path`, or the same name with `.gz`, whichever exists."""
    return next((p for p in (path, path.with_name(f"{path.name}.gz")) if p.is_file()), None)


def read_header(path: Path) -> tuple[list[str], str]:
    """Column names and the separator (tab or comma) of a table.

    Raises DataError where the file cannot be read or is empty.
    """

    def first_line() -> str:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            return bytes(file.readline(2**20)).decode("utf-8-sig").strip("\r\n")

    line = _checked(path, first_line)
    if not line.strip():
        raise DataError(f"{path}: empty; copy it again")
    separator = "\t" if "\t" in line else ","
    return [name.strip().strip('"') for name in line.split(separator)], separator


def read_numbers(path: Path, columns: list[str]) -> dict[str, npt.NDArray[np.float64]]:
    """The named columns, [n] float64 each; NaN where a cell is empty or no finite float32.

    Raises DataError where the file cannot be read, lacks a column or holds something else than numbers.
    """
    table = _read(path, columns, "float64")
    numbers = {column: np.array(table[column], np.float64) for column in columns}
    for values in numbers.values():
        values[~(np.abs(values) <= np.finfo(np.float32).max)] = np.nan
    return numbers


def read_texts(path: Path, columns: list[str]) -> dict[str, list[str]]:
    """The named columns as text. Raises DataError as `read_numbers` does."""
    table = _read(path, columns, "str")
    return {column: table[column].fillna("").tolist() for column in columns}


def _read(path: Path, columns: list[str], dtype: Any) -> pandas.DataFrame:
    try:
        import pandas
    except ImportError:
        raise MissingExtraError("pandas", "train") from None
    names, separator = read_header(path)
    for column in columns:
        if column not in names:
            raise DataError(f"{path}: no column {column!r}; it has {', '.join(names[:8])[:200]}")

    def read() -> pandas.DataFrame:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            return pandas.read_csv(
                path,
                sep=separator,
                names=names,
                header=0,
                index_col=False,
                usecols=columns,
                dtype=dtype,
                skipinitialspace=True,
                nrows=MAX_ROWS,
            )

    return _checked(path, read)


def _checked(path: Path, read: Callable[[], _T]) -> _T:
    try:
        return read()
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); copy it again") from error
    except (ValueError, Warning) as error:
        # UnicodeDecodeError and pandas' parser errors are ValueErrors too.
        raise DataError(f"{path}: is no table of numbers ({' '.join(str(error).split())}); copy it again") from error
