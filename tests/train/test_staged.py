"""The staged protocol on small arrays: order, frozen blocks, seeds, interruptions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file

from edgepain.bundle import NetworkSpec
from edgepain.errors import CheckpointError
from edgepain.signal import Modality
from edgepain.train.config import TrainConfig
from edgepain.train.staged import StagedProtocol, TrainedStages

N, S = 40, 16
ORDER = [f"{kind}.{m}" for m in ("eda", "ecg") for kind in ("fcn", "alstm", "transformer")] + ["crossmod"]
EPOCHS = {"fcn": 3, "alstm": 2, "transformer": 2, "crossmod": 2}
TOTAL = 2 * (3 + 2 + 2) + 2
Checkpoints = Callable[[Path], dict[str, Any]]
Data = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


def data(classes: int, seed: int = 0, count: int = N) -> Data:
    rng = np.random.default_rng(seed)
    y = np.arange(count, dtype=np.int64) % classes
    x = rng.normal(size=(count, 2, S)) + y[:, None, None] * np.linspace(0, 1, S)
    return x.astype(np.float32), y


@pytest.fixture
def protocol(tiny: TrainConfig) -> Callable[..., StagedProtocol]:
    def make(
        folder: Path, classes: int = 2, fusion: Literal["pooled", "sequence"] = "pooled", seed: int = 0, **changes: Any
    ) -> StagedProtocol:
        spec = NetworkSpec((Modality.EDA, Modality.ECG), classes, fusion, S, width=16, heads=2)
        return StagedProtocol(folder, spec, msgspec.structs.replace(tiny, fusion=fusion, **changes), seed)

    return make


def weights(stages: TrainedStages) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": value
        for name, module in {**stages.blocks, "crossmod": stages.fusion}.items()
        for key, value in module.state_dict().items()
    }


def test_stages_train_in_order_and_leave_earlier_ones_alone(
    tmp_path: Path, protocol: Callable[..., StagedProtocol], log: type[Any], checkpoints: Checkpoints
) -> None:
    seen: list[dict[str, Any]] = []

    class Watch(log):  # type: ignore[misc]
        def stage(self, name: str, epochs: int, done: int) -> None:
            super().stage(name, epochs, done)
            seen.append(checkpoints(tmp_path))

    watch = Watch()
    stages = protocol(tmp_path).train(*data(2), watch)
    assert watch.stages == [(name, EPOCHS[name.partition(".")[0]], 0) for name in ORDER]
    assert [name for name, _ in watch.epochs] == [n for n in ORDER for _ in range(EPOCHS[n.partition(".")[0]])]
    final = checkpoints(tmp_path)
    for index, before in enumerate(seen):
        assert list(before) == sorted(ORDER[:index])
        assert {name: final[name] for name in before} == before
    # What is in memory at the end is what each stage left on disk: no later stage reached into a block.
    for name, module in {**stages.blocks, "crossmod": stages.fusion}.items():
        on_disk = load_file(tmp_path / "stages" / name / "state.safetensors")
        for key, value in module.state_dict().items():
            assert torch.equal(value, on_disk[f"model.{key}"]), (name, key)
        assert not module.training


@pytest.mark.parametrize("fusion", ["pooled", "sequence"])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_network_is_the_stages_without_their_heads(
    tmp_path: Path, protocol: Callable[..., StagedProtocol], log: type[Any], fusion: str, classes: int
) -> None:
    stages = protocol(tmp_path, classes, fusion).train(*data(classes), log())
    network = stages.network()
    x, _ = data(classes, seed=1, count=300)  # More than a batch.
    predicted = stages.predict(x)
    assert list(predicted) == ORDER
    with torch.inference_mode():
        expected = torch.softmax(network(torch.from_numpy(x)), dim=1).numpy()
    np.testing.assert_allclose(predicted["crossmod"], expected, atol=1e-6)
    for probabilities in predicted.values():
        assert probabilities.shape == (300, classes)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    parts = [headed.block for headed in stages.blocks.values()] + [stages.fusion]
    assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for part in parts for p in part.parameters())
    assert not any("head" in name.split(".") for name in network.state_dict())


def test_a_stage_sees_only_the_feature_of_its_own_modality(
    tmp_path: Path, protocol: Callable[..., StagedProtocol], log: type[Any]
) -> None:
    x, y = data(2)
    first = weights(protocol(tmp_path / "a").train(x, y, log()))
    x[:, 1] = -x[:, 1]
    second = weights(protocol(tmp_path / "b").train(x, y, log()))
    same = {name for name in first if torch.equal(first[name], second[name])}
    assert {name for name in first if ".eda." in f".{name}"} <= same
    assert not {name for name in same if "ecg" in name and name.endswith("weight") and "norm" not in name}


@pytest.mark.parametrize("fusion", ["pooled", "sequence"])
def test_each_stage_is_fed_what_the_network_feeds_its_block(
    tmp_path: Path, protocol: Callable[..., StagedProtocol], log: type[Any], fusion: str
) -> None:
    x, y = data(2)
    stages = protocol(tmp_path, fusion=fusion).train(x, y, log(), keep_features=True)
    kept = {path.name.rpartition(".")[0].rpartition(".")[0]: np.load(path) for path in tmp_path.glob("features/*.npy")}
    assert sorted(kept) == sorted(stages.blocks)
    with torch.inference_mode():
        for index, m in enumerate(("eda", "ecg")):
            blocks = {kind: stages.blocks[f"{kind}.{m}"].block for kind in ("fcn", "alstm", "transformer")}
            signal = torch.from_numpy(x[:, index : index + 1])
            tokens = [blocks[kind](signal)[0] for kind in ("fcn", "alstm")]
            sequence, embedding = blocks["transformer"](*tokens)
            handed_on = [*tokens, embedding if fusion == "pooled" else sequence]
            for kind, expected in zip(blocks, handed_on, strict=True):
                np.testing.assert_allclose(kept[f"{kind}.{m}"], expected.numpy(), atol=1e-6)


def test_a_seed_gives_the_same_weights_bit_for_bit(
    tmp_path: Path, protocol: Callable[..., StagedProtocol], log: type[Any], checkpoints: Checkpoints
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(len(name))  # The state of the global generator must not matter.
        protocol(tmp_path / name, seed=seed).train(*data(2), log())
    assert checkpoints(tmp_path / "a") == checkpoints(tmp_path / "b")
    for name, content in checkpoints(tmp_path / "a").items():
        assert checkpoints(tmp_path / "c")[name] != content


@pytest.mark.parametrize("stop_after", [1, 3, 4, 6, 7, 14, 15, TOTAL])
def test_an_interrupted_training_goes_on_to_the_same_weights(
    tmp_path: Path,
    protocol: Callable[..., StagedProtocol],
    log: type[Any],
    checkpoints: Checkpoints,
    stop_after: int,
    uninterrupted: dict[str, Any],
) -> None:
    first, second = log(stop_after), log()
    with pytest.raises(KeyboardInterrupt):
        protocol(tmp_path, fusion="sequence").train(*data(2), first)
    for folder in (tmp_path / "stages").iterdir():
        (folder / ".state.safetensors.partial").write_bytes(b"half")
    protocol(tmp_path, fusion="sequence").train(*data(2), second)
    assert len(first.epochs) + len(second.epochs) == TOTAL
    assert checkpoints(tmp_path) == uninterrupted
    assert not (tmp_path / "features").exists()


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, tiny: TrainConfig, log: type[Any], checkpoints: Checkpoints
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    spec = NetworkSpec((Modality.EDA, Modality.ECG), 2, "sequence", S, width=16, heads=2)
    StagedProtocol(folder, spec, msgspec.structs.replace(tiny, fusion="sequence"), 0).train(*data(2), log())
    return checkpoints(folder)


def test_a_finished_training_is_only_loaded(
    tmp_path: Path, protocol: Callable[..., StagedProtocol], log: type[Any]
) -> None:
    x, y = data(2)
    trained = protocol(tmp_path).train(x, y, log())
    again = log()
    reread = protocol(tmp_path).train(x, y, again, keep_features=True)
    loaded = protocol(tmp_path).load(x, y)
    assert not again.epochs
    assert not (tmp_path / "features").exists()
    for stages in (reread, loaded):
        for name, probabilities in trained.predict(x).items():
            np.testing.assert_array_equal(probabilities, stages.predict(x)[name])


def test_loading_before_the_end_is_refused(
    tmp_path: Path, protocol: Callable[..., StagedProtocol], log: type[Any]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        protocol(tmp_path).train(*data(2), log(stop_after=4))
    with pytest.raises(CheckpointError, match=r"stage alstm.eda in .* has 1 of 2 epochs; .* --redo alstm.eda"):
        protocol(tmp_path).load(*data(2))


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"batch_size": 8}, {"fusion": "sequence"}, {"classes": 3}],
    ids=lambda change: next(iter(change)),
)
def test_other_settings_do_not_go_on_with_these_checkpoints(
    tmp_path: Path, protocol: Callable[..., StagedProtocol], log: type[Any], change: dict[str, Any]
) -> None:
    x, y = data(2)
    protocol(tmp_path).train(x, y, log())
    with pytest.raises(CheckpointError, match="belongs to another configuration or other data"):
        protocol(tmp_path, **change).train(x, y, log())
    for other in (data(2, seed=1), (x, 1 - y)):
        with pytest.raises(CheckpointError, match="belongs to another configuration or other data"):
            protocol(tmp_path).load(*other)
