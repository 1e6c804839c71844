"""A recording on disk, and the simulator as a process of its own."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepain.firmware_bridge import SerialSource
from edgepain.signal import DeviceInfo, LinkChange, LinkState, Modality, Samples


@dataclass
class Received:
    """Everything a source gave until it closed."""

    info: list[DeviceInfo] = field(default_factory=list)
    changes: list[LinkChange] = field(default_factory=list)
    samples: list[Samples] = field(default_factory=list)

    def take(self, source: SerialSource, timeout_s: float) -> None:
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


class Simulation:
    """`edgepain simulate` as a process. port: what it printed."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "edgepain", "simulate", *map(str, arguments), "--report"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = self.process.stdout.readline().removeprefix("port: ").strip()

    def report(self) -> dict[str, Any]:
        """Wait for its end and give the report."""
        _, errors = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, errors
        result: dict[str, Any] = json.loads(errors.splitlines()[-1])
        return result


@pytest.fixture
def simulate() -> Callable[..., AbstractContextManager[Simulation]]:
    """Start `edgepain simulate` with these arguments; killed at the end if it still runs."""

    @contextmanager
    def started(*arguments: object) -> Iterator[Simulation]:
        simulation = Simulation(*arguments)
        with simulation.process:
            try:
                yield simulation
            finally:
                simulation.process.kill()

    return started


def receive(source: SerialSource) -> Received:
    """Read until the link is closed for good."""
    received = Received()
    with source:
        while LinkState.CLOSED not in received.states:
            received.take(source, 1.0)
    return received


@pytest.fixture
def receive_all() -> Callable[[SerialSource], Received]:
    return receive


@pytest.fixture(scope="session")
def e4_session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One minute in the layout of an Empatica E4 session; EDA ends 2 s before BVP."""
    folder = tmp_path_factory.mktemp("S99")
    random = np.random.default_rng(5)
    for name, rate_hz, count, decimals in (("EDA", 4, 4 * 58, 6), ("BVP", 64, 64 * 60, 2)):
        values = np.round(1 + np.abs(np.cumsum(random.normal(0, 0.05, count))), decimals)
        lines = ["1644227574.000000", f"{rate_hz:.6f}", *map(repr, values.tolist())]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder
