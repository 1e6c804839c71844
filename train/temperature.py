"""Temperature scaling of probabilities (Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. 9)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss

# A temperature outside of this range says that the windows it was fitted on cannot carry one.
BOUNDS = (0.05, 20.0)


def fit_temperature(probabilities: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.int64]) -> float:
    """The temperature that makes labels [N] most likely under probabilities [N, K] of windows not trained on."""
    logits = _logits(probabilities)
    classes = np.arange(logits.shape[1])

    def loss(log_t: float) -> float:
        return float(log_loss(labels, np.exp(log_softmax(logits / np.exp(log_t), axis=1)), labels=classes))

    low, high = np.log(BOUNDS)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def apply_temperature(probabilities: npt.NDArray[np.floating[Any]], temperature: float) -> npt.NDArray[np.float32]:
    """Probabilities [N, K] as they would be with their logits divided by the temperature."""
    result: npt.NDArray[np.float32] = softmax(_logits(probabilities) / temperature, axis=1).astype(np.float32)
    return result


def _logits(probabilities: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Up to a constant of the row, which a softmax does not see."""
    result: npt.NDArray[np.float64] = np.log(np.maximum(probabilities.astype(np.float64), 1e-30))
    return result
