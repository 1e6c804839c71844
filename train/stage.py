"""Train one block under a temporary head, epoch by epoch, so that a kill costs at most the current epoch.

Every epoch draws its random numbers from (seed, stage, epoch) alone. A run that was interrupted therefore
goes on to the same weights as one that was not.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeAlias, TypeVar

import msgspec
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from edgepain.errors import CheckpointError, ConfigError
from edgepain.train.config import Precision, StageConfig
from edgepain.train.files import make_folder, write_atomically, write_text_atomically
from edgepain.train.memory import keep_freed_memory
from edgepain.train.precision import Arithmetic, bf16_supported, computing, resolve

CHECKPOINT = "state.safetensors"

Model = TypeVar("Model", bound=nn.Module)
# (logits [B, K], labels [B], rows of these windows among all of the stage [B]) → mean loss.
Loss: TypeAlias = "Callable[[Tensor, Tensor, Tensor], Tensor]"


@dataclass(frozen=True)
class EpochMetrics:
    """What one epoch did, on the training windows as they were seen (dropout on).

    judged: accuracy on other windows, where the protocol chooses the epoch by it.
    """

    epoch: int
    learning_rate: float
    loss: float
    accuracy: float
    judged: float | None = None


class Headed(nn.Module):
    """A block under a temporary linear head. The block returns (tokens, feature); the head reads the feature."""

    def __init__(self, block: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.block = block
        self.head = nn.Linear(width, classes)

    def forward(self, *inputs: Tensor) -> Tensor:
        embed = getattr(self.block, "embed", None)
        logits_BK: Tensor = self.head(embed(*inputs) if embed else self.block(*inputs)[1])
        return logits_BK


@dataclass(frozen=True)
class Stage:
    """A stage of the protocol: its name, its settings and what identifies its inputs.

    fingerprint: changes whenever resuming from an older checkpoint would mix two different trainings.
    precision: `auto` is what the checkpoint was begun in and, without one, the faster that this processor has.
    """

    name: str
    config: StageConfig
    batch_size: int
    seed: int
    fingerprint: str
    precision: Precision = "auto"

    def epoch_seed(self, epoch: int) -> int:
        """Seed of one epoch; epoch −1 is the initialisation."""
        digest = hashlib.sha256(f"{self.seed}/{self.name}/{epoch}".encode()).digest()
        return int.from_bytes(digest[:7], "big")


def label_loss(logits: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
    """Cross-entropy with the labels."""
    return functional.cross_entropy(logits, labels)


def train_stage(
    stage: Stage,
    build: Callable[[], Model],
    inputs: Sequence[Tensor],
    labels: Tensor,
    folder: Path,
    on_epoch: Callable[[EpochMetrics], None],
    judge: Callable[[Model], float] | None = None,
    loss_of: Loss = label_loss,
) -> Model:
    """Train `build()` on inputs (each [N, …]) and labels [N]; returns it in evaluation mode.

    Starts from the checkpoint in `folder` if there is one. `build` is called after seeding. `on_epoch` is told
    of an epoch once it is on disk. With `judge`, which gives the accuracy of a model in evaluation mode, the first
    of the best epochs is returned instead of the last. loss_of: what is made small.

    Raises CheckpointError where the checkpoint is damaged, belongs to another configuration or was begun in
    another precision, ConfigError where the loss is no longer a number or the processor lacks the precision.
    """
    make_folder(folder)
    keep_freed_memory()
    arithmetic = stage_arithmetic(stage, folder, bf16_supported())
    torch.manual_seed(stage.epoch_seed(-1))
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=stage.config.learning_rate, fused=arithmetic == "bf16")
    history, best = load_checkpoint(folder, stage, model, optimizer)
    for epoch in range(len(history), stage.config.epochs):
        metrics = _train_epoch(stage, epoch, arithmetic, model, optimizer, inputs, labels, loss_of)
        if judge:
            metrics = replace(metrics, judged=judge(model.eval()))
            if _is_best(metrics, history):
                best = {name: value.clone() for name, value in model.state_dict().items()}
        history.append(metrics)
        save_checkpoint(folder, stage, arithmetic, model.state_dict(), optimizer.state_dict()["state"], history, best)
        on_epoch(history[-1])
    model.load_state_dict(best or model.state_dict())
    return model.eval()


def stage_arithmetic(stage: Stage, folder: Path, has_bf16: bool) -> Arithmetic:
    """What the stage is to be trained in where `has_bf16` says if there is bfloat16: never in two precisions.

    Raises CheckpointError where it was begun in another one, ConfigError where it asks for what there is not.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return resolve(stage.precision, has_bf16)
    header = _read_header(path, stage)
    if len(header.history) < stage.config.epochs:
        if stage.precision not in ("auto", header.precision):
            raise CheckpointError(
                f"{path} was begun in {header.precision}; set precision to auto or {header.precision}, or start a new "
                "run folder with --out"
            )
        if header.precision == "bf16" and not has_bf16:
            raise CheckpointError(
                f"{path} was begun in bf16, which this processor lacks; go on where it was begun, or start a new run "
                "folder with --out"
            )
    return header.precision


def epochs_done(stage: Stage, folder: Path) -> int:
    """How many epochs the checkpoint in `folder` holds, 0 without one."""
    path = folder / CHECKPOINT
    return len(_read_header(path, stage).history) if path.is_file() else 0


def load_finished(stage: Stage, build: Callable[[], Model], folder: Path) -> Model:
    """The trained model of a finished stage, in evaluation mode."""
    model = build()
    history, best = load_checkpoint(folder, stage, model, None)
    if len(history) < stage.config.epochs:
        raise CheckpointError(
            f"stage {stage.name} in {folder} has {len(history)} of {stage.config.epochs} epochs; "
            f"finish it with: edgepain train --resume {folder.parents[3]} --redo {stage.name}"
        )
    model.load_state_dict(best or model.state_dict())
    return model.eval()


def read_curve(path: Path) -> list[EpochMetrics]:
    """The epochs in a stage's `epochs.csv`. Raises CheckpointError where it is damaged."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]
        return msgspec.convert(rows, list[EpochMetrics], strict=False)
    except (OSError, UnicodeDecodeError, csv.Error, msgspec.ValidationError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); delete it and go on with --resume") from error


def _is_best(metrics: EpochMetrics, history: Sequence[EpochMetrics]) -> bool:
    assert metrics.judged is not None
    return all(earlier.judged is not None and metrics.judged > earlier.judged for earlier in history)


def _train_epoch(
    stage: Stage,
    epoch: int,
    arithmetic: Arithmetic,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    inputs: Sequence[Tensor],
    labels: Tensor,
    loss_of: Loss,
) -> EpochMetrics:
    learning_rate = stage.config.learning_rate_at(epoch)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    torch.manual_seed(stage.epoch_seed(epoch))
    model.train()
    total_loss, correct = 0.0, 0
    for rows in torch.split(torch.randperm(len(labels)), stage.batch_size):
        with computing(arithmetic):
            logits = model(*(x[rows] for x in inputs)).float()
        loss = loss_of(logits, labels[rows], rows)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total_loss += loss.item() * len(rows)
        correct += int((logits.argmax(dim=1) == labels[rows]).sum())
    if not math.isfinite(total_loss):
        raise ConfigError(f"stage {stage.name}: the loss is {total_loss} in epoch {epoch + 1}; lower its learning_rate")
    return EpochMetrics(epoch, learning_rate, total_loss / len(labels), correct / len(labels))


def save_checkpoint(
    folder: Path,
    stage: Stage,
    arithmetic: Arithmetic,
    weights: Mapping[str, Tensor],
    adam: Mapping[int, Mapping[str, Tensor]],
    history: list[EpochMetrics],
    best: Mapping[str, Tensor],
) -> None:
    """Write the checkpoint of a stage and its table, each whole or not at all.

    weights: state dict of the model. adam: of each parameter by its number, as in the optimizer's state dict. best:
    state dict of the best epoch where epochs are judged, else empty. Raises CheckpointError where the disk is full.
    """
    tensors = {f"model.{name}": value for name, value in weights.items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    for index, state in adam.items():
        tensors |= {f"adam.{index}.{name}": value for name, value in state.items()}
    metadata = {
        "stage": stage.name,
        "fingerprint": stage.fingerprint,
        "precision": arithmetic,
        "history": msgspec.json.encode(history).decode(),
    }
    # The table goes first: a kill between the two is made good by the next epoch, the other way round never.
    write_text_atomically(folder / "epochs.csv", _as_csv(history))
    write_atomically(folder / CHECKPOINT, lambda file: file.write(safetensors.torch.save(tensors, metadata)))


def _as_csv(history: list[EpochMetrics]) -> str:
    table = io.StringIO()
    writer = csv.DictWriter(table, list(asdict(history[0])))
    writer.writeheader()
    writer.writerows(asdict(metrics) for metrics in history)
    return table.getvalue()


class _Header(msgspec.Struct, frozen=True):
    """The metadata of a checkpoint. Checkpoints of versions that had no bfloat16 do not name their precision."""

    history: list[EpochMetrics]
    stage: str
    fingerprint: str
    precision: Arithmetic = "fp32"


def _read_header(path: Path, stage: Stage) -> _Header:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        history = msgspec.json.decode(metadata.get("history", ""))
        header = msgspec.convert({**metadata, "history": history}, _Header)
    except (SafetensorError, OSError, msgspec.DecodeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}); train this stage again with: "
            f"edgepain train --resume {path.parents[4]} --redo {stage.name}"
        ) from error
    if header.fingerprint != stage.fingerprint or header.stage != stage.name:
        raise CheckpointError(
            f"{path} belongs to another configuration or other data; start a new run folder with --out"
        )
    return header


def load_checkpoint(
    folder: Path, stage: Stage, model: nn.Module, optimizer: torch.optim.Optimizer | None
) -> tuple[list[EpochMetrics], dict[str, Tensor]]:
    """Fill model and optimiser; the epochs so far, and the weights of the best one where epochs are judged.

    Without a checkpoint nothing is filled. Raises CheckpointError where it is damaged or of something else.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return [], {}
    history = _read_header(path, stage).history
    tensors = safetensors.torch.load_file(path)
    try:
        model.load_state_dict(
            {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
        )
        if optimizer is not None:
            states: dict[int, dict[str, Tensor]] = {}
            for name, tensor in tensors.items():
                if name.startswith("adam."):
                    _, index, field = name.split(".")
                    states.setdefault(int(index), {})[field] = tensor
            optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} does not fit this network; start a new run folder with --out") from error
    return history, {name.removeprefix("best."): t for name, t in tensors.items() if name.startswith("best.")}
