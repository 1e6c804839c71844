"""Configuration files: those that are shipped, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepain.errors import ConfigError
from edgepain.train.config import SHIPPED, StageConfig, load_config

# Table 4: epochs, milestones, and the range in which dropout was searched.
TABLE_4 = [
    ("fcn", 900, (500,), (0.1, 0.4)),
    ("alstm", 500, (300,), (0.1, 0.4)),
    ("transformer", 100, (80,), (0.1, 0.4)),
    ("crossmod", 50, (), (0.3, 0.7)),
]


@pytest.mark.parametrize(("stage", "epochs", "milestones", "dropouts"), TABLE_4)
def test_paper_is_table_4(stage: str, epochs: int, milestones: tuple[int, ...], dropouts: tuple[float, float]) -> None:
    config = load_config("paper")
    settings = getattr(config, stage)
    assert (settings.epochs, settings.milestones) == (epochs, milestones)
    assert dropouts[0] <= settings.dropout <= dropouts[1]
    assert 1e-6 <= settings.learning_rate <= 1e-3
    assert (config.batch_size, config.scaling, config.fusion) == (128, "subject", "pooled")
    assert (config.window.seconds, config.window.steps) == (5.5, 138)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_configuration_loads_under_its_name(name: str) -> None:
    assert load_config(name).name == name


def test_shipped_names_are_the_shipped_files() -> None:
    folder = Path(__file__).parents[2] / "train" / "configs"
    assert {path.stem for path in folder.glob("*.toml")} == set(SHIPPED)


def test_milestones_multiply_the_rate() -> None:
    stage = StageConfig(epochs=5, learning_rate=0.1, dropout=0.0, milestones=(2, 4), gamma=0.5)
    assert [stage.learning_rate_at(epoch) for epoch in range(5)] == [0.1, 0.1, 0.05, 0.05, 0.025]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch_size = 16", "batch_size = 1", r"Expected `int` >= 2 - at `\$.batch_size`"),
        ("batch_size = 16", "batchsize = 16", "unknown field `batchsize`"),
        ("batch_size = 16", "", "missing required field `batch_size`"),
        ("epochs = 3", "epochs = 0", r"at `\$.fcn.epochs`"),
        ("epochs = 3", "epochs = 2.5", r"at `\$.fcn.epochs`"),
        ("learning_rate = 1e-3", "learning_rate = 2.0", r"at `\$.fcn.learning_rate`"),
        ("learning_rate = 1e-3", "learning_rate = nan", r"at `\$.fcn.learning_rate`"),
        ("dropout = 0.2", "dropout = 1.0", r"at `\$.fcn.dropout`"),
        ('"causal"', '"global"', "Invalid enum value 'global'"),
        ("steps = 24", "steps = 1", "window must have 0 < seconds < 3600 and 2 to 10000 steps"),
        ("seconds = 5.5", "seconds = -1", "window must have"),
        ("seconds = 5.5", "seconds = nan", "window must have"),
        ("min_history_s = 10", "min_history_s = 2000", "min_history_s 2000 is more than horizon_s 1800"),
        ("name =", "name", "configuration"),
    ],
)
def test_a_wrong_field_is_named(tiny_toml: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    text = tiny_toml.read_text()
    assert old in text
    path = tmp_path / "wrong.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message) as error_info:
        load_config(path)
    assert str(path) in str(error_info.value)
    assert "\n" not in str(error_info.value)


@pytest.mark.parametrize("name", ["papre", "x" * 5000, "a\0b", "."])
def test_a_file_that_cannot_be_read_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="use paper, small, quick, demo, or the path of a TOML file"):
        load_config(name)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "binary.toml")
