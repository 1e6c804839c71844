"""What a report says, through the files that it writes."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest

from edgepain.errors import ConfigError, DataError
from edgepain.signal import Modality
from edgepain.train.chosen import write_chosen
from edgepain.train.report import STEPS, write_report

VOID = {"meta", "img", "br", "link"}
HOSTILE = "a&b <i>_%$^~\\{}#\n|`*"


class Page(HTMLParser):
    """Checks that every tag is closed and gathers what a reader sees."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    def all(self, name: str) -> list[str]:
        return [value or "" for key, value in self.attributes if key == name]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def ten_fold(drawn_run: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of BioVid in 10 folds and two seeds, to be read only."""
    out = tmp_path_factory.mktemp("report")
    return write_report([drawn_run(Path("runs/ten"), seeds=(0, 1))], out)


def test_page_stands_alone(ten_fold: Path) -> None:
    page = Page(ten_fold)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.all("src"))
    assert len(page.all("src")) == len(page.all("alt")) == 7
    assert not re.search(r"url\(|@import", ten_fold.read_text())
    ids = page.all("id")
    assert len(set(ids)) == len(ids)
    for link in page.all("href"):
        assert link[1:] in ids if link.startswith("#") else (ten_fold.parent / link).is_file()


def test_tables_and_figures_are_files_too(ten_fold: Path) -> None:
    tables = {path.name for path in (ten_fold.parent / "tables").iterdir()}
    names = ("results", "paper", "pooled", "tests", "conditions", "subjects", "other-works", "stages")
    assert tables == {f"ten-{name}.{ending}" for name in names for ending in ("csv", "md", "tex")}
    figures = {path.stem for path in (ten_fold.parent / "figures").iterdir()}
    pictures = ("accuracy", "violins", "confusion", "roc", "reliability", "people", "learning")
    assert figures == {f"ten-{name}" for name in pictures}
    for path in (ten_fold.parent / "figures").iterdir():
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_every_table_and_picture_names_the_protocol(ten_fold: Path) -> None:
    page = Page(ten_fold)
    protocol = "10-fold by subject, 20 subjects, each held out once; last epoch"
    assert all(protocol in alt for alt in page.all("alt"))
    assert page.text.count(f"ten: biovid, recorded people; {protocol}") == page.tags.count("table") + len(
        page.all("alt")
    )
    for path in (ten_fold.parent / "tables").iterdir():
        assert protocol in path.read_text()


def test_results_stand_beside_the_papers_figures(ten_fold: Path) -> None:
    markdown = (ten_fold.parent / "tables/ten-paper.md").read_text()
    crossmod = next(line for line in markdown.splitlines() if "CrossMod" in line)
    for printed in ("85.92 ± 4", "80.64 ± 8", "91.20 ± 3", "84.93 ± 5", r"\[80.97, 88.91\]"):
        assert printed in crossmod
    assert "20 subjects instead of 87" in markdown
    beside = rows(ten_fold.parent / "tables/ten-paper.csv")
    assert len(beside) == 7 * 4
    results = {row["model"]: row for row in rows(ten_fold.parent / "tables/ten-results.csv")}
    for row in beside:
        assert row["mean"] == results[row["model"]][f"{row['metric']}_mean"]
    tests = (ten_fold.parent / "tables/ten-tests.md").read_text()
    assert "0.1975" in tests
    assert "10 folds cannot give p below 0.002" in tests
    works = rows(ten_fold.parent / "tables/ten-other-works.csv")
    assert sum(row["work"] == "this run" for row in works) == 3
    assert sum("et al." in row["work"] for row in works) == 6


def test_numbers_of_all_files_agree(ten_fold: Path) -> None:
    result = next(r for r in rows(ten_fold.parent / "tables/ten-results.csv") if r["model"] == "crossmod")
    shown = f"{100 * float(result['accuracy_mean']):.2f} ± {100 * float(result['accuracy_sd']):.2f}"
    assert shown in Page(ten_fold).text
    assert shown in (ten_fold.parent / "tables/ten-results.md").read_text()
    assert shown.replace("±", r"$\pm$") in (ten_fold.parent / "tables/ten-results.tex").read_text()
    people = [r for r in rows(ten_fold.parent / "tables/ten-subjects.csv") if r["model"] == "crossmod"]
    assert len(people) == 20
    mean = sum(float(r["accuracy"]) for r in people) / len(people)
    assert mean == pytest.approx(float(result["accuracy_pooled"]))


def test_conditions_have_a_row_each(ten_fold: Path) -> None:
    found = {(r["model"], r["scaling"], r["missing"]) for r in rows(ten_fold.parent / "tables/ten-conditions.csv")}
    assert {("crossmod", s, m) for s in ("subject", "causal") for m in ("", "eda", "ecg")} <= found
    assert {("crossmod+temperature", "subject", ""), ("random-forest", "causal", "")} <= found


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"synthetic": True}, "synthetic data): the paper has no figures"),
        ({"kind": "5-fold"}, "The paper has no figures for BioVid under 5-fold"),
        ({"labels": ("BL1", "PA3")}, "The paper has no figures for biovid, BL1 / PA3"),
        ({"epoch_choice": "test-fold"}, "which the paper does not do"),
        ({"dataset": "e4", "labels": ("relax", "speech")}, "The classes 'relax' and 'speech' do not name pain."),
    ],
)
def test_without_a_match_the_papers_figures_are_left_out(
    changes: dict[str, Any], reason: str, drawn_run: Callable[..., Any], tmp_path: Path
) -> None:
    run = drawn_run(Path("runs/other"), models=("fcn.eda", "crossmod"), scalings=("subject",), **changes)
    page = write_report([run], tmp_path)
    assert reason in Page(page).text
    assert "85.92" not in page.read_text()
    assert not (tmp_path / "tables/other-paper.csv").exists()


def test_ai4pain_stands_beside_table_7(drawn_run: Callable[..., Any], tmp_path: Path) -> None:
    run = drawn_run(
        Path("runs/three"),
        dataset="ai4pain",
        labels=("no pain", "low", "high"),
        modalities=(Modality.EDA, Modality.BVP),
        kind="holdout",
        holdout_rule="validation",
        per_fold=20,
        windows=18,
        models=("transformer.bvp", "transformer.eda", "crossmod"),
    )
    page = Page(write_report([run], tmp_path))
    assert "Beside the paper (Table 7)" in page.text
    assert "77.09" in page.text
    assert "One fold: there is no SD" in page.text
    tests = rows(tmp_path / "tables/three-tests.csv")
    assert {row["unit"] for row in tests} == {"accuracy of subjects"}
    assert {row["pairs"] for row in tests} == {"20"}


def test_epoch_choice_and_synthetic_people_are_named_everywhere(drawn_run: Callable[..., Any], tmp_path: Path) -> None:
    run = drawn_run(
        Path("runs/cheat"),
        epoch_choice="test-fold",
        protocol="EPOCH CHOSEN ON THE TEST FOLD: 10-fold",
        synthetic=True,
        models=("fcn.eda", "crossmod"),
    )
    page = Page(write_report([run, drawn_run(Path("runs/fair"), models=("crossmod",))], tmp_path))
    assert "Report: cheat (synthetic), fair" in page.text
    for path in (tmp_path / "tables").glob("cheat-*.[mt]*"):
        assert "synthetic" in path.read_text()
        assert "EPOCH CHOSEN ON THE TEST FOLD" in path.read_text()
    joint = (tmp_path / "tables/all-runs.md").read_text()
    assert "10-fold, EPOCH CHOSEN ON THE TEST FOLD, synthetic" in joint
    assert {row["data"] for row in rows(tmp_path / "tables/all-runs.csv")} == {"synthetic", "recorded"}


def test_hostile_names_stay_text(drawn_run: Callable[..., Any], tmp_path: Path) -> None:
    people = (
        "<script>alert(1)</script>",
        "a_b",
        "50%",
        "$x$",
        "\\input{x}",
        "日本|x",
        "S\x00\n7",
        "_hidden",
        "x" * 500,
    )
    run = drawn_run(
        Path("runs") / HOSTILE,
        subjects=people,
        per_fold=1,
        kind="loso",
        dataset="e4",
        labels=(HOSTILE, "<img src=x onerror=alert(1)>"),
        models=("crossmod", "fcn.eda", "<b>_peer$&%"),
        not_done=("<u>fold/x",),
        windows=6,
    )
    path = write_report([run], tmp_path / "out")
    page = Page(path)
    assert not {"script", "i", "b", "u"} & set(page.tags)
    assert "onerror" not in {name for name, _ in page.attributes}
    for text in ("<script>alert(1)</script>", "<b>_peer$&%", "S��7", "<u>fold/x"):
        assert text in page.text
    for figure in (tmp_path / "out/figures").iterdir():
        ElementTree.parse(figure)
    latex = (tmp_path / "out/tables").glob("*.tex")
    for table in latex:
        text = re.sub(r"\\[&%$#_{}]", "", table.read_text())
        assert "\\input" not in text
        assert not re.search(r"(?<!\\)\$x", text)
        assert text.count("{") == text.count("}")
    markdown = next((tmp_path / "out/tables").glob("*subjects.md")).read_text()
    assert r"\<script\>" in markdown
    assert r"日本\|x" in markdown
    assert not re.search(r"(?<!\\)<", markdown)


def test_unfinished_runs_and_folds_of_one_class_are_reported_as_such(
    drawn_run: Callable[..., Any], tmp_path: Path
) -> None:
    run = drawn_run(
        Path("runs/half"),
        per_fold=1,
        kind="loso",
        people=7,
        models=("fcn.eda", "crossmod"),
        not_done=("fold06/crossmod", "fold06/fcn.eda"),
        one_class=("S02",),
    )
    page = Page(write_report([run], tmp_path))
    assert "2 parts of this run are not finished: fold06/crossmod, fold06/fcn.eda." in page.text
    assert "Folds without a window of some class: 1 (fold001)." in page.text
    result = rows(tmp_path / "tables/half-results.csv")[0]
    assert (result["folds"], result["folds_without_a_class"], result["subjects"]) == ("6", "1", "7")


def test_settings_that_a_search_chose_are_shown_as_a_range(drawn_run: Callable[..., Any], tmp_path: Path) -> None:
    run = drawn_run(tmp_path / "searched", models=("fcn.eda", "crossmod"))
    for fold, rate in zip(run.config.folds[:2], (2e-5, 7e-4), strict=True):
        folder = run.folder / "folds" / fold.name
        folder.mkdir(parents=True)
        write_chosen(folder, {"fcn.eda": msgspec.structs.replace(run.config.train.fcn, learning_rate=rate)})
    write_report([run], tmp_path / "out")
    markdown = (tmp_path / "out/tables/searched-stages.md").read_text()
    assert "2e-05 to 0.0007" in next(line for line in markdown.splitlines() if "fcn.eda" in line)
    assert "A search on training subjects chose settings" in markdown
    rates = [
        row["learning_rate"] for row in rows(tmp_path / "out/tables/searched-stages.csv") if row["stage"] == "fcn.eda"
    ]
    assert sorted(set(map(float, rates))) == [2e-5, 3e-4, 7e-4]


def test_seeds_with_folds_of_their_own_are_compared_by_subject_only(
    drawn_run: Callable[..., Any], tmp_path: Path
) -> None:
    run = drawn_run(Path("runs/drawn"), seeds=(0, 1), redraw=True, people=8, models=("fcn.eda", "crossmod"))
    page = Page(write_report([run], tmp_path))
    assert "2 seeds, each with folds of its own" in page.text
    assert {row["unit"] for row in rows(tmp_path / "tables/drawn-tests.csv")} == {"accuracy of subjects"}
    assert {row["folds"] for row in rows(tmp_path / "tables/drawn-results.csv")} == {"8"}


@pytest.mark.parametrize("models", [("random-forest",), ("crossmod",)])
def test_a_single_model_makes_a_report(models: tuple[str, ...], drawn_run: Callable[..., Any], tmp_path: Path) -> None:
    run = drawn_run(Path("runs/one"), models=models, network=models == ("crossmod",), scalings=("subject",))
    page = Page(write_report([run], tmp_path))
    assert "Differences between models" not in page.text
    assert ("Learning curves" in page.text) == (models == ("crossmod",))


def test_runs_of_one_name_are_told_apart_and_progress_is_told(drawn_run: Callable[..., Any], tmp_path: Path) -> None:
    steps: list[str] = []
    runs = [drawn_run(Path(f"runs/{i}/same"), models=("fcn.eda", "crossmod")) for i in range(2)]
    write_report(runs, tmp_path, steps.append)
    assert len(steps) == 2 * STEPS
    assert {row["run"] for row in rows(tmp_path / "tables/all-runs.csv")} == {"same", "same (2)"}
    assert (tmp_path / "tables/same-2-results.csv").is_file()


def test_the_same_run_gives_the_same_report(drawn_run: Callable[..., Any], tmp_path: Path) -> None:
    run = drawn_run(Path("runs/one"), models=("fcn.eda", "crossmod"))
    first, second = (write_report([run], tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second


def test_an_old_report_is_replaced_and_nothing_else_is(drawn_run: Callable[..., Any], tmp_path: Path) -> None:
    run = drawn_run(Path("runs/one"), models=("fcn.eda", "crossmod"))
    (tmp_path / "tables").mkdir()
    (tmp_path / "report.html").write_text("old")
    (tmp_path / "tables/old-results.csv").write_text("1")
    (tmp_path / "tables/notes.txt").write_text("mine")
    write_report([run], tmp_path)
    assert not (tmp_path / "tables/old-results.csv").exists()
    assert (tmp_path / "tables/notes.txt").read_text() == "mine"
    (tmp_path / "report.html").unlink()
    with pytest.raises(ConfigError, match="is not empty and holds no report"):
        write_report([run], tmp_path)


def test_no_report_without_answers_or_a_place_to_write(drawn_run: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no answers to held-out windows under subject scaling"):
        write_report([drawn_run(Path("runs/none"), models=())], tmp_path / "none")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_report([drawn_run(Path("runs/one"))], file)
