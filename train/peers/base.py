"""What a peer is, what it is given, and how one is found by its name.

N windows, M modalities, S steps, F physiological features, K classes.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from edgepain.errors import ConfigError, MissingExtraError
from edgepain.signal import Modality

ENTRY_POINTS = "edgepain.peers"
MODULE_AND_CLASS = re.compile(r"\w+(\.\w+)*:\w+")


@dataclass(frozen=True)
class Inputs:
    """All that a peer sees of N windows: no label, no subject.

    x: [N, M, S] float32, scaled. features: [N, F] float32, physiological features, scaled the same way, finite.
    feature_names: [F], `eda.scl` and so on. seconds: of a window.
    """

    x: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    feature_names: tuple[str, ...]
    modalities: tuple[Modality, ...]
    seconds: float

    def __len__(self) -> int:
        return len(self.x)

    def select(self, mask: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Inputs:
        """The windows of a boolean mask [N] or of indices, in that order."""
        return replace(self, x=self.x[mask], features=self.features[mask])


class Peer(Protocol):
    """A method that is trained and judged on the same windows and folds as the network.

    The same (classes, seed) and windows must give the same answers.
    """

    def __init__(self, classes: int, seed: int) -> None: ...

    def fit(self, inputs: Inputs, labels: npt.NDArray[np.int64], subjects: npt.NDArray[np.str_]) -> None:
        """Learn from training subjects only. labels: [N], each of 0 … classes − 1 at least once. subjects: [N]."""

    def predict(self, inputs: Inputs) -> npt.NDArray[np.float32]:
        """Probabilities [N, K]; each row adds up to 1."""


# Name → class, or "module:class" that is imported only when opened.
PEERS: dict[str, str | type[Peer]] = {
    "random-forest": "edgepain.train.peers.random_forest:RandomForest",
    "svm": "edgepain.train.peers.svm:RbfSvm",
    "minirocket": "edgepain.train.peers.minirocket:MiniRocket",
    "cnn-bilstm": "edgepain.train.peers.cnn_bilstm:CnnBiLstm",
}
PeerClass = TypeVar("PeerClass", bound=type[Peer])


def register(name: str) -> Callable[[PeerClass], PeerClass]:
    """Class decorator: `open_peer(name)` gives this class from now on. Raises ConfigError where the name is taken."""

    def decorate(peer: PeerClass) -> PeerClass:
        known = PEERS.setdefault(name, peer)
        if known is not peer:
            raise ConfigError(f"a peer is already called {name!r}; choose another name")
        return peer

    return decorate


def peer_names() -> tuple[str, ...]:
    """All names: built in, registered, and those that installed packages offer as entry points."""
    return tuple(sorted({*PEERS, *entry_points(group=ENTRY_POINTS).names}))


def open_peer(name: str) -> type[Peer]:
    """The peer of this name, or of `package.module:Class`.

    Raises ConfigError where there is none, MissingExtraError where the library that it is made of is missing.
    """
    target = PEERS.get(name)
    if target is None:
        offered = entry_points(group=ENTRY_POINTS, name=name)
        target = next((point.value for point in offered), name)
    if isinstance(target, type):
        return target
    if not MODULE_AND_CLASS.fullmatch(target):
        raise ConfigError(f"no peer is called {name!r}; there are {', '.join(peer_names())}, or give your module:Class")
    return _imported(name, target)


def _imported(name: str, target: str) -> type[Peer]:
    module_name, _, class_name = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        if name in PEERS:
            raise MissingExtraError(error.name or name, "peers") from error
        raise ConfigError(f"peer {name!r}: {error}; is it installed, or its folder in PYTHONPATH?") from error
    peer = getattr(module, class_name, None)
    if not isinstance(peer, type) or not all(callable(getattr(peer, method, None)) for method in ("fit", "predict")):
        raise ConfigError(f"peer {name!r}: {module_name} has no class {class_name} with fit and predict")
    return peer
