"""What a wrist needs: a modality may be missing, probabilities mean what they say, windows are as long as asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from scipy.special import softmax

from edgepain.bundle import open_bundle
from edgepain.engine import open_engine
from edgepain.train.create import Plan, create_run
from edgepain.train.run import Run
from edgepain.train.temperature import apply_temperature, fit_temperature


@pytest.fixture(scope="module")
def wrist_run(tmp_path_factory: pytest.TempPathFactory, e4_plan: Plan, finished: Callable[..., Run]) -> Run:
    config = msgspec.structs.replace(e4_plan.train, modality_dropout=0.4, calibration_share=0.34, limit_iqr=5.0)
    run, _ = create_run(tmp_path_factory.mktemp("wrist") / "run", replace(e4_plan, train=config))
    return finished(run)


def test_temperature_finds_what_probabilities_were_sharpened_by() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 3))
    labels = np.array([rng.choice(3, p=p) for p in softmax(logits, axis=1)])
    sharp = softmax(3 * logits, axis=1)
    assert fit_temperature(sharp, labels) == pytest.approx(3.0, rel=0.05)
    np.testing.assert_allclose(apply_temperature(sharp, 3.0), softmax(logits, axis=1), atol=1e-5)
    certain = np.eye(3)[labels]
    assert np.isfinite(apply_temperature(certain, fit_temperature(certain, labels))).all()


def test_the_temperature_is_fitted_on_training_people_that_no_stage_saw(wrist_run: Run) -> None:
    fold = wrist_run.fold()
    assert fold.inner is not None
    assert set(fold.inner.held_out) | set(fold.stage_subjects) == set(fold.split.train)
    assert not set(fold.inner.held_out) & set(fold.stage_subjects)
    answers = {(a.model, a.scaling): a for a in wrist_run.answers() if not a.missing}
    plain, tempered = answers["crossmod", "causal"], answers["crossmod+temperature", "causal"]
    np.testing.assert_array_equal(plain.probabilities.argmax(axis=1), tempered.probabilities.argmax(axis=1))
    np.testing.assert_allclose(
        apply_temperature(plain.probabilities, fold.temperature(fold.trained())), tempered.probabilities, atol=1e-6
    )
    x, usable = fold.part(fold.split.held_out).scaled("causal")
    with torch.inference_mode():
        exported = torch.softmax(fold.network()(torch.from_numpy(x[usable])), dim=1).numpy()
    np.testing.assert_allclose(exported, tempered.probabilities, atol=1e-5)


def test_every_run_says_how_it_does_without_a_modality(wrist_run: Run) -> None:
    fold = wrist_run.fold()
    answers = {(a.missing, a.scaling): a for a in wrist_run.answers() if a.model == "crossmod"}
    x, usable = fold.part(fold.split.held_out).scaled("subject")
    x = x[usable]
    assert np.abs(x).max() <= 5.0
    x[:, 0] = 0
    np.testing.assert_allclose(
        answers["eda", "subject"].probabilities, fold.trained().predict(x)["crossmod"], atol=1e-6
    )
    assert not np.allclose(answers["eda", "subject"].probabilities, answers["", "subject"].probabilities)


def test_the_bundle_carries_it_all(wrist_run: Run, edgepain: Callable[..., Any], tmp_path: Path) -> None:
    answer = edgepain("export", wrist_run.folder, "--out", tmp_path / "b", "--precision", "fp32")
    assert answer.code == 0, answer.err
    assert "causal, no eda" in answer.out
    bundle = open_bundle(tmp_path / "b")
    manifest = bundle.manifest
    assert (manifest.training.modality_dropout, manifest.scaling.limit_iqr) == (0.4, 5.0)
    assert [(a.scaling, a.without) for a in manifest.accuracy if a.precision == "fp32"] == [
        (scaling, without) for scaling in ("subject", "causal") for without in (None, "eda", "bvp")
    ]
    fold = wrist_run.fold()
    x, usable = fold.part(fold.split.held_out).scaled("causal")
    found = softmax(open_engine(bundle).predict(x[usable]), axis=1)
    answers = {(a.model, a.scaling): a for a in wrist_run.answers() if not a.missing}
    np.testing.assert_allclose(found, answers["crossmod+temperature", "causal"].probabilities, atol=1e-4)


def test_modality_dropout_reaches_the_fusion_alone(
    e4_plan: Plan, tmp_path: Path, finished: Callable[..., Run], checkpoints: Callable[[Path], dict[str, Any]]
) -> None:
    folders = []
    for share in (0.0, 0.4):
        config = msgspec.structs.replace(e4_plan.train, modality_dropout=share)
        run, _ = create_run(tmp_path / f"{share}", replace(e4_plan, train=config))
        folders.append(checkpoints(finished(run).folder))
    assert {name for name in folders[0] if folders[0][name] != folders[1][name]} == {"crossmod"}


@pytest.mark.parametrize("seconds", [3.0, 10.0])
def test_windows_are_as_long_as_asked(
    edgepain: Callable[..., Any], e4_root: Path, tiny_toml: Path, tmp_path: Path, seconds: float
) -> None:
    plan = ("--dataset", "e4", "--root", e4_root, "--config", tiny_toml, "--holdout", "S02,S05")
    answer = edgepain("train", *plan, "--window", seconds, "--scaling", "subject", "--out", tmp_path / "run")
    if seconds > 6:  # The simulated stimuli are shorter.
        assert answer.code == 3
        assert "no labelled stretch holds a window of 10 s" in answer.err
    else:
        assert answer.code == 0, answer.err
        assert "windows of 3 s" in answer.out
