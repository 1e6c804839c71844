"""Everything that a source gave, kept for looking at."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from edgepain.signal import DeviceInfo, LinkChange, LinkState, Modality, Samples, Source


@dataclass
class Received:
    """Everything a source gave until it closed."""

    info: list[DeviceInfo] = field(default_factory=list)
    changes: list[LinkChange] = field(default_factory=list)
    samples: list[Samples] = field(default_factory=list)

    def take(self, source: Source, timeout_s: float) -> None:
        for event in source.recv(timeout_s):
            kept: list[Any] = (
                self.samples
                if isinstance(event, Samples)
                else self.changes
                if isinstance(event, LinkChange)
                else self.info
            )
            kept.append(event)

    @property
    def states(self) -> list[LinkState]:
        return [change.state for change in self.changes]

    def values(self, modality: Modality) -> np.ndarray:
        return np.concatenate([part.values for part in self.samples if part.modality is modality])

    def times_s(self, modality: Modality) -> np.ndarray:
        return np.concatenate([part.times_s for part in self.samples if part.modality is modality])


def receive(source: Source) -> Received:
    """Read until the link is closed for good, or the recording is over."""
    received = Received()
    with closing(source):
        while not {LinkState.CLOSED, LinkState.ENDED} & set(received.states):
            received.take(source, 1.0)
    return received


@pytest.fixture
def receive_all() -> Callable[[Source], Received]:
    return receive
