"""A class that has no held-out window under a scaling: AI4PAIN's baseline lies in the first minute of a recording."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgepain.bundle import open_bundle
from edgepain.errors import DataError
from edgepain.train.config import TrainConfig
from edgepain.train.create import Plan, create_run
from edgepain.train.datasets.synth import write_ai4pain
from edgepain.train.results import Results
from edgepain.train.run import Run

STAGES = ("fcn", "alstm", "transformer", "crossmod")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory, tiny: TrainConfig) -> Plan:
    root = tmp_path_factory.mktemp("ai4pain") / "tree"
    write_ai4pain(root, 4, seed=5, trials=2)
    one_epoch = {name: msgspec.structs.replace(getattr(tiny, name), epochs=1, milestones=()) for name in STAGES}
    config = msgspec.structs.replace(tiny, scaling="subject", min_history_s=60.0, **one_epoch)
    return Plan("ai4pain", root, {}, (), "1", (0,), config)


@pytest.fixture(scope="module")
def run(plan: Plan, tmp_path_factory: pytest.TempPathFactory, finished: Callable[..., Run]) -> Run:
    run, _ = create_run(tmp_path_factory.mktemp("runs") / "three", plan)
    return finished(run)


def test_results_state_no_accuracy_over_two_of_three_classes(run: Run) -> None:
    results = msgspec.json.decode((run.folder / "results.json").read_bytes(), type=Results)
    assert results.labels == ("no pain", "low", "high")
    assert {row.scaling for row in results.rows} == {"subject", "causal"}
    for row in results.rows:
        assert row.pooled.windows > 0
        if row.scaling == "causal":
            assert (row.pooled.missing_classes, row.pooled.accuracy, row.pooled.f1) == ((0,), None, None)
        else:
            assert row.pooled.missing_classes == ()
            assert row.pooled.accuracy is not None


def test_the_table_says_why(run: Run, edgepain: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    answer = edgepain("train", "--resume", run.folder)
    assert answer.code == 0
    assert re.search(r"^ *crossmod +subject( +\d+\.\d\d){6} *$", answer.out, re.MULTILINE)
    assert re.search(r"^ *crossmod +causal( +n/a){6} *$", answer.out, re.MULTILINE)
    why = r"no usable window of class 'no pain': not comparable"
    assert re.search(rf"^causal scaling: \d+ windows, \d+ left out \(quality or history\); {why}$", answer.out, re.M)
    assert re.search(r"^subject scaling: \d+ windows, 0 left out \(quality or history\)$", answer.out, re.M)


def test_the_export_says_so_too(
    run: Run, edgepain: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    answer = edgepain("export", run.folder, "--out", tmp_path / "bundle", "--precision", "fp32")
    assert answer.code == 0, answer.err
    assert re.search(r"fp32[ │]+causal[ │]+\d+[ │]+n/a[ │]+n/a[ │]+0 ", answer.out, re.MULTILINE)
    assert "causal scaling: no usable window of class 'no pain': not comparable\n" in answer.out
    assert "subject scaling: no usable" not in answer.out
    rows = {(row.precision, row.scaling): row for row in open_bundle(tmp_path / "bundle").manifest.accuracy}
    assert (rows["fp32", "causal"].missing_classes, rows["fp32", "causal"].accuracy) == ((0,), None)
    assert rows["fp32", "subject"].accuracy is not None


def test_training_with_too_little_history_names_the_remedies(plan: Plan, tmp_path: Path) -> None:
    causal = replace(plan, train=msgspec.structs.replace(plan.train, scaling="causal"))
    message = r"class 'no pain'; causal scaling needs 60 s of signal before a window: use --scaling subject"
    with pytest.raises(DataError, match=message + r", or --option 'rest=no pain'$"):
        create_run(tmp_path / "run", causal)
    run, _ = create_run(tmp_path / "run", replace(causal, options={"rest": "no pain"}))
    assert run.labels == ("no pain", "low", "high")
