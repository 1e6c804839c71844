"""Peers through the door that a run uses: opened by name, trained, asked; and how one of a user's own is found."""

from __future__ import annotations

import re
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgepain.errors import ConfigError, MissingExtraError
from edgepain.signal import Modality
from edgepain.train.peers import PEERS, Inputs, open_peer, peer_names, register

BUILT_IN = ("cnn-bilstm", "minirocket", "random-forest", "svm")
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "peers.md"
STEPS = 48

Labelled = tuple[Inputs, npt.NDArray[np.int64], npt.NDArray[np.str_]]


def windows(count: int, classes: int, seed: int) -> Labelled:
    """Noise; class k has k more cycles of a wave in its window, and its third feature is higher by 2 k."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % classes
    waves = np.sin(2 * np.pi * (2 + 3 * labels[:, None]) * np.linspace(0, 1, STEPS) + rng.uniform(0, 6, (count, 1)))
    x = rng.normal(0.0, 0.5, (count, 2, STEPS)) + waves[:, None]
    features = rng.normal(size=(count, 6))
    features[:, 2] += 2 * labels
    features[:, 4] = 0.0
    inputs = Inputs(
        x.astype(np.float32),
        features.astype(np.float32),
        tuple(f"eda.f{k}" for k in range(6)),
        (Modality.EDA, Modality.BVP),
        5.5,
    )
    return inputs, labels, np.array([f"S{k % 5}" for k in range(count)])


def answers(name: str, trained_on: Labelled, inputs: Inputs, classes: int, seed: int = 0) -> npt.NDArray[np.float32]:
    peer = open_peer(name)(classes, seed)
    peer.fit(*trained_on)
    return peer.predict(inputs)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", BUILT_IN)
def test_a_planted_difference_is_found(name: str, classes: int) -> None:
    training, (inputs, labels, _) = windows(150, classes, 1), windows(60, classes, 2)
    probabilities = answers(name, training, inputs, classes)
    assert probabilities.shape == (60, classes)
    assert probabilities.dtype == np.float32
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    right = np.mean(probabilities.argmax(axis=1) == labels)
    assert right > (0.9 if name in ("minirocket", "cnn-bilstm") else 0.7)


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_same_seed_gives_the_same_answers(name: str) -> None:
    training, (inputs, _, _) = windows(60, 2, 1), windows(20, 2, 2)
    first = answers(name, training, inputs, 2, seed=7)
    np.random.rand()  # noqa: NPY002  what others draw must not matter
    np.testing.assert_array_equal(first, answers(name, training, inputs, 2, seed=7))
    if name != "svm":
        assert (first != answers(name, training, inputs, 2, seed=8)).any()


@pytest.mark.parametrize("name", BUILT_IN)
def test_each_window_is_answered_on_its_own(name: str) -> None:
    peer = open_peer(name)(2, 0)
    peer.fit(*windows(60, 2, 1))
    inputs, _, _ = windows(20, 2, 2)
    one = inputs.select(np.arange(20) == 13)
    assert len(one) == 1
    np.testing.assert_allclose(peer.predict(one), peer.predict(inputs)[13:14], atol=1e-5)


@pytest.mark.parametrize("name", BUILT_IN)
def test_constant_windows_and_features_do_not_break_it(name: str) -> None:
    inputs, labels, subjects = windows(30, 2, 1)
    flat = Inputs(np.zeros_like(inputs.x), np.zeros_like(inputs.features), inputs.feature_names, inputs.modalities, 5.5)
    probabilities = answers(name, (flat, labels, subjects), flat, 2)
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_peer_is_short(name: str) -> None:
    path = sys.modules[open_peer(name).__module__].__file__
    assert path is not None
    assert len(Path(path).read_text().splitlines()) < 60


def test_minirocket_says_how_long_a_window_must_be() -> None:
    inputs, labels, subjects = windows(20, 2, 1)
    short = Inputs(inputs.x[:, :, :8], inputs.features, inputs.feature_names, inputs.modalities, 5.5)
    with pytest.raises(ConfigError, match="minirocket needs windows of 9 points or more, not 8"):
        open_peer("minirocket")(2, 0).fit(short, labels, subjects)


def test_the_example_of_the_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = DOCUMENT.read_text()
    (source,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (module,) = re.findall(r"Save this as `(\w+)\.py`", text)
    (typed,) = re.findall(r"--peer (\w+:\w+)", text)
    assert typed.startswith(f"{module}:")
    assert len(source.splitlines()) < 60
    (tmp_path / f"{module}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("edgepain.train.peers.base.PEERS", dict(PEERS))
    training, (inputs, labels, _) = windows(150, 2, 1), windows(60, 2, 2)
    probabilities = answers(typed, training, inputs, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    assert np.mean(probabilities.argmax(axis=1) == labels) > 0.7
    assert open_peer("nearest-middle") is open_peer(typed)
    assert "nearest-middle" in peer_names()


def test_every_peer_is_in_the_document() -> None:
    text = DOCUMENT.read_text()
    assert set(BUILT_IN) == set(PEERS)
    assert all(f"| `{name}` |" in text for name in BUILT_IN)


def test_a_package_offers_a_peer_as_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("theirs", "edgepain.train.peers.svm:RbfSvm", "edgepain.peers")
    installed = EntryPoints([point])
    monkeypatch.setattr("edgepain.train.peers.base.entry_points", lambda **chosen: installed.select(**chosen))
    assert open_peer("theirs") is open_peer("svm")
    assert peer_names() == (*BUILT_IN, "theirs")


def test_a_name_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgepain.train.peers.base.PEERS", dict(PEERS))
    with pytest.raises(ConfigError, match="a peer is already called 'svm'"):
        register("svm")(open_peer("random-forest"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("forest", "no peer is called 'forest'; there are cnn-bilstm, minirocket, random-forest, svm"),
        ("", "no peer is called ''"),
        (":Class", "no peer is called ':Class'"),
        ("..peers:Class", r"no peer is called '\.\.peers:Class'"),
        ("not_there:Class", "No module named 'not_there'; is it installed, or its folder in PYTHONPATH"),
        ("edgepain.train.peers.svm:Nothing", "has no class Nothing with fit and predict"),
        ("edgepain.train.peers:Inputs", "has no class Inputs with fit and predict"),
        ("edgepain.train.peers:open_peer", "has no class open_peer with fit and predict"),
    ],
)
def test_what_cannot_be_opened_is_said(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_peer(name)


@pytest.mark.parametrize("library", ["numba", "sktime"])
def test_a_missing_library_is_named_with_its_extra(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    for module in [name for name in sys.modules if name.startswith("sktime.") or name.endswith("peers.minirocket")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(MissingExtraError, match=rf"{library}.* pip install 'edgepain\[peers\]'"):
        open_peer("minirocket")
