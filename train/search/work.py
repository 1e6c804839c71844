"""Work on a search: any number of processes, each doing one trial after the other until everything is decided."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import msgspec
import torch

from edgepain.errors import CheckpointError, ConfigError, EdgepainError
from edgepain.train.chosen import write_chosen
from edgepain.train.config import StageConfig
from edgepain.train.files import one_after_the_other, only_one_process, try_lock
from edgepain.train.fold import Fold
from edgepain.train.redo import forget_stages, with_dependents
from edgepain.train.run import NETWORK, Run, open_run
from edgepain.train.search.inner import InnerFolds, inner_splits
from edgepain.train.search.plan import SearchPlan, planned_folds, planned_stages, ranges_of, shortened, upstream
from edgepain.train.search.study import StageStudy, StudySettings, forget_trials
from edgepain.train.staged import stage_configs
from edgepain.train.workers import TICK_S, Call, in_processes


def search(run: Run, plan: SearchPlan, tick: Callable[[], None]) -> None:
    """Search until every stage of every fold of the plan is decided; `tick` is called now and then.

    Others may call this for the same run at the same time. Raises ConfigError where the plan does not fit the run or
    a study on disk, CheckpointError where a fold is trained already and `plan.force` is not set, a file is damaged, or
    the run is being trained.
    """
    searches = fold_searches(run, plan)
    with only_one_process(run.folder, shared=True):
        for each in searches:
            each.check()
        if plan.workers == 1:
            _work(run, plan, tick)
        else:
            _work_in_processes(run, plan, tick)
    # The last one to leave tidies up: others may still need what lies there.
    if lock := try_lock(run.folder / ".lock"):
        with lock:
            for each in searches:
                each.clean()


def fold_searches(run: Run, plan: SearchPlan) -> list[FoldSearch]:
    """The search in each fold of the plan. Raises ConfigError where the plan does not fit the run."""
    stages = planned_stages(run, plan)
    return [FoldSearch(fold, plan, stages) for fold in planned_folds(run, plan)]


class FoldSearch:
    """The search in one fold, stage after stage."""

    def __init__(self, fold: Fold, plan: SearchPlan, stages: Sequence[str]) -> None:
        self.fold = fold
        self.plan = plan
        self.stages = tuple(stages)
        self._decided: set[str] = set()
        self._studies: dict[str, StageStudy] = {}
        self._inner: tuple[str, InnerFolds] | None = None

    @property
    def folder(self) -> Path:
        """Everything of the search but its result."""
        return self.fold.folder / "search"

    def journal(self, stage: str) -> Path:
        """The file of a stage's study."""
        return self.folder / f"{stage}.journal"

    def undecided(self) -> str | None:
        """The first stage that is not decided yet; None at the end."""
        for stage in self.stages:
            if stage in self._decided:
                continue
            if stage not in self.fold.chosen or self.study(stage).finished() < self.plan.trials:
                return stage
            self._decided.add(stage)
        return None

    def check(self) -> None:
        """Raise what would come up after hours; with `force`, forget what was trained with other settings."""
        inner_splits(self.fold, self.plan.inner)
        stage = self.undecided()
        if stage is None:
            return
        todo = self.stages[self.stages.index(stage) :]
        for name in todo:
            if self.journal(name).is_file() and not set(upstream(self._names, name)) & set(todo):
                self.study(name)
        if self.plan.force:
            forget_stages(self.fold.run, todo, [self.fold])
            return
        trained = [n for n in with_dependents(self.fold.run, todo) if (self.fold.folder / "stages" / n).exists()]
        if trained or self.fold.answers_path(NETWORK).is_file():
            raise CheckpointError(
                f"fold {self.fold.name} is trained, at least in part, with settings that this search would change; "
                "train in a new run folder, or forget what was trained with --force"
            )

    def step(self, tick: Callable[[], None]) -> bool:
        """Do a trial or decide a stage; False where there is nothing to do but to wait for others, or at all."""
        stage = self.undecided()
        if stage is None:
            self._inner = None
            return False
        study = self.study(stage)
        trial = study.ask(self.plan.trials)
        if trial:
            try:
                self._inner_folds(stage, tick).run(trial, self._base(stage))
            finally:
                trial.close()
            tick()
            return True
        if study.finished() < self.plan.trials:
            return False
        self._decide(stage, study)
        return True

    def study(self, stage: str) -> StageStudy:
        """The study of a stage, whose blocks before it are decided."""
        if stage not in self._studies:
            rates, dropouts = ranges_of(self.plan, stage)
            before = {name: self._base(name) for name in upstream(self._names, stage)}
            settings = StudySettings(
                stage, rates, dropouts, self._configured(stage), self.plan.inner, before, self.fold.run.fingerprint
            )
            self._studies[stage] = StageStudy(self.folder, settings, self.fold.seed, self.plan.force)
        return self._studies[stage]

    def clean(self) -> None:
        """Remove what only trials need."""
        for path in (*self.folder.glob("inner*"), self.folder / "trials"):
            shutil.rmtree(path, ignore_errors=True)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(stage_configs(self.fold.run.config.modalities, self.fold.run.config.train))

    def _configured(self, stage: str) -> StageConfig:
        """The run's settings of a stage, with the epochs of the search."""
        config = self.fold.run.config
        return shortened(stage_configs(config.modalities, config.train)[stage], self.plan.epochs)

    def _base(self, stage: str) -> StageConfig:
        """The same with what is chosen already."""
        config = self.fold.run.config
        train = self.fold.train_config
        return shortened(stage_configs(config.modalities, train)[stage], self.plan.epochs)

    def _inner_folds(self, stage: str, tick: Callable[[], None]) -> InnerFolds:
        if self._inner is None or self._inner[0] != stage:
            self._inner = None
            train = self.fold.run.config.train
            config = msgspec.structs.replace(train, stages={name: self._base(name) for name in self._names})
            self._inner = (stage, InnerFolds(self.fold, self.plan.inner, config, stage, self.folder, tick))
        return self._inner[1]

    def _decide(self, stage: str, study: StageStudy) -> None:
        best = study.best()
        if best is None:
            raise ConfigError(
                f"fold {self.fold.name}, stage {stage}: no trial ended with a loss that is a number; search lower "
                "learning rates, under another configuration"
            )
        config = self.fold.run.config
        now = stage_configs(config.modalities, config.train)[stage]
        settings = msgspec.structs.replace(now, **best.params)
        with one_after_the_other(self.folder / ".lock"):
            write_chosen(self.fold.folder, {**self.fold.chosen, stage: settings})
        forget_trials(self.folder, [stage])
        self._decided.add(stage)


def _work(run: Run, plan: SearchPlan, tick: Callable[[], None]) -> None:
    torch.set_num_threads(run.threads)
    searches = fold_searches(run, plan)
    while True:
        if any(each.step(tick) for each in searches):
            continue
        if all(each.undecided() is None for each in searches):
            return
        time.sleep(TICK_S)
        tick()


def _work_in_processes(run: Run, plan: SearchPlan, tick: Callable[[], None]) -> None:
    calls = [Call(f"worker {n + 1}", _in_process, (run.folder, plan)) for n in range(plan.workers)]
    for name, error in in_processes(calls, plan.workers, tick):
        if error:
            raise CheckpointError(f"{name}: {error}")


def _in_process(folder: Path, plan: SearchPlan) -> str:
    """Work in a process that knows nothing yet; why it could not go on, or empty."""
    try:
        _work(open_run(folder), plan, lambda: None)
    except EdgepainError as error:
        return str(error)
    except Exception:
        return traceback.format_exc()
    return ""
