"""What is searched, in which ranges, and how hard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from edgepain.errors import ConfigError
from edgepain.train.config import StageConfig
from edgepain.train.fold import Fold
from edgepain.train.precision import resolve
from edgepain.train.run import Run
from edgepain.train.staged import FINAL, stage_configs


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Both ends belong to it."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise ValueError(f"{self} is no range within 0 … 1")

    def __str__(self) -> str:
        return f"{_short(self.low)}…{_short(self.high)}"


def _short(value: float) -> str:
    if value == 0 or value >= 0.01:
        return f"{value:g}"
    mantissa, exponent = f"{value:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


# Table 4 of the paper.
PAPER_RATES = Range(1e-6, 1e-3)
PAPER_DROPOUTS = {"crossmod": Range(0.3, 0.7)}
PAPER_BLOCK_DROPOUTS = Range(0.1, 0.4)


@dataclass(frozen=True)
class SearchPlan:
    """What a user asks for.

    folds, stages: names, empty for all. trials: of each stage in each fold, the configured settings among them.
    inner: folds by subject among the training subjects. epochs: of every stage in the search, None for those of the
    run. rates, dropouts: other ranges than the paper's. force: set studies of other settings and trained stages aside.
    """

    folds: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    trials: int = 20
    inner: int = 3
    epochs: int | None = None
    rates: Range | None = None
    dropouts: Range | None = None
    workers: int = 1
    force: bool = False


def ranges_of(plan: SearchPlan, stage: str) -> tuple[Range, Range]:
    """Learning rates (logarithmic) and dropouts (uniform) of a stage."""
    kind = stage.partition(".")[0]
    return plan.rates or PAPER_RATES, plan.dropouts or PAPER_DROPOUTS.get(kind, PAPER_BLOCK_DROPOUTS)


def planned_folds(run: Run, plan: SearchPlan) -> tuple[Fold, ...]:
    """The folds to search in. Raises ConfigError where one is not of this run."""
    return tuple(run.fold(name) for name in plan.folds) if plan.folds else run.folds


def planned_stages(run: Run, plan: SearchPlan) -> tuple[str, ...]:
    """The stages to search, in the order of training.

    Raises ConfigError where one is not of this network, or the run cannot be searched at all.
    """
    if not run.config.network:
        raise ConfigError(f"{run.folder} trains only peers, which have nothing to search; leave out --peers-only")
    if run.config.teacher:
        raise ConfigError(
            f"{run.folder} learns from a teacher, which a search does not ask; search before distilling: the settings "
            "of stages in a --config of its own"
        )
    if plan.rates and plan.rates.low <= 0:
        raise ConfigError(f"learning rates {plan.rates} are searched by their logarithm; begin above 0")
    resolve(run.config.train.precision)
    names = tuple(stage_configs(run.config.modalities, run.config.train))
    if unknown := [name for name in plan.stages if name not in names]:
        raise ConfigError(f"no stage is called {unknown[0]!r}; there are {', '.join(names)}")
    return tuple(name for name in names if not plan.stages or name in plan.stages)


def upstream(names: Sequence[str], stage: str) -> tuple[str, ...]:
    """The stages whose features a stage is trained on, and those that these need."""
    kind, _, modality = stage.partition(".")
    if stage == FINAL:
        return tuple(name for name in names if name != FINAL)
    return (f"fcn.{modality}", f"alstm.{modality}") if kind == "transformer" else ()


def shortened(config: StageConfig, epochs: int | None) -> StageConfig:
    """The same with so many epochs, the steps of its schedule at the same share of them."""
    if epochs is None or epochs == config.epochs:
        return config
    milestones = (max(1, round(milestone * epochs / config.epochs)) for milestone in config.milestones)
    return msgspec.structs.replace(config, epochs=epochs, milestones=tuple(m for m in milestones if m < epochs))
