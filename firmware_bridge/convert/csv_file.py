"""CSV: the table of `table`, commas and UTF-8. What else is to be known stands in a JSON file beside it.

A float32 is written with 9 digits, so that it comes back to the bit. `nan` is a sample that the device says is missing;
an empty cell is no sample at all.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from edgepain.firmware_bridge.convert.table import Table, table_of
from edgepain.firmware_bridge.logged import LoggedSession

_BLOCK = 50_000


def write(session: LoggedSession, path: Path) -> None:
    """Write `path`. Raises OSError."""
    table = table_of(session)
    with path.open("w", newline="", encoding="utf-8") as file:
        names = ["time_s", "time", "segment", *(column.name for column in table.columns)]
        file.write(",".join([*names, "marker", "marker_value", "marker_source"]) + "\n")
        for begin in range(0, table.rows, _BLOCK):
            csv.writer(file, lineterminator="\n").writerows(_rows(table, begin, min(begin + _BLOCK, table.rows)))


def _rows(table: Table, begin: int, end: int) -> list[tuple[str, ...]]:
    size = end - begin
    time_s = [f"{value:.6f}" for value in table.time_s[begin:end].tolist()]
    time = np.datetime_as_string(table.time_us[begin:end].astype("datetime64[us]"), timezone="UTC").tolist()
    columns: list[list[str]] = [time_s, time, [str(number) for number in table.segment[begin:end].tolist()]]
    for column in table.columns:
        cells = [""] * size
        first, last = np.searchsorted(column.rows, (begin, end))
        for row, value in zip(column.rows[first:last].tolist(), column.values[first:last].tolist(), strict=True):
            cells[row - begin] = f"{value:.9g}"
        columns.append(cells)
    marks: list[list[str]] = [[""] * size, [""] * size, [""] * size]
    for marker in table.markers:
        if begin <= marker.row < end:
            value = "" if marker.value is None else repr(marker.value)
            for cells, text in zip(marks, (marker.label, value, marker.source), strict=True):
                cells[marker.row - begin] = text
    return list(zip(*columns, *marks, strict=True))
