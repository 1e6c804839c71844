"""A marker planted in one subject: it may be seen in the folds where that subject trains, and in no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from edgepain.train.create import Plan, create_run
from edgepain.train.run import NETWORK, Run, open_run
from edgepain.train.table_file import save_table
from edgepain.train.windows import WindowTable
from edgepain.train.work import TEMPERED

MARKED = "S02"
PEERS = ("random-forest", "svm")


def plant(table: WindowTable) -> tuple[WindowTable, npt.NDArray[np.intp]]:
    """Give a subject other labels, and half of its windows another signal; also the rows of the other half."""
    rows = np.flatnonzero(table.subjects == MARKED)
    marked, fixed = rows[::2], rows[1::2]
    values, labels, features = table.values.copy(), table.labels.copy(), table.features.copy()
    median, iqr = table.history_median.copy(), table.history_iqr.copy()
    labels[rows] = 1 - labels[rows]
    values[marked] = np.random.default_rng(3).normal(50, 20, values[marked].shape)
    features[marked] = 1e3
    median[marked] *= 3
    iqr[marked] *= 3
    return replace(
        table, values=values, labels=labels, features=features, history_median=median, history_iqr=iqr
    ), fixed


def with_table(run: Run, table: WindowTable, folder: Path) -> Run:
    """A run like this one, not begun, on other windows."""
    folder.mkdir()
    for name in ("config.json", "environment.json"):
        (folder / name).write_bytes((run.folder / name).read_bytes())
    with (folder / "windows.npz").open("wb") as file:
        save_table(file, table, True)
    return open_run(folder)


def held_out_fold(run: Run, subject: str) -> str:
    (name,) = (fold.name for fold in run.folds if fold.split.held_out == (subject,))
    return name


def said(run: Run, fold: str, rows: npt.NDArray[np.intp] | None = None) -> dict[tuple[str, str], bytes]:
    """What each method said of a fold's windows (only of these rows), scaled with their own history."""
    return {
        (each.model, each.missing): each.probabilities[
            slice(None) if rows is None else np.isin(each.rows, rows)
        ].tobytes()
        for each in run.answers()
        if each.fold == fold and each.scaling == "causal"
    }


def temperature(run: Run, fold: str) -> float:
    return run.fold(fold).temperature(run.fold(fold).trained())


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory, e4_plan: Plan, finished: Callable[..., Run]
) -> tuple[Run, Run, npt.NDArray[np.intp]]:
    """Leave one subject out, with a temperature and peers, without and with the marker; rows that look the same."""
    config = msgspec.structs.replace(e4_plan.train, calibration_share=0.25)
    plan = replace(e4_plan, protocol="loso", peers=PEERS, train=config)
    root = tmp_path_factory.mktemp("pair")
    plain, _ = create_run(root / "plain", plan)
    table, fixed = plant(plain.table)
    marked = with_table(plain, table, root / "marked")
    return finished(plain, True), finished(marked, True), fixed


def test_nothing_of_a_held_out_subject_reaches_its_fold(
    pair: tuple[Run, Run, npt.NDArray[np.intp]], stages_of: Callable[[Path], dict[str, Any]]
) -> None:
    plain, marked, fixed = pair
    name = held_out_fold(plain, MARKED)
    one, other = (run.fold(name) for run in (plain, marked))
    stages = [stages_of(fold.folder) for fold in (one, other)]
    assert len(stages[0]) == 7
    assert stages[0] == stages[1]
    features = [
        {path.name: path.read_bytes() for path in (fold.folder / "features").iterdir()} for fold in (one, other)
    ]
    assert features[0] == features[1]
    assert one.inner == other.inner
    assert one.inner is not None
    assert MARKED not in one.inner.train + one.inner.held_out
    assert temperature(plain, name) == temperature(marked, name)
    answers = said(plain, name, fixed)
    assert {model for model, _ in answers} >= {NETWORK, TEMPERED, *PEERS}
    assert answers == said(marked, name, fixed)
    # The marker was there to be seen.
    assert not set(said(plain, name).items()) & set(said(marked, name).items())


@pytest.mark.parametrize("held_out", ["S01", "S03", "S04", "S05"])
def test_a_training_subject_reaches_every_other_fold(
    pair: tuple[Run, Run, npt.NDArray[np.intp]], held_out: str, stages_of: Callable[[Path], dict[str, Any]]
) -> None:
    plain, marked, _ = pair
    name = held_out_fold(plain, held_out)
    calibrates = MARKED not in plain.fold(name).stage_subjects
    stages = [stages_of(run.fold(name).folder) for run in (plain, marked)]
    same = [stage for stage in stages[0] if stages[0][stage] == stages[1][stage]]
    answers = [said(run, name) for run in (plain, marked)]
    if calibrates:  # Then no stage may see it either, and only the temperature does.
        assert same == list(stages[0])
        assert [key for key in answers[0] if answers[0][key] != answers[1][key]] == [(TEMPERED, "")]
    else:
        assert same == []
        assert not set(answers[0].items()) & set(answers[1].items())
    assert temperature(plain, name) != temperature(marked, name)


def test_an_epoch_chosen_on_the_test_fold_does_see_it_and_says_so(
    e4_plan: Plan,
    tmp_path: Path,
    finished: Callable[..., Run],
    edgepain: Callable[..., Any],
    stages_of: Callable[[Path], dict[str, Any]],
) -> None:
    plan = replace(e4_plan, holdout=f"{MARKED},", epoch_choice="test-fold")
    plain, _ = create_run(tmp_path / "plain", plan)
    labels = np.where(plain.table.subjects == MARKED, 1 - plain.table.labels, plain.table.labels)
    marked = with_table(plain, replace(plain.table, labels=labels), tmp_path / "marked")
    finished(plain)
    finished(marked)
    (name,) = (fold.name for fold in plain.folds)
    stages = [stages_of(run.fold(name).folder) for run in (plain, marked)]
    one, other = (each["fcn.eda"] for each in stages)
    trained = [key for key in one if key.startswith("model.")]
    assert [one[key] for key in trained] == [other[key] for key in trained]  # On the same windows,
    kept = [(stage, key) for stage in stages[0] for key in stages[0][stage] if key.startswith("best.")]
    assert any(stages[0][stage][key] != stages[1][stage][key] for stage, key in kept)  # but another epoch is kept.
    assert said(plain, name) != said(marked, name)
    for run in (plain, marked):
        assert run.protocol.startswith("EPOCH CHOSEN ON THE TEST FOLD: hold-out by subject")
        answer = edgepain("train", "--resume", run.folder)
        assert answer.code == 0
        assert answer.out.count("EPOCH CHOSEN ON THE TEST FOLD") == 2  # What begins, and below the table.
