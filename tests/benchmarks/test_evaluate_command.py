"""`edgepain evaluate`: whose windows count as what, and which live decisions are compared at all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgepain.bundle import MANIFEST, Bundle, write_manifest
from edgepain.cli.main import main
from edgepain.engine import open_engine
from edgepain.runtime import Decider, JsonLines
from edgepain.signal import Samples
from edgepain.train.datasets.base import open_dataset
from edgepain.train.datasets.synth import write_e4

PEOPLE = ("S01", "S02", "S03")
TASK = ("--option", "negative=no pain", "--option", "positive=pain")
SWAPPED = ("--option", "negative=pain", "--option", "positive=no pain")


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three simulated people with their labels."""
    root = tmp_path_factory.mktemp("e4") / "people"
    write_e4(root, len(PEOPLE), seed=1, trials=3)
    return root


@pytest.fixture
def evaluate(
    exported: Bundle, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Answer]:
    """The command on these people, by default with the bundle's task."""

    def run(*arguments: object, bundle: Bundle = exported, task: tuple[str, ...] = TASK) -> Answer:
        command = ["evaluate", bundle.root, "--dataset", "e4", "--root", root, *task, *arguments]
        monkeypatch.setattr(sys, "argv", ["edgepain", *map(str, command)])
        with pytest.raises(SystemExit) as exit_info:
            main()
        assert isinstance(exit_info.value.code, int)
        captured = capsys.readouterr()
        return Answer(exit_info.value.code, captured.out, captured.err)

    return run


def trained_on(bundle: Bundle, **facts: Any) -> Bundle:
    """The bundle with other facts of its training."""
    training = msgspec.structs.replace(bundle.manifest.training, **facts)
    (bundle.root / MANIFEST).unlink()
    return write_manifest(bundle.root, msgspec.structs.replace(bundle.manifest, training=training))


# Classes


def test_the_classes_of_the_bundle_are_judged(evaluate: Callable[..., Answer]) -> None:
    answer = evaluate()
    assert answer.code == 0, answer.err
    first, offline = answer.out.splitlines()
    assert first == "no pain / pain, int8, causal scaling, 3 subjects: S01, S02, S03"
    assert offline.startswith("offline: ")
    assert "--any-labels" not in answer.out


@pytest.mark.parametrize("any_labels", [(), ("--any-labels",)])
def test_swapped_classes_are_refused(evaluate: Callable[..., Answer], any_labels: tuple[str, ...]) -> None:
    answer = evaluate(*any_labels, task=SWAPPED)
    assert (answer.code, answer.out) == (4, "")
    assert "tells no pain / pain apart, the dataset pain / no pain; in another order" in answer.err


def test_classes_of_other_names_count_only_when_told(evaluate: Callable[..., Answer]) -> None:
    # Without positive and negative, the label column names the classes.
    answer = evaluate(task=())
    assert (answer.code, answer.out) == (4, "")
    assert "tells no pain / pain apart, the dataset label 0 / label 1; " in answer.err
    assert "--any-labels" in answer.err
    named, taken = evaluate(), evaluate("--any-labels", task=())
    assert taken.code == 0
    assert "the dataset's label 0 / label 1 were taken for these classes (--any-labels)\n" in taken.out
    assert taken.out.splitlines()[-1] == named.out.splitlines()[-1]
    document = json.loads(evaluate("--any-labels", "--json", task=()).out)["evaluation"]
    assert (document["labels"], document["dataset_labels"]) == (["no pain", "pain"], ["label 0", "label 1"])


def test_another_number_of_classes_is_refused(evaluate: Callable[..., Answer], root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "people"
    copy.mkdir()
    (copy / "raw").symlink_to(root / "raw")
    lines = (root / "labels.csv").read_text().splitlines()
    column = lines[0].split(",").index("label")
    third = [field if i != column else "2" for i, field in enumerate(lines[-1].split(","))]
    (copy / "labels.csv").write_text("\n".join([*lines[:-1], ",".join(third)]) + "\n")
    answer = evaluate("--any-labels", "--root", copy, task=())
    assert answer.code == 4
    assert "choose the reader's options so that the classes agree" in answer.err


def test_one_class_only_has_no_accuracy(evaluate: Callable[..., Answer], root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "people"
    copy.mkdir()
    (copy / "raw").symlink_to(root / "raw")
    header, *rows = (root / "labels.csv").read_text().splitlines()
    kept = [row for row in rows if "no pain" not in row or row.startswith("S03")]
    (copy / "labels.csv").write_text("\n".join([header, *kept]) + "\n")
    answer = evaluate("--root", copy, "--subjects", "S01,S02")
    assert answer.code == 0, answer.err
    assert "windows, accuracy n/a: no usable window of class 'no pain': not comparable; " in answer.out
    scores = json.loads(evaluate("--root", copy, "--subjects", "S01", "--json").out)["evaluation"]["scores"]
    assert (scores["missing_classes"], scores["accuracy"], scores["balanced_accuracy"]) == ([0], None, None)


# People


def test_held_out_people_are_the_default(evaluate: Callable[..., Answer], bundle_copy: Bundle) -> None:
    bundle = trained_on(bundle_copy, dataset="e4", held_out=("S02", "S77"))
    answer = evaluate(bundle=bundle)
    assert answer.code == 0, answer.err
    assert "1 subject: S02\n" in answer.out
    assert "trained on" not in answer.out
    answer = evaluate("--subjects", "S01,S02,S03", bundle=bundle)
    assert "2 of 3 subjects were trained on, or may have been: S01, S03\n" in answer.out
    document = json.loads(evaluate("--subjects", "S03,S02", "--json", bundle=bundle).out)
    assert document["evaluation"]["maybe_trained_on"] == ["S03"]


@pytest.mark.parametrize(
    ("facts", "maybe"),
    [
        ({"dataset": "e4", "held_out": ()}, list(PEOPLE)),
        ({"dataset": "e4", "held_out": ("S77",)}, list(PEOPLE)),
        ({"dataset": "biovid", "held_out": ("S02",)}, []),
    ],
)
def test_where_none_is_known_as_held_out_all_are_judged(
    evaluate: Callable[..., Answer], bundle_copy: Bundle, facts: dict[str, Any], maybe: list[str]
) -> None:
    document = json.loads(evaluate("--json", bundle=trained_on(bundle_copy, **facts)).out)["evaluation"]
    assert document["subjects"] == list(PEOPLE)
    assert document["maybe_trained_on"] == maybe


# Live decisions


def decide(
    bundle: Bundle, root: Path, file: Path, *, precision: str = "int8", calibration_s: float | None = None
) -> Path:
    """What `edgepain run --json` writes on the recording of S02, without a port."""
    engine = open_engine(bundle, precision)  # type: ignore[arg-type]
    decider = Decider(bundle, engine, calibration_s=calibration_s)
    (recording,) = open_dataset("e4", root).recordings("S02")
    with file.open("w") as text:
        lines = JsonLines(text)
        sha256 = bundle.manifest.files[bundle.graph(engine.precision).file].sha256
        lines.header(model_sha256=sha256, hop_s=decider.hop_s, calibration_s=decider.calibration_s)
        for modality in decider.modalities:
            signal = recording.signals[modality]
            decider.push(Samples(modality, signal.times_s, signal.values, signal.rate_hz, 0.0))
        for decision in decider.decisions():
            lines.decision(decision)
    return file


def test_decisions_of_the_same_graph_are_compared(
    evaluate: Callable[..., Answer], exported: Bundle, root: Path, tmp_path: Path
) -> None:
    for precision in ("int8", "fp32"):
        file = decide(exported, root, tmp_path / f"{precision}.jsonl", precision=precision)
        answer = evaluate("--live", f"S02={file}", "--precision", precision)
        assert answer.code == 0, answer.err
        assert "0 judged live only, 0 offline only: equal\n" in answer.out


def test_decisions_on_another_recording_differ(
    evaluate: Callable[..., Answer], exported: Bundle, root: Path, tmp_path: Path
) -> None:
    answer = evaluate("--live", f"S01={decide(exported, root, tmp_path / 'live.jsonl')}")
    assert answer.code == 5
    assert "NOT EQUAL" in answer.out
    assert "whether it was this subject's recording" in answer.err


def test_decisions_of_something_else_are_not_compared(
    evaluate: Callable[..., Answer], exported: Bundle, root: Path, tmp_path: Path
) -> None:
    file = tmp_path / "live.jsonl"

    def refusal(*arguments: object) -> str:
        answer = evaluate("--live", f"S02={file}", *arguments)
        assert (answer.code, answer.out) == (3, "")
        assert answer.err.count("\n") == 1
        return answer.err

    decide(exported, root, file)
    assert "was made by the int8 graph of this bundle; use --precision int8" in refusal("--precision", "fp32")
    decide(exported, root, file, precision="fp32")
    assert "was made by the fp32 graph of this bundle; use --precision fp32" in refusal()
    decide(exported, root, file, calibration_s=20.0)
    assert "was calibrated for 20 s, the bundle says 10 s; run again without --calibration" in refusal()
    decide(exported, root, file)
    header, *decisions = file.read_text().splitlines(keepends=True)
    file.write_text(json.dumps({**json.loads(header), "model_sha256": "0" * 64}) + "\n" + "".join(decisions))
    assert f"was made with another model than bundle {exported.root}" in refusal()
    file.write_text("".join([header, *decisions, header, *decisions]))
    assert f"line {len(decisions) + 2}: a second session begins; write one session to a file" in refusal()
    for damaged in ("", "\n", "".join(decisions), "[" * 100_000, '{"type": "session"}\n', "\0"):
        file.write_text(damaged)
        assert "does not begin with the line of type session" in refusal()


def test_a_live_file_needs_its_subject(evaluate: Callable[..., Answer]) -> None:
    answer = evaluate("--live", "live.jsonl")
    assert answer.code == 2
    assert "--live 'live.jsonl' is not SUBJECT=FILE" in answer.err


def test_help_shows_how() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgepain", "evaluate", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "edgepain evaluate bundles/stress --dataset e4" in done.stdout
