"""Windows of a whole dataset as one table of arrays, cut by the same code as live windows.

N windows, M modalities, S steps, F physiological features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepain.bundle import Scaling
from edgepain.errors import ConfigError, DataError
from edgepain.signal import (
    Event,
    Modality,
    Recording,
    RobustStats,
    ScalingSpec,
    Window,
    WindowCutter,
    WindowSpec,
    robust_stats,
    scale,
)
from edgepain.train.datasets.base import Dataset, Placement, Problem
from edgepain.train.physiology import FEATURE_HZ, feature_names, features_of, physiology

# Silence between two recordings of one subject that are laid one after the other.
JOIN_GAP_S = 1.0


@dataclass(frozen=True)
class WindowTable:
    """Labelled windows, not yet scaled, one row a window.

    values: [N, M, S] float32 in the modalities' units. labels: [N] int64, indices into label_names.
    subjects, recordings: [N] str. start_s: [N] float64, window start on its recording's clock.
    history_median, history_iqr, history_seconds: [N, M] float64, statistics of what the subject's signal
    was before the window and how many seconds of it are behind them (NaN, NaN, 0 where there is none).
    quality_ok: [N] bool, every modality of the window can be trusted.
    features: [N, F] float32, see `physiology`; NaN where there is none. feature_names: [F].
    """

    values: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    subjects: npt.NDArray[np.str_]
    recordings: npt.NDArray[np.str_]
    start_s: npt.NDArray[np.float64]
    history_median: npt.NDArray[np.float64]
    history_iqr: npt.NDArray[np.float64]
    history_seconds: npt.NDArray[np.float64]
    quality_ok: npt.NDArray[np.bool_]
    features: npt.NDArray[np.float32]
    feature_names: tuple[str, ...]
    modalities: tuple[Modality, ...]
    label_names: tuple[str, ...]
    spec: WindowSpec
    scaling_spec: ScalingSpec

    def __len__(self) -> int:
        return int(self.labels.size)

    def select(self, mask: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> WindowTable:
        """The rows of a boolean mask [N] or of indices, in that order."""
        columns: dict[str, Any] = {
            f.name: column[mask] for f in fields(self) if isinstance(column := getattr(self, f.name), np.ndarray)
        }
        return replace(self, **columns)

    def scaled(self, mode: Scaling) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Robustly scaled windows [N, M, S] float32, and which rows are usable [N] bool.

        "subject": by the statistics over all good windows of the subject (the paper's form).
        "causal": by each window's own history, all that a live runtime can know.
        A row is usable where its quality is good and every modality has a spread to divide by; the other
        rows are 0. `unscalable` says why whole subjects are left out.
        """
        x = np.zeros_like(self.values)
        usable = self.quality_ok.copy()
        for rows, m, stats in self._statistics(mode):
            good = rows[self.quality_ok[rows]]
            if stats.usable:
                x[good, m] = scale(self.values[good, m], stats, self.scaling_spec.limit_iqr)
            else:
                usable[rows] = False
        x[~usable] = 0.0
        return x, usable

    def scaled_features(self, mode: Scaling) -> npt.NDArray[np.float32]:
        """Features [N, F] float32, all finite; 0 in the rows that `scaled` cannot use.

        "subject": each minus its median and divided by its IQR over the good windows of the subject; one whose IQR
        is 0 only minus its median. A missing value becomes 0, the median.
        "causal": by each window's own history as the feature's kind says (`physiology.Feature`); a missing value
        becomes the feature's neutral one.
        """
        _, usable = self.scaled(mode)
        x = self._by_subject() if mode == "subject" else self._by_history()
        x[~usable] = 0.0
        return x.astype(np.float32)

    def _by_subject(self) -> npt.NDArray[np.float64]:
        x = self.features.astype(np.float64)
        for subject in np.unique(self.subjects):
            rows = self.subjects == subject
            for column in range(x.shape[1]):
                stats = robust_stats(self.features[rows & self.quality_ok, column])
                x[rows, column] = (x[rows, column] - stats.median) / (stats.iqr if stats.usable else 1.0)
        return self._limited(np.nan_to_num(x, nan=0.0))

    def _by_history(self) -> npt.NDArray[np.float64]:
        x = self.features.astype(np.float64)
        enough = self.history_seconds >= self.scaling_spec.min_history_s
        iqr = np.where(enough & (self.history_iqr > 0), self.history_iqr, np.nan)
        for column, (modality, feature) in enumerate(features_of(self.modalities)):
            m = self.modalities.index(modality)
            if feature.kind == "level":
                x[:, column] -= self.history_median[:, m]
            if feature.kind != "absolute":
                x[:, column] = self._limited(x[:, column] / iqr[:, m])
            x[:, column] = np.nan_to_num(x[:, column], nan=feature.neutral)
        return x

    def _limited(self, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        limit_iqr = self.scaling_spec.limit_iqr
        return x if limit_iqr is None else np.clip(x, -limit_iqr, limit_iqr)

    def unscalable(self, mode: Scaling) -> list[Problem]:
        """Subjects without one usable row, and why."""
        _, usable = self.scaled(mode)
        return [
            Problem(f"subject {subject}", self._why_unusable(str(subject), mode))
            for subject in np.unique(self.subjects)
            if not usable[self.subjects == subject].any()
        ]

    def require_trainable(self, mode: Scaling, remedy: str = "") -> None:
        """Raise DataError unless the usable rows hold every class and at least two subjects.

        remedy: what else gives a class more history than --scaling subject, where the dataset has such a thing.
        """
        _, usable = self.scaled(mode)
        left_out = "".join(f"; {p.where} is left out: {p.reason}" for p in self.unscalable(mode)[:3])
        if not usable.any():
            raise DataError(f"none of {len(self)} windows can be used for training{left_out}")
        subjects = np.unique(self.subjects[usable])
        if subjects.size < 2:
            raise DataError(f"only subject {subjects[0]} has usable windows; training and judging need two{left_out}")
        counts = np.bincount(self.labels[usable], minlength=len(self.label_names))
        for name, count in zip(self.label_names, counts, strict=True):
            if count == 0:
                need = (
                    f"; causal scaling needs {self.scaling_spec.min_history_s:g} s of signal before a window: "
                    f"use --scaling subject{remedy and f', or {remedy}'}"
                )
                hint = need if mode == "causal" else ""
                raise DataError(f"no usable window has the class {name!r}{hint}{left_out}")

    def _statistics(self, mode: Scaling) -> Iterator[tuple[npt.NDArray[np.intp], int, RobustStats]]:
        """Rows that share a statistic, the modality's index, and the statistic."""
        if mode == "subject":
            for subject in np.unique(self.subjects):
                rows = np.flatnonzero(self.subjects == subject)
                good = rows[self.quality_ok[rows]]
                for m in range(len(self.modalities)):
                    yield rows, m, robust_stats(self.values[good, m])
        elif mode == "causal":
            enough = self.history_seconds >= self.scaling_spec.min_history_s
            for row, m in np.ndindex(enough.shape):
                iqr = float(self.history_iqr[row, m]) if enough[row, m] else float("nan")
                yield np.array([row]), m, RobustStats(float(self.history_median[row, m]), iqr, 1)
        else:
            raise ConfigError(f"no scaling is called {mode!r}; there are 'subject' and 'causal'")

    def _why_unusable(self, subject: str, mode: Scaling) -> str:
        rows = self.subjects == subject
        if not self.quality_ok[rows].any():
            return "no window without gaps, lost contact or a flat signal"
        if mode == "subject":
            for row, m, stats in self.select(rows)._statistics(mode):
                if not stats.usable:
                    return f"{self.modalities[m]} has an inter-quartile range of 0 over {row.size} windows"
        return f"no window has {self.scaling_spec.min_history_s:g} s of varying signal before it"


def cut_table(
    dataset: Dataset,
    modalities: Sequence[Modality],
    *,
    spec: WindowSpec | None = None,
    scaling_spec: ScalingSpec | None = None,
    placement: Placement | None = None,
    subjects: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> WindowTable:
    """Cut every labelled window of `dataset` (or of the named `subjects`), subject by subject.

    A subject's recordings are laid one after the other on one timeline, so that the history of a window
    runs through all that came before it, labelled or not. `progress(done, total)` counts subjects.

    Raises ConfigError for a modality or subject that the dataset has not, DataError where no window fits.
    """
    spec, scaling_spec = spec or WindowSpec(), scaling_spec or ScalingSpec()
    modalities = tuple(modalities)
    if not modalities or (missing := [m for m in modalities if m not in dataset.modalities]):
        offered = ", ".join(dataset.modalities)
        raise ConfigError(f"{dataset.name} has no {missing[0] if modalities else 'signal'}; it has {offered}")
    chosen = dataset.subjects() if subjects is None else tuple(subjects)
    if unknown := sorted(set(chosen) - set(dataset.subjects())):
        raise ConfigError(f"{dataset.name} has no subject {unknown[0]!r}")
    rows: list[dict[str, Any]] = []
    for done, subject in enumerate(chosen):
        if progress:
            progress(done, len(chosen))
        cutter = WindowCutter(modalities, spec, scaling_spec)
        rows += _cut_subject(cutter, dataset.recordings(subject), placement or dataset.placement)
    if progress:
        progress(len(chosen), len(chosen))
    if not rows:
        why = "".join(f"; {p.where}: {p.reason}" for p in dataset.problems()[:3])
        raise DataError(f"{dataset.name}: no labelled stretch holds a window of {spec.seconds:g} s{why}")
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return WindowTable(
        **columns,
        feature_names=feature_names(modalities),
        modalities=modalities,
        label_names=dataset.labels,
        spec=spec,
        scaling_spec=scaling_spec,
    )


def _cut_subject(
    cutter: WindowCutter, recordings: Iterator[Recording], placement: Placement
) -> Iterator[dict[str, Any]]:
    offset_s = 0.0
    for recording in recordings:
        for modality, signal in recording.signals.items():
            cutter.push(modality, signal.times_s + offset_s, signal.values, signal.rate_hz)
        for start_s, event in _starts(recording.events, cutter.spec.seconds, placement):
            window = cutter.cut(offset_s + start_s)
            yield _row(cutter, window, recording, event, start_s)
        offset_s += recording.duration_s + JOIN_GAP_S
        cutter.forget(offset_s)


def _starts(events: Sequence[Event], seconds: float, placement: Placement) -> list[tuple[float, Event]]:
    """Starts of all windows on the recording's clock, in the order of time, each with its event."""
    starts: list[tuple[float, Event]] = []
    hop_s = placement.hop_s or seconds
    for event in events:
        room_s = event.end_s - event.start_s - seconds + 1e-6
        offset_s = placement.offset_s if placement.offset_s <= room_s else 0.0
        count = int((room_s - offset_s) / hop_s) + 1 if offset_s <= room_s else 0
        if offset_s < placement.offset_s:
            count = min(count, 1)
        if placement.max_per_event is not None:
            count = min(count, placement.max_per_event)
        starts += [(event.start_s + offset_s + k * hop_s, event) for k in range(count)]
    return sorted(starts, key=lambda start: start[0])


def _row(cutter: WindowCutter, window: Window, recording: Recording, event: Event, start_s: float) -> dict[str, Any]:
    return {
        "values": window.values,
        "labels": event.label,
        "subjects": recording.subject,
        "recordings": recording.name,
        "start_s": start_s,
        "history_median": [stats.median for stats in window.history],
        "history_iqr": [stats.iqr for stats in window.history],
        "history_seconds": [cutter.history_seconds(stats) for stats in window.history],
        "quality_ok": all(quality.ok for quality in window.quality),
        "features": _features(cutter, window),
    }


def _features(cutter: WindowCutter, window: Window) -> npt.NDArray[np.float32]:
    """Features [F] of a window that the cutter has just cut, NaN where a signal cannot be trusted."""
    if not all(quality.ok for quality in window.quality):
        return np.full(len(feature_names(window.modalities)), np.nan, np.float32)
    spec = WindowSpec(window.seconds, max(round(window.seconds * FEATURE_HZ), 1) + 1)
    return physiology(cutter.values(window.start_s, spec), 1.0 / spec.period_s, window.modalities)
