"""Runs from a dataset on disk: scores, leaks, damaged folders, and the bundle at the end."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepain.errors import CheckpointError, ConfigError, DataError
from edgepain.export import export_run
from edgepain.signal import Modality
from edgepain.train.config import TrainConfig
from edgepain.train.create import Plan, create_run
from edgepain.train.files import only_one_process
from edgepain.train.metrics import score
from edgepain.train.results import Results, write_results
from edgepain.train.run import Run, open_run
from edgepain.train.table_file import load_table, save_table

HELD_OUT = ("S02", "S05")


@pytest.fixture
def run_copy(trained_run: Run, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may damage."""
    return shutil.copytree(trained_run.folder, tmp_path / "copy")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


# What a run leaves behind


def test_a_run_is_laid_out_as_documented(trained_run: Run) -> None:
    folder = trained_run.folder
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == {
        "config.json",
        "environment.json",
        "windows.npz",
        "folds",
        "results.json",
    }
    (fold,) = trained_run.folds
    assert {path.name for path in fold.folder.iterdir() if not path.name.startswith(".")} == {
        "stages",
        "features",
        "answers",
    }
    assert not list(folder.rglob("*.partial"))
    assert trained_run.fold().split.held_out == HELD_OUT
    assert trained_run.fold().split.train == ("S01", "S03", "S04")
    reopened = open_run(folder)
    assert reopened.config == trained_run.config
    assert reopened.spec == trained_run.spec
    np.testing.assert_array_equal(reopened.table.values, trained_run.table.values)


def test_every_stage_is_scored_under_both_scalings(trained_run: Run) -> None:
    results = msgspec.json.decode((trained_run.folder / "results.json").read_bytes(), type=Results)
    stages = trained_run.fold().trained()
    found = [(row.scaling, row.model, row.missing) for row in results.rows]
    assert found == [
        (scaling, *row)
        for scaling in ("subject", "causal")
        for row in [*((name, "") for name in [*stages.blocks, "crossmod"]), ("crossmod", "eda"), ("crossmod", "bvp")]
    ]
    table = trained_run.fold().part(HELD_OUT)
    assert set(table.subjects) == set(HELD_OUT)
    for row in results.rows:
        x, usable = table.scaled(row.scaling)
        if row.missing:
            x[:, trained_run.config.modalities.index(Modality(row.missing))] = 0
        probabilities = stages.predict(x[usable])[row.model]
        assert (
            row.pooled
            == row.folds["seed0-fold00"]
            == score(table.labels[usable], probabilities, table.subjects[usable])
        )
        assert row.left_out == np.count_nonzero(~usable)


def test_windows_that_a_scaling_cannot_use_are_counted(
    trained_run: Run, tmp_path: Path, finished: Callable[..., Run]
) -> None:
    table = trained_run.table
    held_out = np.flatnonzero(np.isin(table.subjects, HELD_OUT))
    history, quality = table.history_seconds.copy(), table.quality_ok.copy()
    history[held_out[:3]] = 5.0  # Less than the 10 s of the configuration.
    quality[held_out[-1]] = False

    def judged(**changes: Any) -> dict[str, tuple[int, int]]:
        run = Run(
            shutil.copytree(trained_run.folder, tmp_path / str(len(list(tmp_path.iterdir())))), trained_run.config
        )
        run.__dict__["_stored"] = (replace(table, **changes), True)
        run.fold().answers_path("crossmod").unlink()
        return {row.scaling: (row.left_out, row.pooled.windows) for row in write_results(finished(run)).rows}

    assert judged(history_seconds=history, quality_ok=quality) == {
        "subject": (1, held_out.size - 1),
        "causal": (4, held_out.size - 4),
    }
    history[held_out] = 0
    assert set(judged(history_seconds=history)) == {"subject"}
    quality[held_out] = False
    with pytest.raises(DataError, match=r"fold seed0-fold00: no window of S02, S05 can be used; hold other subjects"):
        judged(quality_ok=quality)


def test_facts_for_a_bundle(trained_run: Run) -> None:
    facts = trained_run.fold().training_facts()
    assert (facts.dataset, facts.task, facts.config, facts.seed) == ("e4", "label 0 / label 1", "tiny", 0)
    assert (facts.train_subjects, facts.held_out_subjects, facts.synthetic) == (3, 2, True)
    assert facts.held_out == HELD_OUT
    _, usable = trained_run.fold().part(trained_run.fold().split.train).scaled("causal")
    assert facts.train_windows == np.count_nonzero(usable) > 0
    assert facts.protocol == (
        "hold-out by subject (S02,S05): 3 subjects train, 2 held out; last epoch, nothing chosen on held-out subjects"
    )
    eda, bvp = trained_run.modality_specs()
    assert (eda.modality, eda.unit, eda.min_rate_hz) == (Modality.EDA, "uS", 4.0)
    # 24 points in 5.5 s; a sensor that is slower than the grid would add nothing to it.
    assert (bvp.modality, bvp.unit, bvp.min_rate_hz) == (Modality.BVP, "a.u.", round(23 / 5.5, 1))


def test_a_run_becomes_a_bundle(trained_run: Run, tmp_path: Path) -> None:
    bundle = export_run(trained_run.fold(), tmp_path / "bundle", precisions=("fp32",))
    manifest = bundle.manifest
    assert manifest.training == trained_run.fold().training_facts()
    results = msgspec.json.decode((trained_run.folder / "results.json").read_bytes(), type=Results)
    for row in results.rows:
        if row.model == "crossmod" and not row.missing:
            measured = {a.precision: a for a in manifest.accuracy if a.scaling == row.scaling}
            assert measured["torch"].accuracy == measured["fp32"].accuracy == pytest.approx(row.pooled.accuracy)
            assert measured["torch"].windows == row.pooled.windows


def test_three_classes_and_an_official_list(
    three_class_plan: Plan, tmp_path: Path, finished: Callable[..., Run]
) -> None:
    run, problems = create_run(tmp_path / "run", three_class_plan)
    assert not problems
    assert run.labels == ("BL1", "PA2", "PA4")
    assert run.config.modalities == (Modality.EDA, Modality.ECG)
    results = write_results(finished(run))
    assert not (run.folder / "features").exists()
    assert {row.pooled.windows for row in results.rows if row.scaling == "subject"} == {
        9 * len(run.fold().split.held_out)
    }
    assert run.fold().network()(torch_windows(run)).shape == (len(run.table), 3)


def torch_windows(run: Run) -> Any:
    import torch

    return torch.from_numpy(run.table.scaled("subject")[0])


# No held-out information reaches a stage


def change_subject(root: Path, subject: str) -> None:
    """Give a subject the opposite labels and other, still plausible, signals."""
    rows = list(csv.reader((root / "labels.csv").read_text().splitlines()))
    for row in rows[1:]:
        if row[0] == subject and row[2]:
            row[2] = str(1 - int(row[2]))
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    rng = np.random.default_rng(7)
    for name in ("EDA", "BVP"):
        path = root / "raw" / subject / f"{name}.csv"
        start, rate, *lines = path.read_text().split()
        values = np.array(lines, float)[::-1] * rng.uniform(1.2, 1.4)
        path.write_text("\n".join([start, rate, *(f"{value:.6f}" for value in values)]) + "\n")


@pytest.mark.parametrize("scaling", ["causal", "subject"])
@pytest.mark.parametrize("fusion", ["pooled", "sequence"])
def test_held_out_labels_and_signals_change_no_checkpoint(
    e4_plan: Plan,
    tmp_path: Path,
    finished: Callable[..., Run],
    checkpoints: Callable[[Path], dict[str, Any]],
    scaling: str,
    fusion: str,
) -> None:
    config = msgspec.structs.replace(e4_plan.train, scaling=scaling, fusion=fusion)
    shutil.copytree(e4_plan.root, tmp_path / "changed")
    for subject in HELD_OUT:
        change_subject(tmp_path / "changed", subject)
    runs = [
        finished(create_run(tmp_path / name, replace(e4_plan, root=root, train=config))[0], True)
        for name, root in (("original", e4_plan.root), ("other", tmp_path / "changed"))
    ]
    assert checkpoints(runs[0].folder) == checkpoints(runs[1].folder)
    for part, same in ((runs[0].fold().split.train, True), (HELD_OUT, False)):
        one, other = (run.fold().part(part) for run in runs)
        assert np.array_equal(one.values, other.values) is same
        assert np.array_equal(one.labels, other.labels) is same
    assert (runs[0].folder / "results.json").read_bytes() != (runs[1].folder / "results.json").read_bytes()


def test_a_training_subject_does_change_checkpoints(
    e4_plan: Plan,
    tmp_path: Path,
    finished: Callable[..., Run],
    trained_run: Run,
    checkpoints: Callable[[Path], dict[str, Any]],
) -> None:
    shutil.copytree(e4_plan.root, tmp_path / "changed")
    change_subject(tmp_path / "changed", "S03")
    run = finished(create_run(tmp_path / "run", replace(e4_plan, root=tmp_path / "changed"))[0])
    before, after = checkpoints(trained_run.folder), checkpoints(run.folder)
    assert not [name for name in before if before[name] == after[name]]


def test_poison_in_held_out_windows_reaches_nothing(
    trained_run: Run, tmp_path: Path, finished: Callable[..., Run], checkpoints: Callable[[Path], dict[str, Any]]
) -> None:
    """One not-a-number anywhere in training would spread to every weight of its stage."""
    table = trained_run.table
    held_out = np.isin(table.subjects, HELD_OUT)
    values, labels = table.values.copy(), table.labels.copy()
    values[held_out], labels[held_out] = np.nan, 1
    history = np.where(held_out[:, None], np.nan, table.history_median)
    poisoned = replace(table, values=values, labels=labels, history_median=history)
    folder = tmp_path / "poisoned"
    folder.mkdir()
    for name in ("config.json", "environment.json"):
        shutil.copy(trained_run.folder / name, folder)
    with (folder / "windows.npz").open("wb") as file:
        save_table(file, poisoned, True)
    run = open_run(folder)
    with pytest.raises(DataError, match=r"fcn\.eda does not answer windows of S02, S05 in numbers"):
        finished(run, True)
    assert checkpoints(folder) == checkpoints(trained_run.folder)
    (names, expected) = (sorted(path.name for path in fold_features(each)) for each in (run, trained_run))
    assert names == expected
    for path in fold_features(run):
        array = np.load(path)
        assert len(array) == run.fold().training_facts().train_windows
        assert np.isfinite(array).all()


def fold_features(run: Run) -> list[Path]:
    return list((run.fold().folder / "features").iterdir())


# What cannot be started


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"root": Path("nowhere")}, DataError, "nowhere: no such folder"),
        ({"options": {"speed": "1"}}, ConfigError, "e4 has no option 'speed'"),
        ({"modalities": (Modality.EDA, Modality.ECG)}, ConfigError, "e4 has no ecg; it has eda, bvp"),
        ({"holdout": "S09"}, ConfigError, "cannot hold out 'S09': no such subject"),
    ],
)
def test_a_plan_that_does_not_fit_the_data(
    e4_plan: Plan, tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        create_run(tmp_path / "run", replace(e4_plan, **changes))
    # The same folder can be used when the mistake is put right.
    run, _ = create_run(tmp_path / "run", e4_plan)
    assert run.fold().split.held_out == HELD_OUT


def keep_labels(plan: Plan, root: Path, keep: Callable[[str, str], bool]) -> Plan:
    """The same data with only the label rows (subject, label) that are to be kept."""
    shutil.copytree(plan.root, root)
    header, *rows = csv.reader((root / "labels.csv").read_text().splitlines())
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *(row for row in rows if keep(row[0], row[2]))])
    return replace(plan, root=root)


def test_one_class_cannot_be_trained_on(e4_plan: Plan, tmp_path: Path) -> None:
    plan = keep_labels(e4_plan, tmp_path / "data", lambda _, label: label == "1")
    with pytest.raises(DataError, match=r"only one class \('label 1'\) .*; label segments of a second one, or name"):
        create_run(tmp_path / "run", plan)


def test_one_subject_cannot_be_trained_on(e4_plan: Plan, tmp_path: Path) -> None:
    plan = keep_labels(e4_plan, tmp_path / "data", lambda subject, _: subject == "S01")
    with pytest.raises(DataError, match="only subject S01 has usable windows; training and judging need two"):
        create_run(tmp_path / "run", plan)


def test_two_subjects_are_enough(e4_plan: Plan, tmp_path: Path) -> None:
    plan = keep_labels(e4_plan, tmp_path / "data", lambda subject, _: subject in ("S01", "S02"))
    run, problems = create_run(tmp_path / "run", replace(plan, holdout="1"))
    assert len(run.fold().split.train) == len(run.fold().split.held_out) == 1
    assert len(problems) == 3  # Three session folders without labels.


def test_a_class_that_only_held_out_subjects_have(e4_plan: Plan, tmp_path: Path) -> None:
    plan = keep_labels(e4_plan, tmp_path / "data", lambda subject, label: label == "0" or subject in HELD_OUT)
    with pytest.raises(DataError, match="no usable window of the training subjects has the class 'label 1'"):
        create_run(tmp_path / "run", plan)


def test_five_classes_are_too_many(three_class_plan: Plan, tmp_path: Path) -> None:
    levels = {"levels": ["BL1", "PA1", "PA2", "PA3", "PA4"]}
    with pytest.raises(ConfigError, match=r"no network for BL1 / PA1 / .*: classes must be 2 or 3"):
        create_run(tmp_path / "run", replace(three_class_plan, options=levels))


def test_a_folder_that_is_in_use(trained_run: Run, e4_plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds a run; go on with: edgepain train --resume"):
        create_run(trained_run.folder, e4_plan)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty and no run folder; choose another --out"):
        create_run(tmp_path, e4_plan)
    with pytest.raises(ConfigError, match="cannot be made a run folder"):
        create_run(tmp_path / "thesis.txt", e4_plan)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_what_a_stopped_start_left_behind_is_replaced(e4_plan: Plan, trained_run: Run, tmp_path: Path) -> None:
    for name in ("windows.npz", ".windows.npz.partial", ".environment.json.partial", ".config.json.partial"):
        (tmp_path / name).write_bytes(b"half")
    run, _ = create_run(tmp_path, e4_plan)
    np.testing.assert_array_equal(open_run(tmp_path).table.values, trained_run.table.values)
    assert not list(run.folder.glob(".*"))


# Damaged folders


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"seed": 0', '"seed": 1', "belongs to another configuration or other data"),
        ('"batch_size": 16', '"batch_size": 8', "belongs to another configuration or other data"),
        ('"S05"\n      ]', '"S04"\n      ]', "belongs to another configuration or other data"),
        ('"steps": 24', '"steps": 25', "was cut with other settings than config.json"),
        ('"min_history_s": 10', '"min_history_s": 20', "was cut with other settings than config.json"),
        ('"eda",\n    "bvp"', '"bvp",\n    "eda"', "was cut with other settings than config.json"),
        ('"eda",\n    "bvp"', '"eda"', "damaged or of another version .*modalities must be two different ones"),
        ('"pooled"', '"stacked"', "damaged or of another version .*Invalid enum value 'stacked'"),
        ('"seed"', '"sead"', "damaged or of another version"),
        ("{", "", "damaged or of another version"),
    ],
)
def test_an_edited_configuration_is_refused(
    run_copy: Path, finished: Callable[..., Run], old: str, new: str, message: str
) -> None:
    edit(run_copy / "config.json", old, new)
    with pytest.raises(CheckpointError, match=message):
        finished(open_run(run_copy))


def test_subjects_that_are_not_in_the_windows(run_copy: Path, finished: Callable[..., Run]) -> None:
    edit(run_copy / "config.json", '"subjects": [\n    "S01",\n', '"subjects": [\n    "S91",\n')
    with pytest.raises(CheckpointError, match="belongs to another configuration"):
        finished(open_run(run_copy))


@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_windows_are_refused(trained_run: Run, tmp_path: Path, data: st.DataObject) -> None:
    whole = (trained_run.folder / "windows.npz").read_bytes()
    # A zip ends with 22 bytes that say where everything is; without them nothing can be found.
    cut = data.draw(st.integers(0, len(whole) - 22))
    path = tmp_path / "windows.npz"
    path.write_bytes(whole[:cut] + data.draw(st.binary(max_size=20)))
    with pytest.raises(CheckpointError, match=r"missing or damaged .*; train again in a new run folder"):
        load_table(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {"labels": t.labels + 1}, "a label is none of the classes"),
        (lambda t: {"labels": t.labels.astype(float)}, "labels are float64"),
        (lambda t: {"values": t.values[:, :1]}, "values has the shape"),
        (lambda t: {"subjects": t.subjects[1:]}, "subjects has the shape"),
        (lambda t: {"history_iqr": t.history_iqr[:, 0]}, "history_iqr has the shape"),
    ],
)
def test_windows_that_contradict_themselves_are_refused(
    trained_run: Run, tmp_path: Path, change: Callable[[Any], dict[str, Any]], message: str
) -> None:
    file = BytesIO()
    save_table(file, replace(trained_run.table, **change(trained_run.table)), True)
    (tmp_path / "windows.npz").write_bytes(file.getvalue())
    with pytest.raises(CheckpointError, match=message):
        load_table(tmp_path / "windows.npz")


def test_two_trainings_of_one_folder_are_refused(run_copy: Path, finished: Callable[..., Run]) -> None:
    run = open_run(run_copy)
    run.fold().answers_path("crossmod").unlink()
    match = "seed0-fold00 is being trained by another process"
    with only_one_process(run.fold().folder, "crossmod"), pytest.raises(CheckpointError, match=match):
        finished(run)
    finished(run)


def test_a_folder_that_is_no_run(tmp_path: Path, e4_root: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere", e4_root / "labels.csv"):
        with pytest.raises(CheckpointError, match=r"is no run folder \(no config.json\); start one with"):
            open_run(folder)


def test_threads_are_those_that_the_run_began_with(run_copy: Path) -> None:
    edit(run_copy / "environment.json", '"threads": 1', '"threads": 3')
    assert open_run(run_copy).threads == 3
    edit(run_copy / "environment.json", '"threads": 3', '"threads": 0')
    with pytest.raises(CheckpointError, match=r"environment.json is missing, damaged"):
        _ = open_run(run_copy).threads


def test_a_flat_signal_is_reported_and_left_out(e4_plan: Plan, tmp_path: Path, tiny: TrainConfig) -> None:
    shutil.copytree(e4_plan.root, tmp_path / "data")
    path = tmp_path / "data" / "raw" / "S03" / "EDA.csv"
    start, rate, *lines = path.read_text().split()
    path.write_text("\n".join([start, rate, *["2.0" for _ in lines]]) + "\n")
    run, problems = create_run(tmp_path / "run", replace(e4_plan, root=tmp_path / "data"))
    assert [problem.where for problem in problems] == ["subject S03"]
    assert run.fold().split.train == ("S01", "S04")
