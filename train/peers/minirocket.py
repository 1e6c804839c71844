"""MiniRocket and a ridge classifier on scaled windows (Dempster, Schmidt & Webb, KDD 2021)."""

from __future__ import annotations

import numba  # noqa: F401  sktime asks for it only when the transform begins
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sktime.transformations.rocket import MiniRocketMultivariate

from edgepain.errors import ConfigError
from edgepain.train.peers.base import Inputs
from edgepain.train.peers.margins import probabilities

MIN_STEPS = 9
ALPHAS = np.logspace(-3, 3, 10)


class MiniRocket:
    """sktime's transform (9,996 kernels); the ridge's strength is chosen by cross-validation on training windows."""

    def __init__(self, classes: int, seed: int) -> None:
        self._rocket = MiniRocketMultivariate(random_state=seed)
        self._ridge = make_pipeline(StandardScaler(), RidgeClassifierCV(ALPHAS, class_weight="balanced"))

    def fit(self, inputs: Inputs, labels: npt.NDArray[np.int64], subjects: npt.NDArray[np.str_]) -> None:
        if inputs.x.shape[2] < MIN_STEPS:
            raise ConfigError(f"minirocket needs windows of {MIN_STEPS} points or more, not {inputs.x.shape[2]}")
        self._ridge.fit(self._rocket.fit_transform(inputs.x).to_numpy(), labels)

    def predict(self, inputs: Inputs) -> npt.NDArray[np.float32]:
        return probabilities(self._ridge.decision_function(self._rocket.transform(inputs.x).to_numpy()))
