"""What tests of every room share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import pytest

from edgepain.bundle import Bundle, ModalitySpec, NetworkSpec, TrainingFacts, open_bundle
from edgepain.signal import Modality, ScalingSpec, WindowSpec

if TYPE_CHECKING:
    from edgepain.train.models import CrossModTransformer
    from edgepain.train.split import Split
    from edgepain.train.windows import WindowTable


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are processors: many tests wait for a port instead of computing."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.fixture(scope="session")
def found_data() -> Path | None:
    """Folder of real recordings: the one that EDGEPAIN_TEST_DATA names, else one beside the repository, if any."""
    folder = Path(os.environ.get("EDGEPAIN_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def shared_data(found_data: Path | None) -> Path:
    """Folder of real recordings; tests that need it are skipped where there is none."""
    if found_data is None:
        pytest.skip("real recordings are not beside the repository")
    return found_data


@dataclass
class SmallRun:
    """What `export_run` needs of a training run, around a small network that was not trained."""

    spec: NetworkSpec = field(default_factory=lambda: NetworkSpec((Modality.EDA, Modality.BVP), 2, "pooled", 40, 32, 4))
    seed: int = 0
    scaling: str = "causal"
    labels: tuple[str, ...] = ("no pain", "pain")
    scaling_spec: ScalingSpec = field(default_factory=lambda: ScalingSpec(10.0, 100.0))
    held_out_marker: float | None = None

    def __post_init__(self) -> None:
        self.window = WindowSpec(5.5, self.spec.steps)

    @property
    def split(self) -> Split:
        from edgepain.train.split import Split

        return Split(("s0", "s1", "s2"), ("s3", "s4"))

    def network(self) -> CrossModTransformer:
        """Random weights, with running statistics and biases as training leaves them and clear answers."""
        import torch

        from edgepain.train.models import CrossModTransformer

        generator = torch.Generator().manual_seed(self.seed)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            network = CrossModTransformer(self.spec).eval()
        for name, tensor in network.state_dict().items():
            if tensor.ndim == 1:
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(0.5 + noise if name.endswith(("weight", "var")) else 0.4 * noise - 0.2)
        with torch.no_grad():
            network.crossmod.classify.weight.mul_(20)
        return network

    def part(self, subjects: tuple[str, ...]) -> WindowTable:
        """Random walks, 40 windows a subject; those of held-out subjects may be marked by a value in every window."""
        from edgepain.train.physiology import feature_names
        from edgepain.train.windows import WindowTable

        rng = np.random.default_rng(self.seed)
        names = np.repeat([f"s{i}" for i in range(5)], 40)
        values = np.cumsum(rng.normal(size=(200, 2, self.spec.steps)), axis=2).astype(np.float32)
        values += 20.0
        if self.held_out_marker is not None:
            values[np.isin(names, ("s3", "s4")), :, 0] = self.held_out_marker
        table = WindowTable(
            values=values,
            labels=np.arange(200) % self.spec.classes,
            subjects=names,
            recordings=names,
            start_s=np.arange(200, dtype=np.float64),
            history_median=np.full((200, 2), 20.0),
            history_iqr=np.full((200, 2), 4.0),
            history_seconds=np.full((200, 2), 60.0),
            quality_ok=np.arange(200) % 7 != 3,
            features=np.zeros((200, len(feature_names(self.spec.modalities))), np.float32),
            feature_names=feature_names(self.spec.modalities),
            modalities=self.spec.modalities,
            label_names=self.labels,
            spec=self.window,
            scaling_spec=self.scaling_spec,
        )
        return table.select(np.isin(names, subjects))

    def training_facts(self) -> TrainingFacts:
        return TrainingFacts("none", "none", "none", 3, 2, 100, "none", self.seed, True)

    def modality_specs(self) -> tuple[ModalitySpec, ...]:
        return tuple(ModalitySpec(m, m.unit, 4.0, 1000.0) for m in self.spec.modalities)


@pytest.fixture(scope="session")
def small_run() -> type[SmallRun]:
    """The class: tests choose what is different about their run."""
    return SmallRun


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with both precisions of a small network, to be read only."""
    from edgepain.export import export_run

    return export_run(SmallRun(), tmp_path_factory.mktemp("exported") / "small")


@pytest.fixture(scope="session")
def jetson_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of a small network with graphs for TensorRT, to be read only."""
    from edgepain.export import export_run

    return export_run(SmallRun(), tmp_path_factory.mktemp("jetson") / "small", target="jetson")


@pytest.fixture
def bundle_copy(exported: Bundle, tmp_path: Path) -> Bundle:
    """A copy of `exported` that a test may damage."""
    return open_bundle(shutil.copytree(exported.root, tmp_path / "copy"))


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


@pytest.fixture(scope="session")
def lsl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The module `pylsl` on a network of its own: a session id that nobody else has, and this machine alone.

    Processes that a test starts have it from the environment.
    """
    from edgepain.errors import EdgepainError
    from edgepain.lsl import load_lsl

    file = tmp_path_factory.mktemp("lsl") / "lsl_api.cfg"
    file.write_text(
        "[ports]\nIPv6 = disable\n[multicast]\nResolveScope = machine\n"
        f"[lab]\nKnownPeers = {{127.0.0.1}}\nSessionID = {uuid4().hex}\n[log]\nlevel = -3\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSLAPICFG", str(file))
        try:
            module = load_lsl()
        except EdgepainError as error:
            pytest.skip(str(error))
        yield module
