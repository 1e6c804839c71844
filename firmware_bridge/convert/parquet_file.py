"""Parquet: the table of `table`, typed. What else is to be known: JSON under the key `edgepain` of the file's metadata.

Null is no sample, NaN one that the device says is missing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepain.errors import MissingExtraError
from edgepain.firmware_bridge.convert.table import table_of
from edgepain.firmware_bridge.logged import LoggedSession


def write(session: LoggedSession, path: Path) -> None:
    """Write `path`. Raises OSError, MissingExtraError."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("pyarrow", "convert") from error
    table = table_of(session)
    columns: dict[str, Any] = {
        "time_s": pa.array(table.time_s),
        "time": pa.array(table.time_us, pa.timestamp("us", tz="UTC")),
        "segment": pa.array(table.segment),
    }
    for column in table.columns:
        columns[column.name] = _spread(pa.array(column.values), column.rows, table.rows)
    rows = np.array([marker.row for marker in table.markers], np.int64)
    for name, type_, cells in (
        ("marker", pa.string(), [marker.label for marker in table.markers]),
        ("marker_value", pa.float64(), [marker.value for marker in table.markers]),
        ("marker_source", pa.string(), [marker.source for marker in table.markers]),
    ):
        columns[name] = _spread(pa.array(cells, type_), rows, table.rows)
    made = pa.table(columns).replace_schema_metadata({"edgepain": json.dumps(session.facts())})
    pq.write_table(made, path)


def _spread(cells: Any, rows: npt.NDArray[np.int64], count: int) -> Any:
    """A column of `count` rows with `cells` in `rows` and null elsewhere."""
    import pyarrow as pa

    which, missing = np.zeros(count, np.int64), np.ones(count, np.bool_)
    which[rows], missing[rows] = np.arange(rows.size), False
    return cells.take(pa.array(which, mask=missing))
