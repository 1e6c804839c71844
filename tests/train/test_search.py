"""Search of hyper-parameters: what is chosen, by whose windows, and what the run does with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgepain.errors import CheckpointError, ConfigError
from edgepain.train.chosen import write_chosen
from edgepain.train.config import StageConfig, TrainConfig
from edgepain.train.create import Plan, create_run
from edgepain.train.results import write_results
from edgepain.train.run import Run, open_run
from edgepain.train.search import Range, SearchPlan, Watch, search
from edgepain.train.search.inner import inner_splits
from edgepain.train.search.plan import shortened
from edgepain.train.table_file import save_table
from edgepain.train.work import carry_out

STAGES = ["fcn.eda", "alstm.eda", "transformer.eda", "fcn.bvp", "alstm.bvp", "transformer.bvp", "crossmod"]
SMALL = SearchPlan(trials=2, inner=2, epochs=1)
COMPLETE, PRUNED, FAIL = 1, 2, 3


def nothing() -> None:
    """A tick."""


def finished_trials(run: Run, stage: str) -> list[tuple[dict[str, float], float | None, dict[int, float]]]:
    """Settings, score and scores on the way of the finished trials of a study, read from its lines."""
    path = run.folds[0].folder / "search" / f"{stage}.journal"
    trials: list[dict[str, Any]] = []
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        if entry["op_code"] == 4:
            trials.append({"params": {}, "steps": {}, "state": entry.get("state", 0), "value": None})
        elif entry["op_code"] in (5, 6, 7):
            trial = trials[entry["trial_id"]]
            if entry["op_code"] == 5:
                trial["params"][entry["param_name"]] = entry["param_value_internal"]
            elif entry["op_code"] == 7:
                trial["steps"][entry["step"]] = entry["intermediate_value"]
            else:
                trial |= {"state": entry["state"], "value": (entry["values"] or [None])[0]}
    return [(t["params"], t["value"], t["steps"]) for t in trials if t["state"] in (COMPLETE, PRUNED)]


@pytest.fixture(scope="module")
def plan(e4_plan: Plan, tiny: TrainConfig) -> Plan:
    kinds = ("alstm", "transformer", "crossmod")
    short = {kind: msgspec.structs.replace(getattr(tiny, kind), epochs=1) for kind in kinds}
    return replace(e4_plan, train=msgspec.structs.replace(tiny, **short))


@pytest.fixture
def fresh(tmp_path: Path, untrained: Run) -> Run:
    """A run of which nothing is trained or searched."""
    return open_run(shutil.copytree(untrained.folder, tmp_path / "run"))


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> Run:
    return create_run(tmp_path_factory.mktemp("untrained") / "run", plan)[0]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, untrained: Run) -> Run:
    """A run of which every stage is searched and nothing is trained, to be read only."""
    run = open_run(shutil.copytree(untrained.folder, tmp_path_factory.mktemp("searched") / "run"))
    search(run, SMALL, nothing)
    return run


def test_every_stage_is_decided_within_the_papers_ranges(searched: Run) -> None:
    fold = searched.folds[0]
    assert list(fold.chosen) == STAGES
    for name, chosen in fold.chosen.items():
        configured = getattr(searched.config.train, name.partition(".")[0])
        trials = finished_trials(searched, name)
        assert len(trials) == 2
        first, second = (params for params, _, _ in trials)
        assert first == {"learning_rate": configured.learning_rate, "dropout": configured.dropout}
        low, high = (0.3, 0.7) if name == "crossmod" else (0.1, 0.4)
        assert low <= second["dropout"] <= high
        assert 1e-6 <= second["learning_rate"] <= 1e-3
        assert {"learning_rate": chosen.learning_rate, "dropout": chosen.dropout} in (first, second)
        # The search was shorter, the training is not.
        assert (chosen.epochs, chosen.milestones) == (configured.epochs, configured.milestones)
    for decision in Watch(searched, SMALL).decisions():
        assert decision.configured_score is not None
        assert decision.score >= decision.configured_score
        assert decision.score == max(value for _, value, _ in finished_trials(searched, decision.stage) if value)
    left = {path.name for path in (fold.folder / "search").iterdir()}
    assert left == {".lock", *(f"{stage}.journal" for stage in STAGES)}


def test_a_search_that_is_over_does_nothing_and_more_trials_go_on(fresh: Run) -> None:
    plan = replace(SMALL, stages=("fcn.bvp",))
    search(fresh, plan, nothing)
    before = finished_trials(fresh, "fcn.bvp")
    search(fresh, plan, nothing)
    assert finished_trials(fresh, "fcn.bvp") == before
    search(fresh, replace(plan, trials=3), nothing)
    assert finished_trials(fresh, "fcn.bvp")[:2] == before
    assert len(finished_trials(fresh, "fcn.bvp")) == 3


def test_held_out_subjects_change_neither_trials_nor_choice(tmp_path: Path, fresh: Run) -> None:
    """Their signals, their labels and their quality, all of them other: a marker would show up somewhere."""
    marked = tmp_path / "marked"
    shutil.copytree(fresh.folder, marked)
    table = fresh.table
    rows = np.isin(table.subjects, fresh.folds[0].split.held_out)
    assert 0 < rows.sum() < len(rows)
    values, labels = table.values.copy(), table.labels.copy()
    values[rows], labels[rows] = 1e3 - 7 * values[rows], 1 - labels[rows]
    with (marked / "windows.npz").open("wb") as file:
        save_table(file, replace(table, values=values, labels=labels), fresh.synthetic)
    other = open_run(marked)
    assert other.fingerprint != fresh.fingerprint

    plan = replace(SMALL, stages=("fcn.eda", "transformer.bvp", "crossmod"))
    for run in (fresh, other):
        search(run, plan, nothing)
    for stage in plan.stages:
        assert finished_trials(fresh, stage) == finished_trials(other, stage)
    assert fresh.folds[0].chosen == other.folds[0].chosen


def test_a_training_subject_does_change_them(tmp_path: Path, fresh: Run) -> None:
    """The test above would see a difference if there were one."""
    marked = tmp_path / "marked"
    shutil.copytree(fresh.folder, marked)
    rows = fresh.table.subjects == fresh.folds[0].split.train[0]
    labels = np.where(rows, 1 - fresh.table.labels, fresh.table.labels)
    with (marked / "windows.npz").open("wb") as file:
        save_table(file, replace(fresh.table, labels=labels), fresh.synthetic)
    other = open_run(marked)
    plan = replace(SMALL, stages=("fcn.eda",))
    for run in (fresh, other):
        search(run, plan, nothing)
    assert finished_trials(fresh, "fcn.eda") != finished_trials(other, "fcn.eda")


def test_inner_folds_are_disjoint_and_within_the_training_subjects(fresh: Run) -> None:
    fold = fresh.folds[0]
    judged: list[str] = []
    for split in inner_splits(fold, 3):
        assert not {*split.train, *split.held_out} & set(fold.split.held_out)
        assert {*split.train, *split.held_out} == set(fold.stage_subjects)
        judged += split.held_out
    assert sorted(judged) == sorted(fold.stage_subjects)
    with pytest.raises(ConfigError, match="has 3 subjects to train on, too few for 4 inner folds; set --inner from 2"):
        search(fresh, replace(SMALL, inner=4), nothing)


def test_the_run_is_trained_with_what_was_chosen(
    fresh: Run, finished: Callable[..., Run], log: type[Any], searched: Run
) -> None:
    fold = fresh.folds[0]
    chosen = dict(searched.folds[0].chosen)
    # Settings that the configuration does not have, whatever the search found.
    chosen["crossmod"] = msgspec.structs.replace(chosen["crossmod"], dropout=0.61)
    plain = fold.fingerprint("crossmod")
    write_chosen(fold.folder, chosen)
    assert fold.fingerprint("crossmod") != plain == fold.fingerprint("random-forest")
    finished(fresh)
    assert fold.trained().fusion is not None
    words = "hyper-parameters searched within the training subjects; last epoch, nothing chosen on held-out subjects"
    assert write_results(fresh).protocol.endswith(words)
    assert fold.training_facts().protocol.endswith(words)

    # Neither its checkpoints nor its answers are taken for those of other settings.
    write_chosen(fold.folder, {**chosen, "crossmod": msgspec.structs.replace(chosen["crossmod"], dropout=0.5)})
    with pytest.raises(CheckpointError, match="belongs to another configuration"):
        fresh.answers()
    fold.answers_path("crossmod").unlink()
    with pytest.raises(CheckpointError, match=r"crossmod.* belongs to another configuration"):
        carry_out(fresh, fresh.tasks()[0], log())


def test_a_trained_fold_is_searched_only_by_force(fresh: Run, finished: Callable[..., Run]) -> None:
    finished(fresh)
    fold = fresh.folds[0]
    plan = replace(SMALL, stages=("alstm.bvp",))
    with pytest.raises(CheckpointError, match=r"fold seed0-fold00 is trained, at least in part, .* --force"):
        search(fresh, plan, nothing)
    assert not list(fold.folder.glob("search/*.journal"))
    assert fresh.finished(fresh.tasks()[0])
    search(fresh, replace(plan, force=True), nothing)
    assert not fresh.finished(fresh.tasks()[0])
    kept = {path.name for path in (fold.folder / "stages").iterdir()}
    assert kept == set(STAGES) - {"alstm.bvp", "transformer.bvp", "crossmod"}
    finished(fresh)
    search(fresh, plan, nothing)  # There is nothing left to search.


def test_a_study_of_other_settings_is_refused_and_kept(fresh: Run) -> None:
    plan = replace(SMALL, stages=("fcn.eda",))
    search(fresh, plan, nothing)
    journal = fresh.folds[0].folder / "search" / "fcn.eda.journal"
    before = journal.read_bytes()
    others = {
        r"learning rates 1e-6…1e-3, not 1e-5…5e-4": replace(plan, rates=Range(1e-5, 5e-4)),
        r"dropouts 0.1…0.4, not 0…0.5": replace(plan, dropouts=Range(0.0, 0.5)),
        r"inner folds 2, not 3": replace(plan, inner=3),
        r"epochs 1, not 2": replace(plan, epochs=2),
    }
    for words, other in others.items():
        with pytest.raises(ConfigError, match=rf"fcn.eda.journal was searched with other settings \({words}.*--force"):
            search(fresh, other, nothing)
    assert journal.read_bytes() == before
    search(fresh, replace(plan, dropouts=Range(0.35, 0.4), force=True), nothing)
    assert journal.with_name("fcn.eda.journal.1").read_bytes() == before
    assert finished_trials(fresh, "fcn.eda")[1][0]["dropout"] >= 0.35


def test_a_later_stage_belongs_to_the_choice_before_it(fresh: Run) -> None:
    search(fresh, replace(SMALL, stages=("transformer.eda",)), nothing)
    fold = fresh.folds[0]
    fcn = msgspec.structs.replace(fresh.config.train.fcn, dropout=0.123)
    write_chosen(fold.folder, {**fold.chosen, "fcn.eda": fcn})
    with pytest.raises(ConfigError, match=r"fcn.eda's dropout 0.2, not 0.123"):
        search(fresh, replace(SMALL, stages=("transformer.eda",)), nothing)


def test_half_a_line_is_cut_off_and_a_damaged_one_refused(fresh: Run) -> None:
    plan = replace(SMALL, stages=("fcn.eda",))
    search(fresh, plan, nothing)
    journal = fresh.folds[0].folder / "search" / "fcn.eda.journal"
    whole, before = journal.read_bytes(), finished_trials(fresh, "fcn.eda")
    journal.write_bytes(whole + b'{"op_code":4,"worker_id":"kil')
    search(fresh, replace(plan, trials=3), nothing)
    assert finished_trials(fresh, "fcn.eda")[:2] == before
    lines = whole.splitlines(keepends=True)
    settings = lines[1].replace(b'"inner":2', b'"inner":"x"')
    for damaged in (b"\x00" * 50 + b"\n", b"[]\n", b'{"op_code":77}\n', b'{"op_code":4}\n', b"nonsense\n" * 2):
        for content in (whole + damaged, lines[0] + damaged + b"".join(lines[1:])):
            journal.write_bytes(content)
            with pytest.raises(CheckpointError, match=r"fcn.eda.journal is damaged \(.*move it away"):
                search(fresh, replace(plan, trials=4), nothing)
            assert journal.read_bytes() == content
    journal.write_bytes(lines[0] + settings)
    with pytest.raises(CheckpointError, match="is damaged or of another version"):
        search(fresh, plan, nothing)


def test_chosen_settings_are_checked_when_they_are_read(fresh: Run) -> None:
    path = fresh.folds[0].folder / "chosen.json"
    path.parent.mkdir(parents=True)
    for content in (
        b"",
        b"[]",
        b'{"crossmod": {"epochs": 0, "learning_rate": 1, "dropout": 0}}',
        b"\xff",
        b"[" * 99999,
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"chosen.json is damaged \(.*\); delete it and search again"):
            _ = fresh.folds[0].chosen
    path.write_bytes(b'{"fcn.ecg": {"epochs": 1, "learning_rate": 1, "dropout": 0}}')
    with pytest.raises(ConfigError, match=r"sets a stage 'fcn.ecg'"):
        search(fresh, SMALL, nothing)


def test_a_shorter_stage_keeps_the_shape_of_its_schedule() -> None:
    config = StageConfig(900, 1e-3, 0.2, (500, 800))
    assert shortened(config, None) == config
    assert shortened(config, 90) == StageConfig(90, 1e-3, 0.2, (50, 80))
    assert shortened(config, 1) == StageConfig(1, 1e-3, 0.2, ())
