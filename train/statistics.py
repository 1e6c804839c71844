"""From answers to numbers over folds, seeds and subjects.

A condition is a model, how its windows were scaled, and the modality that was missing. Several seeds judge the same
people, which is no new evidence. Where they share folds, a fold is first averaged over its seeds. Where each seed drew
folds of its own, all folds are kept apart, and intervals count the folds of one seed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from sklearn import metrics

from edgepain.bundle import Scaling
from edgepain.train.answers import Answers
from edgepain.train.metrics import score

METRICS = ("accuracy", "sensitivity", "specificity", "precision", "f1", "auc", "balanced_accuracy", "ece")
_SEED = re.compile(r"seed[0-9]+-(?=.)")


class Condition(NamedTuple):
    """missing: the modality taken away, empty for none."""

    model: str
    scaling: Scaling
    missing: str


@dataclass(frozen=True)
class Summary:
    """One condition over folds, seeds and windows.

    mean, sd (n − 1, over folds) and pooled (all windows of a seed at once, then the mean over seeds) are indexed by
    METRICS; NaN where there is none. f1_interval: 95 % confidence interval of the mean F1 by Student's t over folds,
    cut at 0 and 1. seed_sd: SD of the seeds' means, over the same folds where they share them. one_class: folds
    without a window of some class, which count in `pooled` only. windows, left_out: of one seed, on average. redrawn:
    seeds have folds of their own.
    """

    condition: Condition
    folds: int
    one_class: tuple[str, ...]
    seeds: int
    subjects: int
    windows: float
    left_out: float
    mean: pd.Series
    sd: pd.Series
    seed_sd: pd.Series
    pooled: pd.Series
    f1_interval: tuple[float, float] | None
    redrawn: bool


def redrawn(answers: Sequence[Answers]) -> bool:
    """Whether folds of one number hold different people under different seeds."""
    people: dict[str, set[str]] = {}
    return any(set(a.subjects) != people.setdefault(_without_seed(a), set(a.subjects)) for a in answers)


def by_condition(answers: Sequence[Answers]) -> dict[Condition, list[Answers]]:
    """Answers of every condition, in the order in which conditions first come."""
    found: dict[Condition, list[Answers]] = {}
    for each in answers:
        found.setdefault(Condition(each.model, each.scaling, each.missing), []).append(each)
    return found


def fold_scores(answers: Sequence[Answers]) -> pd.DataFrame:
    """Scores of answers of one condition: index (fold, seed), columns METRICS, NaN where a class is missing.

    A fold that seeds share has one name for all.
    """
    name = _namer(answers)
    rows = {(name(a), a.seed): _as_row(score(a.labels, a.probabilities, a.subjects)) for a in answers}
    index = pd.MultiIndex.from_tuples(rows, names=["fold", "seed"])
    return pd.DataFrame(list(rows.values()), index=index, columns=list(METRICS), dtype=np.float64)


def over_seeds(scores: pd.DataFrame) -> pd.DataFrame:
    """`fold_scores` averaged over seeds, index fold; folds without scores are left out."""
    return scores.groupby(level="fold", sort=False).mean().dropna(subset=["f1"])


def summarise(condition: Condition, answers: Sequence[Answers], scores: pd.DataFrame) -> Summary:
    """Summary of answers of one condition. scores: their `fold_scores`."""
    folds = over_seeds(scores)
    seeds = sorted({a.seed for a in answers})
    each_seed = [join([a for a in answers if a.seed == seed]) for seed in seeds]
    pooled = pd.DataFrame([_as_row(score(a.labels, a.probabilities, a.subjects)) for a in each_seed])
    names = dict.fromkeys(map(_namer(answers), answers))
    own_folds = redrawn(answers)
    return Summary(
        condition=condition,
        folds=len(folds),
        one_class=tuple(name for name in names if name not in folds.index),
        seeds=len(seeds),
        subjects=int(np.unique(np.concatenate([a.subjects for a in answers])).size),
        windows=float(np.mean([len(a) for a in each_seed])),
        left_out=float(np.mean([a.left_out for a in each_seed])),
        mean=folds.mean(),
        sd=folds.std(ddof=1),
        seed_sd=_seed_sd(scores, own_folds),
        pooled=pooled.astype(np.float64).mean(),
        f1_interval=_interval(folds["f1"].to_numpy(), len(seeds) if own_folds else 1),
        redrawn=own_folds,
    )


def join(answers: Sequence[Answers]) -> Answers:
    """Several answers of one condition as one; fold and seed are those of the first."""
    return replace(
        answers[0],
        left_out=sum(a.left_out for a in answers),
        rows=np.concatenate([a.rows for a in answers]),
        labels=np.concatenate([a.labels for a in answers]),
        subjects=np.concatenate([a.subjects for a in answers]),
        probabilities=np.concatenate([a.probabilities for a in answers]),
    )


def subject_scores(answers: Sequence[Answers]) -> pd.DataFrame:
    """Accuracy, F1 and windows of each subject under one condition, averaged over seeds; index subject.

    F1 is NaN where a subject has no window of some class.
    """
    rows = []
    for seed in sorted({a.seed for a in answers}):
        pooled = join([a for a in answers if a.seed == seed])
        predicted = pooled.probabilities.argmax(axis=1)
        classes = pooled.probabilities.shape[1]
        for subject in np.unique(pooled.subjects):
            mine = pooled.subjects == subject
            truth, said = pooled.labels[mine], predicted[mine]
            average = "binary" if classes == 2 else "macro"
            every_class = np.unique(truth).size == classes
            f1 = metrics.f1_score(truth, said, average=average, zero_division=0.0) if every_class else np.nan
            rows.append((str(subject), float(np.mean(truth == said)), float(f1), int(mine.sum())))
    table = pd.DataFrame(rows, columns=["subject", "accuracy", "f1", "windows"])
    return table.groupby("subject").mean()


def _as_row(scores: msgspec.Struct) -> dict[str, float | None]:
    return {name: getattr(scores, name) for name in METRICS}


def _without_seed(answers: Answers) -> str:
    return _SEED.sub("", answers.fold)


def _namer(answers: Sequence[Answers]) -> Callable[[Answers], str]:
    return (lambda a: a.fold) if redrawn(answers) else _without_seed


def _interval(values: npt.NDArray[np.float64], repeats: int) -> tuple[float, float] | None:
    """repeats: how often the same people come in the values; they count once."""
    independent = values.size // repeats
    if independent < 2:
        return None
    mean, error = float(values.mean()), float(np.std(values, ddof=1) / np.sqrt(independent))
    if error == 0.0:
        return mean, mean
    low, high = stats.t.interval(0.95, independent - 1, loc=mean, scale=error)
    return max(float(low), 0.0), min(float(high), 1.0)


def _seed_sd(scores: pd.DataFrame, own_folds: bool) -> pd.Series:
    """Where seeds share folds, over those that all have: an unfinished seed is not compared on other people."""
    if not own_folds:
        complete = scores["f1"].unstack("seed").dropna().index
        scores = scores[scores.index.isin(complete, level="fold")]
    return scores.groupby(level="seed").mean().std(ddof=1)
