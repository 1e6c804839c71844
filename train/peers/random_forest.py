"""Random forest on physiological features (Breiman, Machine Learning 45, 2001)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier

from edgepain.train.peers.base import Inputs


class RandomForest:
    """500 trees, classes weighted against their frequency, otherwise scikit-learn's settings."""

    def __init__(self, classes: int, seed: int) -> None:
        # One job: with several, the order in which trees are added up is up to the threads.
        self._forest = RandomForestClassifier(500, class_weight="balanced", random_state=seed, n_jobs=1)

    def fit(self, inputs: Inputs, labels: npt.NDArray[np.int64], subjects: npt.NDArray[np.str_]) -> None:
        self._forest.fit(inputs.features, labels)

    def predict(self, inputs: Inputs) -> npt.NDArray[np.float32]:
        probabilities: npt.NDArray[np.float32] = self._forest.predict_proba(inputs.features).astype(np.float32)
        return probabilities
