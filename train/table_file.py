"""A window table on disk: one npz without objects."""

from __future__ import annotations

from dataclasses import astuple, fields
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from edgepain.errors import CheckpointError
from edgepain.signal import Modality, ScalingSpec, WindowSpec
from edgepain.train.physiology import feature_names
from edgepain.train.windows import WindowTable


class _Facts(msgspec.Struct, forbid_unknown_fields=True):
    modalities: tuple[Modality, ...]
    label_names: tuple[str, ...]
    spec: tuple[float, int]
    scaling_spec: tuple[float, float, float | None]
    synthetic: bool
    feature_names: tuple[str, ...]


def save_table(file: BinaryIO, table: WindowTable, synthetic: bool) -> None:
    """Write a table as npz; `synthetic` says that its subjects are simulated."""
    facts = _Facts(
        table.modalities,
        table.label_names,
        (table.spec.seconds, table.spec.steps),
        astuple(table.scaling_spec),
        synthetic,
        table.feature_names,
    )
    arrays: dict[str, Any] = {
        f.name: column for f in fields(table) if isinstance(column := getattr(table, f.name), np.ndarray)
    }
    np.savez(file, facts=np.frombuffer(msgspec.json.encode(facts), np.uint8), **arrays)


def load_table(path: Path) -> tuple[WindowTable, bool]:
    """The table and whether its subjects are simulated. Raises CheckpointError where the file is damaged."""
    try:
        # Opened here, because numpy leaves the file open when it cannot read it.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        facts = msgspec.json.decode(arrays.pop("facts").tobytes(), type=_Facts)
        table = WindowTable(
            **arrays,
            modalities=facts.modalities,
            label_names=facts.label_names,
            spec=WindowSpec(*facts.spec),
            scaling_spec=ScalingSpec(*facts.scaling_spec),
            feature_names=facts.feature_names,
        )
        _check(table)
    except Exception as error:  # The readers of zip, deflate and npy raise a dozen kinds for damaged files.
        raise CheckpointError(f"{path} is missing or damaged ({error}); train again in a new run folder") from error
    return table, facts.synthetic


def _check(table: WindowTable) -> None:
    n, m, s = len(table), len(table.modalities), table.spec.steps
    shapes: dict[str, tuple[int, ...]] = {"values": (n, m, s), "features": (n, len(table.feature_names))}
    shapes |= dict.fromkeys(("history_median", "history_iqr", "history_seconds"), (n, m))
    for field in fields(table):
        column = getattr(table, field.name)
        if isinstance(column, np.ndarray) and column.shape != shapes.get(field.name, (n,)):
            raise ValueError(f"{field.name} has the shape {column.shape}")
    if table.feature_names != feature_names(table.modalities):
        raise ValueError("it holds the features of another version")
    for name, dtype in (("values", np.float32), ("features", np.float32), ("labels", np.int64)):
        if getattr(table, name).dtype != dtype:
            raise ValueError(f"{name} are {getattr(table, name).dtype}")
    if not np.isin(table.labels, np.arange(len(table.label_names))).all():
        raise ValueError("a label is none of the classes")
