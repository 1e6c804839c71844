"""How far a search is, and what it chose: read from the run folder while others write it."""

from __future__ import annotations

from dataclasses import dataclass

from edgepain.train.config import StageConfig
from edgepain.train.run import Run
from edgepain.train.search.plan import Range, SearchPlan, ranges_of, shortened
from edgepain.train.search.work import FoldSearch, fold_searches
from edgepain.train.staged import stage_configs


@dataclass(frozen=True)
class StageState:
    """The stage that a fold is at. best: highest mean balanced accuracy so far, None before the first trial."""

    fold: str
    stage: str
    trials: int
    best: float | None


@dataclass(frozen=True)
class SearchState:
    """trials: finished in all. epochs_left: of trainings on inner folds, by stage over all folds, without pruning."""

    trials: int
    total: int
    current: tuple[StageState, ...]
    epochs_left: dict[str, int]


@dataclass(frozen=True)
class Decision:
    """What was chosen for a stage of a fold. Scores are mean balanced accuracies over the inner folds."""

    fold: str
    stage: str
    rates: Range
    dropouts: Range
    configured: StageConfig
    chosen: StageConfig
    trials: int
    configured_score: float | None
    score: float


class Watch:
    """Looks at a search. Raises ConfigError where the plan does not fit the run."""

    def __init__(self, run: Run, plan: SearchPlan) -> None:
        self._plan = plan
        configs = stage_configs(run.config.modalities, run.config.train)
        self._configured = configs
        self._trial_epochs = {n: plan.inner * shortened(config, plan.epochs).epochs for n, config in configs.items()}
        self._searches = fold_searches(run, plan)

    def look(self) -> SearchState:
        """The state now."""
        parts = [self._fold_state(each) for each in self._searches]
        epochs: dict[str, int] = {}
        for _, left, _ in parts:
            for stage, count in left.items():
                epochs[stage] = epochs.get(stage, 0) + count
        total = sum(len(each.stages) for each in self._searches) * self._plan.trials
        current = tuple(state for _, _, state in parts if state and state.trials)
        return SearchState(sum(done for done, _, _ in parts), total, current, epochs)

    def decisions(self) -> list[Decision]:
        """What was chosen in folds that are decided."""
        return [
            self._decision(each, stage) for each in self._searches if each.undecided() is None for stage in each.stages
        ]

    def _fold_state(self, each: FoldSearch) -> tuple[int, dict[str, int], StageState | None]:
        trials, at = self._plan.trials, each.undecided()
        if at is None:
            return trials * len(each.stages), {}, None
        index = each.stages.index(at)
        left = {stage: trials * self._trial_epochs[stage] for stage in each.stages[index:]}
        if not each.journal(at).is_file():
            return trials * index, left, None
        study = each.study(at)
        finished, best = min(study.finished(), trials), study.best()
        left[at] = max(0, left[at] - finished * self._trial_epochs[at] - study.running_epochs())
        state = StageState(each.fold.name, at, finished, best.value if best else None)
        return trials * index + finished, left, state

    def _decision(self, each: FoldSearch, stage: str) -> Decision:
        study = each.study(stage)
        best = study.best()
        assert best is not None
        assert best.value is not None
        return Decision(
            each.fold.name,
            stage,
            *ranges_of(self._plan, stage),
            self._configured[stage],
            each.fold.chosen[stage],
            study.finished(),
            study.default_score(),
            best.value,
        )
