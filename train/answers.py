"""What models said of held-out windows: the one thing that every table and picture is made of."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edgepain.bundle import Scaling
from edgepain.errors import CheckpointError
from edgepain.train.files import make_folder, write_atomically


@dataclass(frozen=True)
class Answers:
    """What one model said of the held-out windows of one fold.

    model: `crossmod`, a stage of it such as `fcn.eda`, or a peer such as `random-forest`. scaling: how these windows
    were scaled. missing: a modality that was taken away from the windows, empty for none. rows: [n] int64, of the
    run's window table. labels: [n] int64. subjects: [n] str. probabilities: [n, K] float32. left_out: held-out
    windows that this scaling could not use.
    """

    model: str
    fold: str
    seed: int
    scaling: Scaling
    missing: str
    left_out: int
    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    subjects: npt.NDArray[np.str_]
    probabilities: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return int(self.labels.size)


class DamagedAnswersError(CheckpointError):
    """A file of answers cannot be read."""


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    model: str
    fold: str
    seed: int
    scaling: Scaling
    missing: str
    left_out: int


_FACTS = tuple(_Facts.__struct_fields__)
_ARRAYS = tuple(f.name for f in fields(Answers) if f.name not in _FACTS)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    run: str
    answers: list[_Facts]


def save_answers(path: Path, run: str, answers: list[Answers]) -> None:
    """Write answers as one npz without objects. run: fingerprint of what they belong to.

    Raises CheckpointError where the disk is full.
    """
    facts = _File(run, [_Facts(**{name: getattr(each, name) for name in _FACTS}) for each in answers])
    arrays: dict[str, Any] = {
        f"{index}.{name}": getattr(each, name) for index, each in enumerate(answers) for name in _ARRAYS
    }
    arrays["facts"] = np.frombuffer(msgspec.json.encode(facts), np.uint8)
    make_folder(path.parent)
    write_atomically(path, lambda file: np.savez(file, **arrays))


def load_answers(path: Path, run: str) -> list[Answers]:
    """What `save_answers` wrote. Raises CheckpointError where the file is damaged or belongs to another run."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            facts = msgspec.json.decode(archive["facts"].tobytes(), type=_File)
            answers = [
                Answers(**msgspec.structs.asdict(each), **{name: archive[f"{index}.{name}"] for name in _ARRAYS})
                for index, each in enumerate(facts.answers)
            ]
        for each in answers:
            _check(each)
    except Exception as error:  # The readers of zip, deflate and npy raise a dozen kinds for damaged files.
        raise DamagedAnswersError(f"{path} is damaged ({error}); make it again with --resume") from error
    if facts.run != run:
        raise CheckpointError(
            f"{path} belongs to another configuration or other data; start a new run folder with --out"
        )
    return answers


def _check(answers: Answers) -> None:
    n = len(answers)
    if answers.probabilities.ndim != 2 or len(answers.probabilities) != n or n == 0:
        raise ValueError(f"{answers.model} has probabilities of the shape {answers.probabilities.shape}")
    if answers.rows.shape != (n,) or answers.subjects.shape != (n,):
        raise ValueError(f"{answers.model} has columns of different lengths")
    if answers.labels.dtype != np.int64 or not np.isfinite(answers.probabilities).all():
        raise ValueError(f"{answers.model} has labels or probabilities that are no numbers")
