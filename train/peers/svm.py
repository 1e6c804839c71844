"""Support vector machine with a radial kernel on physiological features (Cortes & Vapnik, 1995)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from edgepain.train.peers.base import Inputs
from edgepain.train.peers.margins import probabilities


class RbfSvm:
    """C = 1 and gamma = 1 / (F · variance), on features standardised over the training windows."""

    def __init__(self, classes: int, seed: int) -> None:
        # Nothing in it is random.
        self._svm = make_pipeline(StandardScaler(), SVC(class_weight="balanced", cache_size=500))

    def fit(self, inputs: Inputs, labels: npt.NDArray[np.int64], subjects: npt.NDArray[np.str_]) -> None:
        self._svm.fit(inputs.features, labels)

    def predict(self, inputs: Inputs) -> npt.NDArray[np.float32]:
        return probabilities(self._svm.decision_function(inputs.features))
