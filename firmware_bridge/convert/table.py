"""A session as one wide table: a row for each moment at which any signal has a sample, and one for each marker.

Columns: `time_s` (seconds after the first sample), `time` (UTC, to the microsecond), `segment` (1, 2, … starts of the
device), one column a signal, named with its unit, and `marker`, `marker_value`, `marker_source`. A signal is blank
where it has no sample; gaps are rows that are not there. Samples of several signals that were taken in the same
microsecond share a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edgepain.errors import DataError
from edgepain.firmware_bridge.logged import LoggedSession
from edgepain.signal import Modality

_Ints: TypeAlias = npt.NDArray[np.int64]

# Samples of one signal in one microsecond, at most: with the microseconds of the longest recording they fit 63 bits.
_TURNS = 2**20


@dataclass(frozen=True)
class Column:
    """One signal. rows: where it has samples [n], rising. values: [n] float32."""

    name: str
    unit: str
    rows: _Ints
    values: npt.NDArray[np.float32]


@dataclass(frozen=True)
class MarkerRow:
    """A marker. row: its row."""

    row: int
    label: str
    value: float | None
    source: str


@dataclass(frozen=True)
class Table:
    """rows: how many. time_us: [rows] Unix time. time_s: [rows]. segment: [rows] from 1 on."""

    time_us: _Ints
    time_s: npt.NDArray[np.float64]
    segment: npt.NDArray[np.int32]
    columns: tuple[Column, ...]
    markers: tuple[MarkerRow, ...]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.time_s.size


def table_of(session: LoggedSession) -> Table:
    """The table. Raises DataError where the session has no sample, or is too long to be true."""
    keys, segments = zip(*(_keys(session, modality) for modality in session.modalities), strict=True)
    values = [
        np.concatenate([s.signals[m].values for s in session.segments if m in s.signals]) for m in session.modalities
    ]
    unique, inverse = np.unique(np.concatenate(keys), return_inverse=True)
    segment = np.zeros(unique.size, np.int32)
    segment[inverse] = np.concatenate(segments)
    signal_us = unique // _TURNS
    moments = sorted((round(session.marker_s(marker) * 1e6), n) for n, marker in enumerate(session.markers))
    marker_us = np.array([us for us, _ in moments], np.int64)
    # A marker stands before the first row that is not earlier.
    at = np.searchsorted(signal_us, marker_us, side="left")
    signal_rows = np.arange(unique.size) + np.searchsorted(at, np.arange(unique.size), side="right")
    marker_rows = at + np.arange(at.size)
    us = np.empty(unique.size + at.size, np.int64)
    us[signal_rows], us[marker_rows] = signal_us, marker_us
    whole_segment = np.empty(us.size, np.int32)
    whole_segment[signal_rows], whole_segment[marker_rows] = segment, segment[np.maximum(at - 1, 0)]
    rows = np.split(signal_rows[inverse], np.cumsum([key.size for key in keys])[:-1])
    columns = [Column(m.column, m.unit, r, v) for m, r, v in zip(session.modalities, rows, values, strict=True)]
    markers = [
        MarkerRow(row, session.markers[n].label, session.markers[n].value, session.markers[n].source)
        for row, (_, n) in zip(marker_rows.tolist(), moments, strict=True)
    ]
    begin_us = round(session.begin_unix_s * 1e6)
    return Table(us + begin_us, us / 1e6, whole_segment, tuple(columns), tuple(markers))


def _keys(session: LoggedSession, modality: Modality) -> tuple[_Ints, _Ints]:
    """What makes a row, of each sample: microseconds, and where a signal has several in one, which of them it is.

    With the number of the segment of each.
    """
    parts = [(number, s) for number, s in enumerate(session.segments, 1) if modality in s.signals]
    times_s = np.concatenate([session.times_s(s, modality) for _, s in parts])
    us = np.rint(times_s * 1e6).astype(np.int64)
    order = np.argsort(us, kind="stable")
    fresh = np.concatenate(([True], np.diff(us[order]) != 0))
    first = np.maximum.accumulate(np.where(fresh, np.arange(us.size), 0))
    turn = np.empty(us.size, np.int64)
    turn[order] = np.arange(us.size) - first
    if turn.max() >= _TURNS:
        raise DataError(f"{session.path}: {turn.max()} samples of {modality} in one microsecond; its times are damaged")
    segment = np.concatenate([np.full(s.signals[modality].values.size, number) for number, s in parts])
    return us * _TURNS + turn, segment
