"""How well predictions match labels, by scikit-learn's definitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn import metrics

# Of the reliability diagram and the calibration error.
BINS = 15


class Scores(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shares between 0 and 1. For 3 classes, sensitivity, specificity, precision and F1 are macro means.

    A share of nothing is 0. missing_classes: indices of classes that no label has; a share over the others says
    nothing of the whole, so every share is None then. subject_accuracy_sd: standard deviation (n − 1) of the
    accuracies of single subjects, None for one subject. ece: see `Reliability`.
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
    ece: float | None = None


@dataclass(frozen=True)
class Reliability:
    """How sure a model was of its answer, and how often that was right, in BINS bins of equal width.

    counts: [BINS] windows by the probability of the answer. confidence, accuracy: [BINS] means, NaN in empty bins.
    """

    counts: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]

    @property
    def ece(self) -> float:
        """Expected calibration error: the gap between the two, averaged over windows (Guo et al. 2017, eq. 3)."""
        some = self.counts > 0
        gaps = np.abs(self.accuracy[some] - self.confidence[some])
        return float(np.average(gaps, weights=self.counts[some]))


def reliability(labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.floating[Any]]) -> Reliability:
    """Reliability of probabilities [N, K], N > 0, against labels [N]."""
    top = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    # A bin holds its upper end, so that a probability of 1 has one.
    bins = np.clip(np.ceil(top * BINS).astype(np.int64) - 1, 0, BINS - 1)
    counts, confidence, accuracy = (np.bincount(bins, weights, BINS) for weights in (None, top, right))
    some = np.where(counts > 0, counts, np.nan)
    return Reliability(counts.astype(np.int64), confidence / some, accuracy / some)


def score(
    labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.floating[Any]], subjects: npt.NDArray[np.str_]
) -> Scores:
    """Scores of probabilities [N, K] against labels [N] of subjects [N]; class 1 is positive for K = 2."""
    classes = np.arange(probabilities.shape[1])
    missing = np.setdiff1d(classes, labels)
    if missing.size:
        return Scores(windows=int(labels.size), missing_classes=tuple(missing.tolist()))
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, labels=classes, zero_division=0.0
    )
    if classes.size == 2:
        positive, specificity = slice(1, None), recall[::-1]
    else:
        one_vs_rest = metrics.multilabel_confusion_matrix(labels, predicted, labels=classes)
        positive, specificity = slice(None), one_vs_rest[:, 0, 0] / one_vs_rest[:, 0].sum(axis=1)
    by_subject = [float(np.mean(predicted[subjects == s] == labels[subjects == s])) for s in np.unique(subjects)]
    return Scores(
        windows=int(labels.size),
        accuracy=float(metrics.accuracy_score(labels, predicted)),
        balanced_accuracy=float(recall.mean()),
        sensitivity=float(recall[positive].mean()),
        specificity=float(specificity[positive].mean()),
        precision=float(precision[positive].mean()),
        f1=float(f1[positive].mean()),
        auc=_auc(labels, probabilities),
        subject_accuracy_sd=float(np.std(by_subject, ddof=1)) if len(by_subject) > 1 else None,
        ece=reliability(labels, probabilities).ece,
    )


def _auc(labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.floating[Any]]) -> float:
    if probabilities.shape[1] == 2:
        return float(metrics.roc_auc_score(labels, probabilities[:, 1]))
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    return float(metrics.roc_auc_score(labels, exact, multi_class="ovr", average="macro"))
