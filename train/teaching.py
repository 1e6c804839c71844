"""What a network is taught beside its labels: what its teacher answers to the same training windows.

Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015: cross-entropy with the labels, and with
the teacher's answers where both are softened by a temperature, here as the divergence from them, times its square.

Shapes: N windows, B of them in a step, M modalities, S time steps, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional

from edgepain.errors import CheckpointError
from edgepain.train.config import DistillConfig
from edgepain.train.files import write_atomically
from edgepain.train.stage import Loss

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Teaching:
    """How the stages of a fold are taught.

    teacher: fingerprint of who teaches. folder: of the fold; the teacher's answers are kept there, so that it is asked
    once. ask: the logits [N, K] of the teacher's stages, by name, for the training windows.
    """

    config: DistillConfig
    teacher: str
    folder: Path
    ask: Callable[[], dict[str, Logits]]

    @property
    def fingerprint(self) -> str:
        """Changes with everything that decides what is taught, but for the windows."""
        return _hash(self.teacher.encode(), msgspec.json.encode(self.config))

    def losses(self, x_NMS: Logits, stages: Iterable[str]) -> dict[str, Loss]:
        """What each stage is to make small on these training windows.

        Raises CheckpointError where the kept answers are damaged, and what `ask` raises where there are none yet.
        """
        path = self.folder / f"teacher.{_hash(self.teacher.encode(), x_NMS.tobytes())[:16]}.safetensors"
        if not path.is_file():
            _save(path, self.ask())
        logits = _load(path, {name: len(x_NMS) for name in stages})
        return {name: partial(taught_loss, self.config, logits_NK) for name, logits_NK in logits.items()}


def taught_loss(
    config: DistillConfig, taught_NK: Tensor, logits_BK: Tensor, labels_B: Tensor, rows_B: Tensor
) -> Tensor:
    """(1 − a) · CE(labels) + a · T² · KL(teacher ‖ student), both at temperature T; mean over B."""
    share, temperature = config.share, config.temperature
    divergence = functional.kl_div(
        functional.log_softmax(logits_BK / temperature, dim=1),
        functional.log_softmax(taught_NK[rows_B] / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - share) * functional.cross_entropy(logits_BK, labels_B) + share * temperature**2 * divergence


def _save(path: Path, answers: dict[str, Logits]) -> None:
    tensors = {name: torch.from_numpy(logits) for name, logits in answers.items()}
    data = safetensors.torch.save(tensors, {"sha256": _hash_of(tensors)})
    write_atomically(path, lambda file: file.write(data))


def _load(path: Path, counts: dict[str, int]) -> dict[str, Tensor]:
    """The answers, so many of each stage."""
    try:
        with safe_open(path, framework="pt") as file:
            stated = (file.metadata() or {}).get("sha256")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from error
    if stated != _hash_of(tensors) or {name: len(logits) for name, logits in tensors.items()} != counts:
        raise _damaged(path, "SHA-256 differs")
    return tensors


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path} is damaged ({reason}); delete it and go on with --resume")


def _hash_of(tensors: dict[str, Tensor]) -> str:
    return _hash(*(part for name in sorted(tensors) for part in (name.encode(), tensors[name].numpy().tobytes())))


def _hash(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
