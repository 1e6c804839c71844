"""How well predictions match labels, by scikit-learn's definitions."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn import metrics


class Scores(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shares between 0 and 1. For 3 classes, sensitivity, specificity, precision and F1 are macro means.

    A share of nothing is 0. missing_classes: indices of classes that no label has; a share over the others says
    nothing of the whole, so every share is None then. subject_accuracy_sd: standard deviation (n − 1) of the
    accuracies of single subjects, None for one subject.
    """

    windows: int
    accuracy: float | None = None
    balanced_accuracy: float | None = None
    sensitivity: float | None = None
    specificity: float | None = None
    precision: float | None = None
    f1: float | None = None
    auc: float | None = None
    subject_accuracy_sd: float | None = None
    missing_classes: tuple[int, ...] = ()


def score(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.floating[Any]], subjects: npt.NDArray[np.str_]
) -> Scores:
    """Scores of probabilities [N, K] against labels [N] of subjects [N]; class 1 is positive for K = 2."""
    classes = probabilities.shape[1]
    missing = np.setdiff1d(np.arange(classes), labels)
    if missing.size:
        return Scores(windows=int(labels.size), missing_classes=tuple(missing.tolist()))
    predicted = probabilities.argmax(axis=1)
    common: dict[str, Any] = {"zero_division": 0.0, "average": "binary" if classes == 2 else "macro"}
    if classes == 2:
        specificity = metrics.recall_score(labels, predicted, pos_label=0, zero_division=0.0)
    else:
        one_vs_rest = [metrics.recall_score(labels == k, predicted == k, pos_label=False) for k in range(classes)]
        specificity = np.mean(one_vs_rest)
    by_subject = [float(np.mean(predicted[subjects == s] == labels[subjects == s])) for s in np.unique(subjects)]
    return Scores(
        windows=int(labels.size),
        accuracy=float(metrics.accuracy_score(labels, predicted)),
        balanced_accuracy=float(metrics.balanced_accuracy_score(labels, predicted)),
        sensitivity=float(metrics.recall_score(labels, predicted, **common)),
        specificity=float(specificity),
        precision=float(metrics.precision_score(labels, predicted, **common)),
        f1=float(metrics.f1_score(labels, predicted, **common)),
        auc=_auc(labels, probabilities),
        subject_accuracy_sd=float(np.std(by_subject, ddof=1)) if len(by_subject) > 1 else None,
    )


def _auc(labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.floating[Any]]) -> float:
    if probabilities.shape[1] == 2:
        return float(metrics.roc_auc_score(labels, probabilities[:, 1]))
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    return float(metrics.roc_auc_score(labels, exact, multi_class="ovr", average="macro"))
