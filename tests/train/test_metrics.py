"""Scores against values worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgepain.train.metrics import BINS, Scores, reliability, score


def certain(predicted: list[int], classes: int) -> np.ndarray:
    """Probabilities that give these predictions."""
    return np.eye(classes, dtype=np.float32)[predicted] * 0.6 + np.float32(0.4 / classes)


def test_two_classes_by_hand() -> None:
    labels = np.array([1, 1, 1, 1, 0, 0])
    # True positives 3, false negatives 1, true negatives 1, false positives 1.
    scores = score(labels, certain([1, 1, 1, 0, 0, 1], 2), np.array(["a", "a", "a", "b", "b", "b"]))
    assert scores.windows == 6
    assert scores.accuracy == pytest.approx(4 / 6)
    assert scores.sensitivity == pytest.approx(3 / 4)
    assert scores.specificity == pytest.approx(1 / 2)
    assert scores.precision == pytest.approx(3 / 4)
    assert scores.f1 == pytest.approx(3 / 4)
    assert scores.balanced_accuracy == pytest.approx((3 / 4 + 1 / 2) / 2)
    # Subject a: 3 of 3, subject b: 1 of 3; standard deviation with n − 1.
    assert scores.subject_accuracy_sd == pytest.approx((2 / 3) / np.sqrt(2))


def test_auc_counts_pairs_in_the_right_order() -> None:
    positive = np.array([0.9, 0.4, 0.6, 0.2])
    probabilities = np.stack([1 - positive, positive], axis=1).astype(np.float32)
    # Pairs (positive, negative): 0.9 over 0.6 and 0.2, 0.4 over 0.2 but not 0.6.
    assert score(np.array([1, 1, 0, 0]), probabilities, np.array(["a"] * 4)).auc == pytest.approx(3 / 4)


def test_three_classes_by_hand() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2, 2, 2])
    predicted = [0, 1, 1, 1, 2, 2, 0, 1]
    scores = score(labels, certain(predicted, 3), np.array(["a"] * 8))
    assert scores.accuracy == pytest.approx(5 / 8)
    assert scores.sensitivity == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)
    assert scores.balanced_accuracy == pytest.approx(scores.sensitivity)
    # Class 0 was given 2 times, 1 of them right; class 1: 4, 2; class 2: 2, 2.
    assert scores.precision == pytest.approx((1 / 2 + 2 / 4 + 1) / 3)
    # Windows not of the class that were not given it: 5 of 6, 4 of 6, 4 of 4.
    assert scores.specificity == pytest.approx((5 / 6 + 4 / 6 + 1) / 3)
    f1 = [2 * p * r / (p + r) for p, r in ((1 / 2, 1 / 2), (2 / 4, 1), (1, 1 / 2))]
    assert scores.f1 == pytest.approx(np.mean(f1))
    assert scores.subject_accuracy_sd is None
    # One against the rest, by pairs; certain answers tie in many.
    pairs = []
    for k in range(3):
        given = np.array(predicted) == k
        mine, others = given[labels == k], given[labels != k]
        pairs.append(np.mean([[1.0 if a > b else 0.5 if a == b else 0.0 for b in others] for a in mine]))
    assert scores.auc == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize(
    ("labels", "predicted", "classes", "missing"),
    [([0, 0, 1, 1], [0, 0, 1, 2], 3, (2,)), ([2, 2], [2, 1], 3, (0, 1)), ([0, 0], [0, 1], 2, (1,))],
)
def test_over_some_of_the_classes_there_is_no_share(
    labels: list[int], predicted: list[int], classes: int, missing: tuple[int, ...]
) -> None:
    scores = score(np.array(labels), certain(predicted, classes), np.array([str(i) for i in range(len(labels))]))
    assert scores == Scores(windows=len(labels), missing_classes=missing)
    shares = set(Scores.__struct_fields__) - {"windows", "missing_classes"}
    assert len(shares) == 9
    assert {getattr(scores, name) for name in shares} == {None}


def test_a_class_that_is_never_predicted_is_scored_without_a_warning() -> None:
    scores = score(np.array([0, 0, 1, 1]), certain([0, 0, 0, 0], 2), np.array(["a", "a", "b", "b"]))
    assert (scores.accuracy, scores.specificity, scores.sensitivity, scores.precision) == (0.5, 1.0, 0.0, 0.0)
    scores = score(np.array([0, 1, 2]), certain([0, 0, 0], 3), np.array(["a", "a", "b"]))
    assert (scores.balanced_accuracy, scores.missing_classes) == (pytest.approx(1 / 3), ())


def test_calibration_error_by_hand() -> None:
    # Answers sure by 0.9, 0.9, 0.6 and 0.6; right are the first, second and third.
    positive = np.array([0.9, 0.1, 0.6, 0.4])
    probabilities = np.stack([1 - positive, positive], axis=1)
    labels = np.array([1, 0, 1, 1])
    # Two bins of two windows: |1 − 0.9| and |1/2 − 0.6|.
    assert score(labels, probabilities, np.array(["a"] * 4)).ece == pytest.approx(0.1)
    result = reliability(labels, probabilities)
    assert BINS == 15
    # 0.6 is the upper end of the ninth bin, 0.9 lies in the fourteenth.
    assert {i: n for i, n in enumerate(result.counts.tolist()) if n} == {8: 2, 13: 2}
    assert result.accuracy[8] == pytest.approx(0.5)
    assert np.isnan(result.confidence[0])


def test_answers_that_are_wholly_sure_have_a_bin() -> None:
    assert reliability(np.array([0, 1]), np.eye(2, dtype=np.float32)).ece == 0.0
