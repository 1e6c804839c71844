"""`edgepain explain` as a person uses it: pictures and numbers of any window, and messages for mistakes."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from matplotlib.image import imread

from edgepain.train.create import Plan, create_run
from edgepain.train.explain import choose_row, explain, unimodal_heads
from edgepain.train.run import Run

PICTURES = {
    "self_attention",
    "self_attention_diagonal",
    "self_attention_heads",
    "alstm_attention",
    "cross_attention_streams",
    "embedding_attention",
}


def pictures(folder: Path) -> set[str]:
    """Names of the pictures, each of which has more than one colour."""
    for path in folder.glob("*.png"):
        image = imread(path)
        assert image.ndim == 3
        assert np.ptp(image) > 0.5, path
    return {path.stem for path in folder.glob("*.png")}


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def three_classes(
    tmp_path_factory: pytest.TempPathFactory, three_class_plan: Plan, finished: Callable[..., Run]
) -> Run:
    """A finished run of `sequence` fusion on BioVid's layout, scaled by subject."""
    run, _ = create_run(tmp_path_factory.mktemp("explain") / "run", three_class_plan)
    return finished(run)


def test_window_of_the_runs_own_table(trained_run: Run, edgepain: Callable[..., Any], tmp_path: Path) -> None:
    answer = edgepain("explain", trained_run.folder, "--subject", "S02", "--window", "3", "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
    assert "S02 (held out), recording S02" in answer.out
    assert "pooled fusion" in answer.out
    assert "every weight between modalities is 1" in answer.out
    assert "simulated people" in answer.out
    assert pictures(tmp_path / "out") == PICTURES
    with np.load(tmp_path / "out" / "window.npz", allow_pickle=False) as numbers:
        assert numbers["attention.eda.fcn-to-alstm"].shape == (8, 24, 24)
        np.testing.assert_array_equal(numbers["attention.fusion.eda-to-bvp"], 1)
        np.testing.assert_allclose(numbers["alstm.bvp"].sum(), 1, rtol=1e-6)
        assert numbers["probabilities"].sum() == pytest.approx(1)
        rows = table(tmp_path / "out" / "time_steps.csv")
        assert len(rows) == 24
        np.testing.assert_allclose([float(row["eda_uS"]) for row in rows], numbers["values"][0], rtol=1e-5)
        received = 24 * numbers["attention.eda.fcn-self"].mean(axis=(0, 1))
        np.testing.assert_allclose([float(row["received.eda.fcn-self"]) for row in rows], received, rtol=1e-5)


def test_window_of_a_recording_file_is_the_one_that_was_trained_on(
    trained_run: Run, e4_root: Path, edgepain: Callable[..., Any], tmp_path: Path
) -> None:
    row = choose_row(trained_run.table, "causal", "S01", 3)
    explanation = explain(trained_run.fold().network(), unimodal_heads(trained_run.fold()), row.scaled)
    where = ("--recording", e4_root / "raw" / "S01", "--at", row.start_s)
    answer = edgepain("explain", trained_run.folder, *where, "--out", tmp_path)
    assert answer.code == 0, answer.err
    assert "S01 (trained on), recording S01" in answer.out
    with np.load(tmp_path / "window.npz") as numbers:
        np.testing.assert_array_equal(numbers["scaled"], row.scaled)
        np.testing.assert_array_equal(numbers["logits"], explanation.logits)
        for a in explanation.attention:
            np.testing.assert_array_equal(numbers[f"attention.{a.name}"], a.weights)


def test_sequence_fusion_shows_attention_between_modalities(
    three_classes: Run, biovid_root: Path, edgepain: Callable[..., Any], tmp_path: Path
) -> None:
    subject = three_classes.folds[0].split.held_out[0]
    of_biovid = ("explain", three_classes.folder, "--dataset", "biovid", "--root", biovid_root, "--subject", subject)
    vague = edgepain(*of_biovid, "--at", "0", "--out", tmp_path)
    assert vague.code == 2
    assert "recordings; choose one with --name" in vague.err
    name = three_classes.table.recordings[three_classes.table.subjects == subject][0]
    clip = edgepain(*of_biovid, "--at", "0", "--name", name, "--out", tmp_path)
    assert clip.code == 0, clip.err
    assert f"recording {name}, 0.0 s to 5.5 s, labelled BL1" in clip.out
    assert "fusion.eda-to-ecg: highest" in clip.out
    assert "later ones too" in clip.out
    assert pictures(tmp_path) == {*PICTURES, "cross_attention_modalities"}


@pytest.mark.parametrize("options", [(), ("--method", "pca", "--mark-subjects")])
def test_map_of_held_out_windows(
    options: tuple[str, ...], trained_run: Run, edgepain: Callable[..., Any], tmp_path: Path
) -> None:
    answer = edgepain("explain", trained_run.folder, "--embeddings", "--out", tmp_path, *options)
    assert answer.code == 0, answer.err
    assert "windows of 2 held-out subjects" in answer.out
    assert pictures(tmp_path) == {"embeddings"}
    rows = table(tmp_path / "embeddings.csv")
    assert {row["subject"] for row in rows} == {"S02", "S05"}
    assert {row["answer"] for row in rows} <= set(trained_run.labels)
    with np.load(tmp_path / "embeddings.npz", allow_pickle=False) as numbers:
        assert numbers["vectors.fcn.eda"].shape == (len(rows), 128)
        plane = [[float(row["crossmod.x"]), float(row["crossmod.y"])] for row in rows]
        np.testing.assert_allclose(plane, numbers["plane.crossmod"], rtol=1e-5)


def test_mistakes_are_explained(trained_run: Run, e4_root: Path, edgepain: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    window = ("--subject", "S02", "--window", "3")
    for arguments, code, message in (
        ((), 2, "name a window"),
        (("--window", "3"), 2, "--window needs --subject"),
        ((*window, "--at", "3"), 2, "--at does not go with --window"),
        ((*window, "--mark-subjects"), 2, "--mark-subjects does not go with --window"),
        (("--dataset", "e4", "--root", e4_root), 2, "--dataset needs --subject and --at"),
        (("--recording", e4_root / "raw" / "S01"), 2, "--recording needs --at"),
        (("--recording", e4_root / "raw" / "S01", "--at", "2"), 3, "causal scaling needs 10 s"),
        (("--dataset", "e4", "--root", e4_root, "--subject", "S9", "--at", "9"), 2, "no subject 'S9'"),
        ((*window, "--fold", "x"), 2, "no fold is called 'x'"),
        ((*window, "--out", tmp_path / "file"), 2, "cannot be made"),
    ):
        out = () if "--out" in arguments else ("--out", tmp_path / "out")
        answer = edgepain("explain", trained_run.folder, *arguments, *out)
        assert (answer.code, message in answer.err) == (code, True), (arguments, answer.err)
        assert not (tmp_path / "out").exists()
    assert edgepain("explain", tmp_path, *window).code == 3
