"""Explanations on disk: pictures, and the numbers beside them for pictures of one's own."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from edgepain.errors import ConfigError
from edgepain.train.explain.attention import Explanation
from edgepain.train.explain.choice import ChosenWindow
from edgepain.train.explain.embeddings import Embeddings
from edgepain.train.files import write_atomically

DPI = 150


def make_folder(folder: Path) -> None:
    """Make the folder, if it is not there. Raises ConfigError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made ({error.strerror}); choose another --out") from error


def write_window(
    folder: Path,
    window: ChosenWindow,
    explanation: Explanation,
    labels: tuple[str, ...],
    pictures: Mapping[str, Figure],
) -> list[Path]:
    """Write window.npz (everything), time_steps.csv (what has one number a time step) and the pictures.

    Files of the same names are replaced. Raises CheckpointError where one cannot be written.
    """
    arrays: dict[str, Any] = {
        "times_s": window.times_s,
        "start_s": np.float64(window.start_s),
        "modalities": np.array([str(m) for m in window.modalities]),
        "values": window.values,
        "scaled": window.scaled,
        "labels": np.array(labels),
        "logits": explanation.logits,
        "probabilities": explanation.probabilities,
        **{f"attention.{a.name}": a.weights for a in explanation.attention},
        **{f"alstm.{m}": weights / len(weights) for m, weights in explanation.alstm.items()},
        **{f"contribution.{c.name}": c.parts for c in explanation.contributions},
    }
    writers = _pictures(pictures) | {"window.npz": lambda file: np.savez_compressed(file, **arrays)}
    return _write(folder, writers | {"time_steps.csv": _csv(_time_steps(window, explanation))})


def write_embeddings(
    folder: Path, embeddings: Embeddings, planes: Mapping[str, npt.NDArray[np.float32]], pictures: Mapping[str, Figure]
) -> list[Path]:
    """Write embeddings.npz (vectors and planes), embeddings.csv (windows, answers, planes) and the pictures.

    Files of the same names are replaced. Raises CheckpointError where one cannot be written.
    """
    windows = embeddings.windows
    names = np.array(windows.label_names)
    columns: dict[str, npt.NDArray[Any]] = {
        "subject": windows.subjects,
        "recording": windows.recordings,
        "start_s": windows.start_s,
        "label": names[windows.labels],
        "answer": names[embeddings.answers],
    }
    points = {f"{block}.{axis}": plane[:, i] for block, plane in planes.items() for i, axis in enumerate("xy")}
    arrays: dict[str, Any] = {
        **columns,
        **{f"vectors.{block}": vectors for block, vectors in embeddings.vectors.items()},
        **{f"plane.{block}": plane for block, plane in planes.items()},
    }
    writers = _pictures(pictures) | {"embeddings.npz": lambda file: np.savez_compressed(file, **arrays)}
    return _write(folder, writers | {"embeddings.csv": _csv(columns | points)})


def _time_steps(window: ChosenWindow, explanation: Explanation) -> dict[str, npt.NDArray[Any]]:
    columns: dict[str, npt.NDArray[Any]] = {"time_s": window.times_s}
    for m, values, scaled in zip(window.modalities, window.values, window.scaled, strict=True):
        columns |= {f"{m}_{m.unit}": values, f"{m}_scaled": scaled}
    for a in explanation.attention:
        if a.over_time:
            columns[f"received.{a.name}"] = a.received
            if a.of_self:
                columns[f"diagonal.{a.name}"] = a.diagonal
    columns |= {f"alstm.{m}": weights for m, weights in explanation.alstm.items()}
    return columns | {f"contribution.{c.name}": c.over_time for c in explanation.contributions}


def _csv(columns: Mapping[str, npt.NDArray[Any]]) -> Callable[[BinaryIO], object]:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(columns)
    rows.writerows(zip(*(map(_cell, column) for column in columns.values()), strict=True))
    return lambda file: file.write(text.getvalue().encode())


def _cell(value: Any) -> str:
    return f"{value:.7g}" if isinstance(value, np.floating) else str(value)


def _pictures(pictures: Mapping[str, Figure]) -> dict[str, Callable[[BinaryIO], object]]:
    def drawn(figure: Figure) -> Callable[[BinaryIO], object]:
        return lambda file: figure.savefig(file, format="png", dpi=DPI)

    return {f"{name}.png": drawn(figure) for name, figure in pictures.items()}


def _write(folder: Path, writers: Mapping[str, Callable[[BinaryIO], object]]) -> list[Path]:
    for name, write in writers.items():
        write_atomically(folder / name, write)
    return [folder / name for name in writers]
