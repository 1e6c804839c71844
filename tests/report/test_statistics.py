"""Numbers over folds, seeds and subjects against values worked by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from edgepain.train.answers import Answers
from edgepain.train.statistics import (
    Condition,
    Summary,
    by_condition,
    fold_scores,
    over_seeds,
    subject_scores,
    summarise,
)

MAIN = Condition("crossmod", "subject", "")


def said(fold: str, labels: Sequence[int], predicted: Sequence[int], subjects: str = "a", seed: int = 0) -> Answers:
    """Answers of the main model; subjects has one letter a window, or one for all."""
    probabilities = np.full((len(labels), 2), 0.1, np.float32)
    probabilities[np.arange(len(labels)), predicted] = 0.9
    names = np.array(list(subjects if len(subjects) > 1 else subjects * len(labels)))
    return Answers(
        *("crossmod", fold, seed, "subject", "", 1),
        np.arange(len(labels)),
        np.array(labels),
        names,
        probabilities,
    )


def summary(answers: Sequence[Answers]) -> Summary:
    return summarise(MAIN, answers, fold_scores(answers))


# Of 4 windows, labels 0 0 1 1: accuracies 1, 3/4 and 1/2.
ALL_RIGHT, ONE_WRONG, TWO_WRONG = [0, 0, 1, 1], [0, 1, 1, 1], [1, 0, 1, 0]
LABELS = [0, 0, 1, 1]


def test_mean_and_sd_over_folds() -> None:
    result = summary([said("f0", LABELS, ALL_RIGHT), said("f1", LABELS, ONE_WRONG), said("f2", LABELS, TWO_WRONG)])
    assert (result.folds, result.seeds, result.windows, result.left_out) == (3, 1, 12, 3)
    assert result.mean["accuracy"] == pytest.approx(3 / 4)
    # Deviations 1/4, 0, −1/4: variance (1/16 + 1/16) / 2.
    assert result.sd["accuracy"] == pytest.approx(1 / 4)
    # F1: 1, 2·(2/3)·1/(5/3) = 4/5, 1/2.
    assert result.mean["f1"] == pytest.approx((1 + 4 / 5 + 1 / 2) / 3)
    assert math.isnan(result.seed_sd["f1"])


def test_confidence_interval_of_f1_is_students_t_over_folds() -> None:
    # F1 of 1/2, 4/5 and 4/5: mean 0.7, variance 0.03, standard error 0.1; t of 2 degrees at 97.5 % is 4.302653.
    result = summary([said("f0", LABELS, TWO_WRONG), said("f1", LABELS, ONE_WRONG), said("f2", LABELS, ONE_WRONG)])
    assert result.f1_interval is not None
    assert result.f1_interval[0] == pytest.approx(0.7 - 0.4302653)
    assert result.f1_interval[1] == 1.0


def test_interval_of_one_fold_and_of_equal_folds() -> None:
    assert summary([said("f0", LABELS, ONE_WRONG)]).f1_interval is None
    equal = summary([said("f0", LABELS, ONE_WRONG), said("f1", LABELS, ONE_WRONG)])
    assert equal.f1_interval == pytest.approx((0.8, 0.8))


def test_a_fold_is_averaged_over_its_seeds_first() -> None:
    answers = [
        said("seed0-f0", LABELS, ALL_RIGHT),
        said("seed1-f0", LABELS, TWO_WRONG, seed=1),
        said("seed0-f1", LABELS, ONE_WRONG),
        said("seed1-f1", LABELS, ONE_WRONG, seed=1),
    ]
    result = summary(answers)
    # Two folds, not four: both 3/4.
    assert (result.redrawn, result.folds, result.seeds, result.windows) == (False, 2, 2, 8)
    assert result.mean["accuracy"] == pytest.approx(3 / 4)
    assert result.sd["accuracy"] == pytest.approx(0)
    # Means of the seeds: 7/8 and 5/8.
    assert result.seed_sd["accuracy"] == pytest.approx((1 / 4) / math.sqrt(2))
    assert list(over_seeds(fold_scores(answers)).index) == ["f0", "f1"]


def test_seeds_with_folds_of_their_own_do_not_make_more_people() -> None:
    answers = [
        said("seed0-f0", LABELS, ALL_RIGHT, "abab"),
        said("seed0-f1", LABELS, TWO_WRONG, "cdcd"),
        said("seed1-f0", LABELS, ALL_RIGHT, "acac", seed=1),
        said("seed1-f1", LABELS, TWO_WRONG, "bdbd", seed=1),
    ]
    result = summary(answers)
    assert (result.redrawn, result.folds, result.subjects, result.windows) == (True, 4, 4, 8)
    assert result.sd["f1"] == pytest.approx(math.sqrt(4 * (1 / 4) ** 2 / 3))
    # Two folds a seed leave one degree of freedom: t of 12.7, and bounds beyond 0 and 1.
    assert result.f1_interval == (0.0, 1.0)
    assert result.seed_sd["f1"] == pytest.approx(0)


def test_seeds_are_compared_on_folds_that_both_have() -> None:
    answers = [
        said("seed0-f0", LABELS, ALL_RIGHT),
        said("seed1-f0", LABELS, ALL_RIGHT, seed=1),
        said("seed0-f1", LABELS, TWO_WRONG),
    ]
    assert summary(answers).seed_sd["accuracy"] == pytest.approx(0)


def test_a_fold_of_one_class_counts_in_the_pooled_scores_only() -> None:
    result = summary([said("f0", LABELS, ONE_WRONG), said("f1", [1, 1], [0, 1])])
    assert (result.folds, result.one_class) == (1, ("f1",))
    assert result.mean["accuracy"] == pytest.approx(3 / 4)
    assert result.pooled["accuracy"] == pytest.approx(4 / 6)
    alone = summary([said("f1", [1, 1], [0, 1])])
    assert alone.folds == 0
    assert math.isnan(alone.mean["f1"])
    assert math.isnan(alone.pooled["f1"])


def test_single_subjects() -> None:
    answers = [said("f0", [0, 1, 0, 1, 1, 1], [0, 1, 1, 1, 1, 0], "aabbcc"), said("f1", [0, 1], [1, 0], "dd")]
    scores = subject_scores(answers)
    assert list(scores.index) == ["a", "b", "c", "d"]
    assert list(scores["accuracy"]) == [1.0, 0.5, 0.5, 0.0]
    assert list(scores["windows"]) == [2, 2, 2, 2]
    assert scores["f1"]["b"] == pytest.approx(2 / 3)
    assert math.isnan(scores["f1"]["c"])


def test_conditions_are_kept_apart() -> None:
    one = said("f0", LABELS, ALL_RIGHT)
    other = Answers(**{**vars(one), "missing": "eda"})
    assert by_condition([one, other, one]) == {MAIN: [one, one], Condition("crossmod", "subject", "eda"): [other]}
