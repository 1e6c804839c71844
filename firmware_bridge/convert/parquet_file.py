"""Parquet: the table of `table`, typed. What else is to be known: JSON under the key `edgepain` of the file's metadata.

Null is no sample, NaN one that the device says is missing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from edgepain.errors import MissingExtraError
from edgepain.firmware_bridge.convert.table import Column, table_of
from edgepain.firmware_bridge.logged import LoggedSession


def write(session: LoggedSession, path: Path) -> None:
    """Write `path`. Raises OSError, MissingExtraError."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("pyarrow", "convert") from error
    table = table_of(session)
    marks = np.array([marker.row for marker in table.markers], np.int64)
    columns: dict[str, Any] = {
        "time_s": pa.array(table.time_s),
        "time": pa.array(table.time_us, pa.timestamp("us", tz="UTC")),
        "segment": pa.array(table.segment),
    }
    for column in table.columns:
        columns[column.name] = _nullable(column, table.rows)
    for name, type_, cells in (
        ("marker", pa.string(), [marker.label for marker in table.markers]),
        ("marker_value", pa.float64(), [marker.value for marker in table.markers]),
        ("marker_source", pa.string(), [marker.source for marker in table.markers]),
    ):
        spread = np.full(table.rows, None, object)
        spread[marks] = cells
        columns[name] = pa.array(spread, type_)
    made = pa.table(columns).replace_schema_metadata({"edgepain": json.dumps(session.facts())})
    pq.write_table(made, path)


def _nullable(column: Column, rows: int) -> Any:
    import pyarrow as pa

    values, missing = np.zeros(rows, np.float32), np.ones(rows, np.bool_)
    values[column.rows], missing[column.rows] = column.values, False
    return pa.array(values, mask=missing)
