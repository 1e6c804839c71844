"""A window table on disk: one npz without objects."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgepain.errors import CheckpointError
from edgepain.signal import CausalSpec, Modality, WindowSpec
from edgepain.train.windows import WindowTable


class _Facts(msgspec.Struct, forbid_unknown_fields=True):
    modalities: tuple[Modality, ...]
    label_names: tuple[str, ...]
    spec: tuple[float, int]
    causal: tuple[float, float]
    synthetic: bool


def save_table(path: Path, table: WindowTable, synthetic: bool) -> None:
    """Write a table; `synthetic` says that its subjects are simulated."""
    facts = _Facts(
        table.modalities,
        table.label_names,
        (table.spec.seconds, table.spec.steps),
        (table.causal.min_history_s, table.causal.horizon_s),
        synthetic,
    )
    arrays: dict[str, Any] = {
        f.name: column for f in fields(table) if isinstance(column := getattr(table, f.name), np.ndarray)
    }
    with path.open("wb") as file:
        np.savez(file, facts=np.frombuffer(msgspec.json.encode(facts), np.uint8), **arrays)


def load_table(path: Path) -> tuple[WindowTable, bool]:
    """The table and whether its subjects are simulated. Raises CheckpointError where the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        facts = msgspec.json.decode(arrays.pop("facts").tobytes(), type=_Facts)
        table = WindowTable(
            **arrays,
            modalities=facts.modalities,
            label_names=facts.label_names,
            spec=WindowSpec(*facts.spec),
            causal=CausalSpec(*facts.causal),
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise CheckpointError(f"{path} is missing or damaged ({error}); train again") from error
    return table, facts.synthetic
