"""The plan of a run, from the options of `edgepain train`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgepain.train.batched import Device
    from edgepain.train.config import TrainConfig
    from edgepain.train.create import Plan
    from edgepain.train.student import StudentPlan


def new_plan(device: Device | None, /, **asked: Any) -> Plan:
    """The plan of a run from its options; device: on which many folds are trained at once, if anywhere."""
    from edgepain.train.config import load_config
    from edgepain.train.create import Plan
    from edgepain.train.datasets.base import parse_options

    missing = [f"--{name}" for name in ("dataset", "root", "out") if asked[name] is None]
    if missing:
        raise click.UsageError(f"{' and '.join(missing)} must be given (or --resume RUN)")
    return Plan(
        dataset=asked["dataset"],
        root=asked["root"],
        options=parse_options(asked["dataset"], asked["options"]),
        modalities=_modalities(asked["modalities"]),
        holdout=asked["holdout"],
        seeds=tuple(dict.fromkeys(asked["seeds"])),
        train=_configuration(load_config(asked["config_name"]), **asked),
        protocol=asked["protocol"],
        epoch_choice="test-fold" if asked["test_fold"] else "last",
        peers=tuple(dict.fromkeys(asked["peers"])),
        network=not asked["peers_only"],
        threads=_threads(**asked),
        size=asked["size"],
        has_bf16=device.has_bf16 if device else None,
    )


def student_plan(configured: bool, /, **asked: Any) -> StudentPlan:
    """The plan of a run that learns from another; configured: --config was given, else the teacher's counts."""
    from edgepain.train.config import load_config
    from edgepain.train.run import open_run
    from edgepain.train.student import StudentPlan

    if asked["out"] is None:
        raise click.UsageError("--out must be given")
    config = load_config(asked["config_name"]) if configured else open_run(asked["distill"]).config.train
    return StudentPlan(
        teacher=asked["distill"],
        train=_configuration(config, **asked),
        size=asked["size"],
        peers=tuple(dict.fromkeys(asked["peers"])),
        threads=_threads(**asked),
    )


def _threads(**asked: Any) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    default = 1 if asked["engine"] == "ray" else max(1, cores // asked["workers"])
    return int(asked["threads"] or default)


def _configuration(config: TrainConfig, /, **asked: Any) -> TrainConfig:
    """The configuration with what options say instead."""
    import msgspec

    from edgepain.errors import ConfigError
    from edgepain.train.config import TrainConfig

    names = ("fusion", "scaling", "limit_iqr", "modality_dropout", "calibration_share", "precision")
    changes = {name: asked[name] for name in names if asked[name] is not None}
    document = msgspec.to_builtins(msgspec.structs.replace(config, **changes))
    if asked["window_s"]:
        # As many points a second as before.
        steps = round(asked["window_s"] / config.window_spec.period_s) + 1
        document["window"] = {"seconds": asked["window_s"], "steps": steps}
    if asked["steps"]:
        document["window"]["steps"] = asked["steps"]
    try:
        return msgspec.convert(document, TrainConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"configuration {config.name} with the options given: {error}") from error


def _modalities(text: str) -> tuple[Any, ...]:
    from edgepain.errors import ConfigError
    from edgepain.signal import Modality

    try:
        modalities = tuple(Modality(name.strip()) for name in text.split(",") if name.strip())
    except ValueError as error:
        raise ConfigError(f"--modalities: {error}; there are {', '.join(Modality)}") from error
    if modalities and (len(modalities) != 2 or len(set(modalities)) != 2):
        raise ConfigError("--modalities takes two different ones, e.g. eda,ecg")
    return modalities
