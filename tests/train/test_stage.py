"""One stage: schedule, history, checkpoints that are damaged or of something else."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgepain.errors import CheckpointError, ConfigError
from edgepain.train.config import StageConfig
from edgepain.train.features import frozen_features
from edgepain.train.models import FCN
from edgepain.train.precision import bf16_supported
from edgepain.train.stage import CHECKPOINT, EpochMetrics, Headed, Stage, epochs_done, load_finished, train_stage

STAGE = Stage("fcn.eda", StageConfig(4, 0.01, 0.2, milestones=(2, 3), gamma=0.5), 8, 0, "abc")
X = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


class Block(nn.Module):
    """Tokens and a feature, as every block returns."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)
        self.dropout = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.dropout(self.layer(x)).unsqueeze(1).expand(-1, 3, -1)
        return tokens, tokens.mean(dim=1)


def build() -> Headed:
    return Headed(Block(), 4, 2)


def train(folder: Path, stage: Stage = STAGE, x: Tensor = X) -> tuple[Headed, list[EpochMetrics]]:
    epochs: list[EpochMetrics] = []
    return train_stage(stage, build, (x,), Y, folder, epochs.append), epochs


def test_the_rate_falls_at_milestones_and_the_table_says_so(tmp_path: Path) -> None:
    model, epochs = train(tmp_path)
    assert not model.training
    assert [m.learning_rate for m in epochs] == [0.01, 0.01, 0.005, 0.0025]
    rows = list(csv.DictReader((tmp_path / "epochs.csv").read_text().splitlines()))
    assert [{name: float(cell) if cell else None for name, cell in row.items()} for row in rows] == [
        asdict(m) for m in epochs
    ]
    assert epochs[-1].loss < epochs[0].loss


def test_an_epoch_is_adam_on_cross_entropy_over_shuffled_batches(tmp_path: Path) -> None:
    one = replace(STAGE, config=StageConfig(1, 0.01, 0.2), precision="fp32")
    model, (metrics,) = train(tmp_path, one)
    torch.manual_seed(one.epoch_seed(-1))
    expected = build().train()
    adam = torch.optim.Adam(expected.parameters(), lr=0.01)
    torch.manual_seed(one.epoch_seed(0))
    losses = []
    for rows in torch.randperm(20).split(8):
        loss = nn.CrossEntropyLoss()(expected(X[rows]), Y[rows])
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses += [loss.item()] * len(rows)
    assert metrics.loss == pytest.approx(sum(losses) / 20)
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_seeds_differ_by_run_stage_and_epoch() -> None:
    stages = (STAGE, replace(STAGE, name="fcn.bvp"), replace(STAGE, seed=1))
    assert len({stage.epoch_seed(epoch) for stage in stages for epoch in (-1, 0, 1)}) == 9


def test_a_loss_that_is_no_number_ends_the_stage(tmp_path: Path) -> None:
    x = X.clone()
    x[3, 3] = float("inf")
    with pytest.raises(ConfigError, match=r"stage fcn.eda: the loss is nan in epoch 1; lower its learning_rate"):
        train(tmp_path, x=x)
    assert not list(tmp_path.iterdir())


def test_an_unfinished_stage_is_not_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "folds" / "first" / "stages" / "fcn.eda"
    with pytest.raises(CheckpointError, match=r"0 of 4 epochs; finish it with: .* --resume .*run --redo fcn.eda$"):
        load_finished(STAGE, build, folder)
    train(folder)
    assert epochs_done(STAGE, folder) == 4
    load_finished(STAGE, build, folder)


@pytest.mark.parametrize("other", [replace(STAGE, fingerprint="xyz"), replace(STAGE, name="fcn.bvp")])
def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path, other: Stage) -> None:
    train(tmp_path)
    with pytest.raises(CheckpointError, match="belongs to another configuration or other data; start a new run folder"):
        train(tmp_path, other)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(CheckpointError, match="does not fit this network"):
        train_stage(STAGE, lambda: Headed(Block(), 4, 3), (X,), Y, tmp_path, lambda _: None)


@given(cut=st.integers(0, 3000), junk=st.binary(max_size=40))
@settings(max_examples=60, deadline=None)
def test_a_damaged_checkpoint_is_refused(tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    train(folder, replace(STAGE, config=StageConfig(1, 0.01, 0.2)))
    path = folder / CHECKPOINT
    data = path.read_bytes()
    damaged = data[: cut % len(data)] + junk
    assume(len(damaged) != len(data))  # The format has no checksum of its tensors.
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match=r"is damaged .*; train this stage again with: .* --redo fcn.eda"):
        train(folder)


def test_half_written_files_do_no_harm(tmp_path: Path, checkpoints: Callable[[Path], dict[str, Any]]) -> None:
    train(tmp_path / "clean" / "stages" / "fcn.eda")
    folder = tmp_path / "dirty" / "stages" / "fcn.eda"
    folder.mkdir(parents=True)
    for name in (CHECKPOINT, "epochs.csv"):
        (folder / f".{name}.partial").write_bytes(b"half")
    train(folder)
    assert checkpoints(tmp_path / "dirty") == checkpoints(tmp_path / "clean")
    assert len(list(folder.iterdir())) == 2


def test_the_table_is_written_before_the_checkpoint(
    tmp_path: Path, checkpoints: Callable[[Path], dict[str, Any]]
) -> None:
    """The other way round, a kill between the two after the last epoch would leave a table that lacks it."""
    train(tmp_path / "clean" / "stages" / "fcn.eda")
    folder = tmp_path / "stopped" / "stages" / "fcn.eda"
    (folder / "epochs.csv").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"epochs.csv cannot be written \(Is a directory\); make room or check"):
        train(folder)
    assert epochs_done(STAGE, folder) == 0
    (folder / "epochs.csv").rmdir()
    train(folder)
    assert checkpoints(tmp_path / "stopped") == checkpoints(tmp_path / "clean")


def test_features_are_those_of_the_frozen_block(tmp_path: Path) -> None:
    block = Block().train()
    tokens = frozen_features(tmp_path, "fcn.eda", block, (X,), index=0)
    feature = frozen_features(tmp_path, "fcn.eda", block, (X,), index=1)
    with torch.inference_mode():
        expected = block.eval()(X)
    assert torch.equal(tokens, expected[0])
    assert torch.equal(feature, expected[1])


def test_features_span_batches_and_are_read_back(tmp_path: Path) -> None:
    x = torch.randn(600, 6, generator=torch.Generator().manual_seed(1))
    block = Block().eval()
    first = frozen_features(tmp_path, "fcn.eda", block, (x,), index=0)
    (path,) = tmp_path.iterdir()
    before = path.stat().st_mtime_ns
    again = frozen_features(tmp_path, "fcn.eda", block, (x,), index=0)
    assert path.stat().st_mtime_ns == before
    with torch.inference_mode():
        torch.testing.assert_close(first, block(x)[0])
    assert torch.equal(first, again)


def test_features_of_other_weights_or_windows_are_not_taken(tmp_path: Path) -> None:
    block = Block().eval()
    old = frozen_features(tmp_path, "fcn.eda", block, (X,), index=1).clone()
    with torch.no_grad():
        block.layer.bias += 1
    assert not torch.equal(frozen_features(tmp_path, "fcn.eda", block, (X,), index=1), old)
    assert not torch.equal(frozen_features(tmp_path, "fcn.eda", block, (X + 1,), index=1), old)
    assert len(list(tmp_path.iterdir())) == 3


def bf16_only() -> None:
    if not bf16_supported():
        pytest.skip("this processor has no bfloat16 instructions")


def headed_fcn() -> Headed:
    return Headed(FCN(16, 0.2), 16, 2)


@pytest.mark.parametrize("stop_after", [1, 3])
def test_an_interrupted_stage_in_bf16_goes_on_to_the_same_weights(tmp_path: Path, stop_after: int) -> None:
    bf16_only()
    stage, x_B1S = replace(STAGE, precision="bf16"), torch.cat([X, X], dim=1).unsqueeze(1)
    expected = train_stage(stage, headed_fcn, (x_B1S,), Y, tmp_path / "at once", lambda _: None).state_dict()

    def interrupt(metrics: EpochMetrics) -> None:
        if metrics.epoch + 1 == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_stage(stage, headed_fcn, (x_B1S,), Y, tmp_path / "twice", interrupt)
    resumed = train_stage(stage, headed_fcn, (x_B1S,), Y, tmp_path / "twice", lambda _: None).state_dict()
    for name, value in expected.items():
        assert value.dtype in (torch.float32, torch.int64)
        assert torch.equal(resumed[name], value), name


def test_a_stage_is_not_trained_in_two_precisions(tmp_path: Path) -> None:
    bf16_only()
    begun = replace(STAGE, config=replace_epochs(1), precision="bf16")
    train(tmp_path, begun)
    with pytest.raises(CheckpointError, match="was begun in bf16; set precision to auto or bf16, or start a new run"):
        train(tmp_path, replace(STAGE, precision="fp32"))
    train(tmp_path, replace(begun, precision="fp32"))  # Finished: nothing is left to train.
    train(tmp_path, STAGE)
    assert epochs_done(STAGE, tmp_path) == 4


def test_auto_goes_on_in_the_precision_it_finds(tmp_path: Path) -> None:
    train(tmp_path / "auto", replace(STAGE, config=replace_epochs(1), precision="fp32"))
    found, _ = train(tmp_path / "auto")
    expected, _ = train(tmp_path / "fp32", replace(STAGE, precision="fp32"))
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


def test_a_stage_begun_in_bf16_needs_a_processor_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bf16_only()
    train(tmp_path, replace(STAGE, config=replace_epochs(1), precision="bf16"))
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
    with pytest.raises(
        CheckpointError, match="was begun in bf16, which this processor lacks; go on where it was begun"
    ):
        train(tmp_path)
    with pytest.raises(ConfigError, match=r"no bfloat16 instructions .*; set precision to auto or fp32"):
        train(tmp_path / "new", replace(STAGE, precision="bf16"))
    train(tmp_path / "new")


def replace_epochs(epochs: int) -> StageConfig:
    return StageConfig(epochs, 0.01, 0.2, milestones=(2, 3), gamma=0.5)
