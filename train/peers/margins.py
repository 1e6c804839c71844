"""From the margins of a linear or kernel classifier to probabilities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import softmax


def probabilities(margins: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Probabilities [N, K] from margins [N] of class 1 against 0, or [N, K]: sigmoid, or softmax.

    They keep the classifier's decisions and their order. They are not calibrated.
    """
    if margins.ndim == 1:
        margins = np.stack([np.zeros_like(margins), margins], axis=1)
    result: npt.NDArray[np.float32] = softmax(margins.astype(np.float64), axis=1).astype(np.float32)
    return result
