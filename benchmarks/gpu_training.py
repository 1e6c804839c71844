"""How long folds that are trained at once take on a GPU, and what that makes of a whole leave-one-subject-out."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import ceil

import msgspec
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from edgepain.benchmarks import flops
from edgepain.benchmarks.gpu_use import GpuUse
from edgepain.benchmarks.machine import Machine, this_machine
from edgepain.benchmarks.train_blocks import KINDS, MODALITIES, Blocks
from edgepain.benchmarks.train_speed import FOLD_WINDOWS, Progress
from edgepain.train.batched import Device, enough_memory, float32_products
from edgepain.train.batched.engine import features_on
from edgepain.train.batched.forward import forward_of
from edgepain.train.batched.group import Group, Windows
from edgepain.train.batched.stack import Stack
from edgepain.train.precision import Arithmetic, resolve
from edgepain.train.stage import Headed

SCHEMA = 1
# BioVid: each of its people is held out once.
ALL_FOLDS = 87
PRODUCTS = {"bf16": torch.bfloat16, "fp32": torch.float32}
# Forward once, and backward as much again for the inputs and for the weights.
PASSES = 3
# Frozen blocks run for the Transformer block, and once more for the fusion.
FEATURE_RUNS = {"fcn": 2, "alstm": 2, "transformer": 1, "crossmod": 0}


class GroupTimes(msgspec.Struct, frozen=True):
    """A stage of one modality (crossmod: of both), all folds of a group at once.

    epoch_s: mean of the rounds. features_s: of one fold, frozen. teraflops: FLOPs of the layers a second, forward and
    backward. gpu_percent: share of the time in which the GPU did anything; None with the reason in `why_not`.
    epochs: of the paper, over all modalities. hours: of these, and the features, for all folds.
    """

    stage: str
    epoch_s: float
    features_s: float
    teraflops: float
    gpu_percent: float | None
    why_not: str
    epochs: int
    hours: float


class GpuReport(msgspec.Struct, frozen=True):
    """Stages with the paper's settings on `windows` random windows a fold; hours for `all_folds` of `fold_windows`."""

    schema: int
    machine: Machine
    gpu: str
    precision: Arithmetic
    folds: int
    windows: int
    rounds: int
    all_folds: int
    fold_windows: int
    stages: tuple[GroupTimes, ...]
    hours: float


def benchmark_groups(device: Device, folds: int, windows: int, rounds: int, progress: Progress) -> GpuReport:
    """Measure every stage with so many folds at once: epochs after a first one, and frozen features.

    Raises ConfigError where the device has too little memory for them.
    """
    torch.manual_seed(0)
    arithmetic = resolve("auto", device.has_bf16)
    stages = []
    for kind in KINDS:
        progress(f"{kind}, {folds} folds at once")
        with enough_memory(device, folds), float32_products(arithmetic):
            stages.append(_measure(Blocks.of(kind, windows), device.torch, arithmetic, folds, rounds))
    return GpuReport(
        schema=SCHEMA,
        machine=this_machine(),
        gpu=torch.cuda.get_device_name(device.torch) if device.torch.type == "cuda" else "",
        precision=arithmetic,
        folds=folds,
        windows=windows,
        rounds=rounds,
        all_folds=ALL_FOLDS,
        fold_windows=FOLD_WINDOWS,
        stages=tuple(stages),
        hours=sum(stage.hours for stage in stages),
    )


def _measure(blocks: Blocks, device: torch.device, arithmetic: Arithmetic, folds: int, rounds: int) -> GroupTimes:
    models = [blocks.build() for _ in range(folds)]
    epoch = _epochs(blocks, models, device, arithmetic)
    epoch()
    with GpuUse(_uuid(device)) as use:
        start = time.perf_counter()
        for _ in range(rounds):
            epoch()
        epoch_s = (time.perf_counter() - start) / rounds
    features_s = _features_s(blocks, models[0], device)
    spec, config = blocks.spec, blocks.stage_config
    modalities = 1 if blocks.kind == "crossmod" else len(MODALITIES)
    seconds = epoch_s * config.epochs * ceil(ALL_FOLDS / folds) + features_s * FEATURE_RUNS[blocks.kind] * ALL_FOLDS
    operations = PASSES * getattr(flops, blocks.kind)(spec).mflops * 1e6 * folds * blocks.windows
    return GroupTimes(
        stage=blocks.kind,
        epoch_s=epoch_s,
        features_s=features_s,
        teraflops=operations / epoch_s / 1e12,
        gpu_percent=use.percent,
        why_not=use.why_not,
        epochs=config.epochs * modalities,
        hours=seconds * modalities * FOLD_WINDOWS / blocks.windows / 3600,
    )


def _uuid(device: torch.device) -> str | None:
    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else None


def _epochs(
    blocks: Blocks, models: list[nn.Module], device: torch.device, arithmetic: Arithmetic
) -> Callable[[], object]:
    """Trains an epoch each time, and waits for it."""
    shapes = _input_shapes(blocks)
    inputs = tuple(torch.randn(len(models), blocks.windows, *shape, device=device) for shape in shapes)
    labels = blocks.labels.to(device).expand(len(models), -1)
    group = Group(
        Stack(models, [{} for _ in models], device),
        forward_of(models[0]),
        Windows(inputs, labels, (blocks.windows,) * len(models)),
        blocks.config.batch_size,
        blocks.stage_config.dropout,
        PRODUCTS[arithmetic],
    )
    orders = [torch.randperm(blocks.windows) for _ in models]
    return lambda: group.epoch(orders, blocks.stage_config.learning_rate, seed=0)


def _input_shapes(blocks: Blocks) -> tuple[tuple[int, ...], ...]:
    spec = blocks.spec
    if blocks.kind == "crossmod":
        return ((spec.width,),) * len(MODALITIES)
    return ((spec.steps, spec.width),) * 2 if blocks.kind == "transformer" else ((1, spec.steps),)


def _features_s(blocks: Blocks, model: nn.Module, device: torch.device) -> float:
    """Seconds for the frozen features of one fold."""
    if not isinstance(model, Headed):
        return 0.0
    inputs = tuple(torch.randn(blocks.windows, *shape, device=device) for shape in _input_shapes(blocks))
    seconds = []
    for _ in range(2):  # The first one chooses its kernels.
        start = time.perf_counter()
        features_on(device, model.block, inputs, index=0).sum().item()
        seconds.append(time.perf_counter() - start)
    return seconds[1]


def show(report: GpuReport, console: Console) -> None:
    """Print `report`."""
    machine = report.machine
    console.print(
        f"{report.gpu or machine.processor}, {report.folds} folds at once, {report.precision}, "
        f"torch {machine.packages['torch']}, Python {machine.python}",
        highlight=False,
        markup=False,
    )
    table = Table(
        title=f"Seconds an epoch of {report.windows} windows in each fold, mean of {report.rounds}; hours of the "
        f"paper's epochs for {report.all_folds} folds of {report.fold_windows}",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("stage")
    for heading in ("epoch", "features", "TFLOP/s", "GPU busy", "epochs", "hours"):
        table.add_column(heading, justify="right")
    for s in report.stages:
        busy = "n/a" if s.gpu_percent is None else f"{s.gpu_percent:.0f} %"
        numbers = f"{s.epoch_s:.3f}", f"{s.features_s:.3f}", f"{s.teraflops:.1f}", busy
        table.add_row(s.stage, *numbers, str(s.epochs), f"{s.hours:.2f}")
    table.add_section()
    table.add_row("all folds", "", "", "", "", str(sum(s.epochs for s in report.stages)), f"{report.hours:.2f}")
    console.print(table)
    notes = [f"GPU busy: n/a, {reason}" for reason in dict.fromkeys(s.why_not for s in report.stages) if reason]
    notes.append("Projected from these epochs; windows, checkpoints and the answers of each fold come on top.")
    for note in notes:
        console.print(note, highlight=False, markup=False)
