"""How long an epoch of every stage takes, beside a plain float32 loop, in turns on as many threads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import torch

from edgepain.benchmarks.train_blocks import CLOCKS, KINDS, MODALITIES, Blocks, Clock
from edgepain.errors import EdgepainError
from edgepain.train.features import frozen_features
from edgepain.train.precision import resolve
from edgepain.train.stage import EpochMetrics, Headed, Stage, train_stage

# BioVid, leave one subject out: 86 people with 40 windows each.
FOLD_WINDOWS = 86 * 40
Progress = Callable[[str], None]


class StageTimes(msgspec.Struct, frozen=True):
    """Shortest epoch of each way. plain_kept_s: plain, but given the frozen blocks' features. precision: of ours.

    epochs: of the paper, over all modalities. features_s: once a stage, to keep the features for the next one.
    """

    stage: str
    plain_s: float
    plain_kept_s: float
    ours_s: float
    precision: str
    epochs: int
    features_s: float


class Protocol(msgspec.Struct, frozen=True):
    """The paper's epochs of all stages, for a fold of `windows`: hours, and how many times faster ours is."""

    windows: int
    plain_h: float
    plain_kept_h: float
    ours_h: float
    times_faster: float
    times_faster_than_kept: float


def measure_speed(windows: int, rounds: int, threads: int, clock: Clock, progress: Progress) -> tuple[StageTimes, ...]:
    """Measure one block of every kind on `windows` windows; the shortest of `rounds` epochs counts, after one more.

    Raises EdgepainError where the process of the plain loop ends.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return tuple(_measure(Blocks.of(kind, windows), rounds, threads, clock, progress) for kind in KINDS)


def _measure(blocks: Blocks, rounds: int, threads: int, clock: Clock, progress: Progress) -> StageTimes:
    kind, now = blocks.kind, CLOCKS[clock]
    kept = blocks.kept(blocks.raw(), blocks.frozen())
    times: dict[str, list[float]] = {"plain": [], "kept": [], "ours": []}
    config = msgspec.structs.replace(blocks.stage_config, epochs=rounds + 1, milestones=())
    stage = Stage(kind, config, blocks.config.batch_size, 0, "benchmark")
    command = [
        sys.executable,
        "-m",
        "edgepain.benchmarks.plain_training",
        kind,
        str(blocks.windows),
        str(threads),
        clock,
    ]
    with (
        TemporaryDirectory(prefix="edgepain-") as scratch,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as plain,
    ):
        start = now()

        def after_ours(metrics: EpochMetrics) -> None:
            nonlocal start
            times["ours"].append(now() - start)
            for way, seconds in _next_epoch(plain).items():
                times[way].append(seconds)
            progress(f"{kind}, round {metrics.epoch + 1} of {rounds + 1}")
            start = now()

        model = train_stage(stage, blocks.build, kept, blocks.labels, Path(scratch), after_ours)
        start = now()
        if isinstance(model, Headed):
            frozen_features(Path(scratch), kind, model.block, kept, index=1 if kind == "transformer" else 0)
        features_s = now() - start
    shortest = {way: min(seconds[1:]) for way, seconds in times.items()}
    modalities = len(MODALITIES) if isinstance(model, Headed) else 1
    return StageTimes(
        stage=kind,
        plain_s=shortest["plain"],
        plain_kept_s=shortest["kept"],
        ours_s=shortest["ours"],
        precision="fp32" if kind == "crossmod" and blocks.spec.fusion == "pooled" else resolve("auto"),
        epochs=blocks.stage_config.epochs * modalities,
        features_s=features_s * modalities,
    )


def _next_epoch(plain: subprocess.Popen[str]) -> dict[str, float]:
    assert plain.stdin
    assert plain.stdout
    with suppress(BrokenPipeError):  # What it ended with is asked below.
        plain.stdin.write("\n")
        plain.stdin.flush()
    line = plain.stdout.readline()
    if not line:
        raise EdgepainError(f"the plain loop ended with {plain.wait()}; fewer --windows need less memory")
    seconds: dict[str, float] = json.loads(line)
    return seconds


def whole_protocol(stages: tuple[StageTimes, ...], windows: int) -> Protocol:
    """All epochs of the paper on FOLD_WINDOWS windows, from epochs measured on `windows`."""
    hours = FOLD_WINDOWS / windows / 3600
    features = sum(s.features_s for s in stages)
    plain = sum(s.plain_s * s.epochs for s in stages)
    kept = features + sum(s.plain_kept_s * s.epochs for s in stages)
    ours = features + sum(s.ours_s * s.epochs for s in stages)
    return Protocol(FOLD_WINDOWS, plain * hours, kept * hours, ours * hours, plain / ours, kept / ours)
