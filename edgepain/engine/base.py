"""What every engine offers, and the softmax that turns its answers into probabilities."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt


class Engine(Protocol):
    """The network of a bundle, ready to answer. B windows, M modalities, S steps, K classes."""

    @property
    def precision(self) -> Literal["fp32", "fp16", "int8"]:
        """Precision in which it answers."""
        ...

    @property
    def model_sha256(self) -> str:
        """SHA-256 (hex) of the graph that it runs, or was built of."""
        ...

    @property
    def description(self) -> str:
        """What runs, in words: runtime and version, graph, threads."""
        ...

    def predict(self, windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Logits [B, K] float32 of scaled windows [B, M, S] float32. Raises ValueError for another shape."""
        ...


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Probabilities over the last axis, of the shape of `logits`."""
    shifted = logits.astype(np.float64) - np.max(logits, axis=-1, keepdims=True)
    weights = np.exp(shifted)
    probabilities: npt.NDArray[np.float64] = weights / weights.sum(axis=-1, keepdims=True)
    return probabilities
