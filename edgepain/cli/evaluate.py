"""`edgepain evaluate`: judge a bundle on recordings, and compare with live decisions."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepain.cli.extras import require
from edgepain.cli.scores import describe_missing, percent
from edgepain.cli.trust import trusted_key_option

if TYPE_CHECKING:
    from edgepain.benchmarks.evaluate import Comparison, Evaluation
    from edgepain.train.metrics import Scores


@click.command(name="evaluate")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--dataset", required=True, type=click.Choice(["biovid", "ai4pain", "e4", "sessions"]), help="Layout under --root."
)
@click.option("--root", required=True, type=click.Path(path_type=Path), help="Folder that holds the dataset.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Of the dataset reader; repeatable.")
@click.option(
    "--subjects",
    default="",
    help="Ids, separated by commas. Default: those that the training held out; all where it names none of them.",
)
@click.option("--live", multiple=True, metavar="SUBJECT=FILE", help="Decisions of `edgepain run --json`; repeatable.")
@click.option("--precision", type=click.Choice(["fp32", "int8"]), help="Default: int8 where the bundle has it.")
@trusted_key_option
@click.option("--any-labels", is_flag=True, help="Take classes of other names for the bundle's, in the same order.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def command(
    bundle: Path,
    dataset: str,
    root: Path,
    options: tuple[str, ...],
    subjects: str,
    live: tuple[str, ...],
    precision: str | None,
    trusted_key: Path | None,
    any_labels: bool,
    as_json: bool,
) -> None:
    """Accuracy of BUNDLE on labelled windows, scaled causally as in live use.

    The dataset's classes must have the bundle's names, in the same order.

    With --live, also hold live decisions on a recording that was played from its beginning against the offline
    answers to the same windows. They must agree within 1e-4 in every probability, else the exit code is 5. Decisions
    of another model, precision or calibration are refused.

    \b
    Example:
      edgepain evaluate bundles/stress --dataset e4 --root sessions --option positive=interview \\
          --option negative=relax1,relax2 --subjects S11,S16 --live S11=s11.jsonl --live S16=s16.jsonl
    """
    require("train", "sklearn", "pandas", "scipy")
    files = [_subject_file(text) for text in live]

    import msgspec

    from edgepain.benchmarks.evaluate import compare_live, default_subjects, evaluate
    from edgepain.bundle import open_bundle
    from edgepain.engine import open_engine
    from edgepain.train.datasets.base import open_dataset, parse_options

    opened = open_bundle(bundle, trusted_key=trusted_key)
    engine = open_engine(opened, precision)  # type: ignore[arg-type]
    data = open_dataset(dataset, root, **parse_options(dataset, options))
    chosen = [name.strip() for name in subjects.split(",") if name.strip()] or default_subjects(opened, data)
    result = evaluate(opened, engine, data, chosen, any_labels=any_labels)
    comparisons = [compare_live(opened, engine, data, *pair, any_labels=any_labels) for pair in files]
    if as_json:
        document: dict[str, Any] = {"evaluation": result, "live": comparisons}
        click.echo(msgspec.json.encode(document))
    else:
        _show(result, comparisons)
    if not all(comparison.equal for comparison in comparisons):
        click.echo(
            "error: live decisions differ from the offline answers to the same windows; look for lost frames in the "
            "summary, and whether it was this subject's recording, played from its beginning",
            err=True,
        )
        sys.exit(5)


def _subject_file(text: str) -> tuple[str, Path]:
    subject, equals, file = text.partition("=")
    if not equals:
        raise click.UsageError(f"--live {text!r} is not SUBJECT=FILE")
    return subject, Path(file)


def _show(result: Evaluation, comparisons: list[Comparison]) -> None:
    count = len(result.subjects)
    click.echo(
        f"{' / '.join(result.labels)}, {result.precision}, causal scaling, {count} subject{'s' if count != 1 else ''}: "
        f"{', '.join(result.subjects)}"
    )
    if result.dataset_labels != result.labels:
        click.echo(f"the dataset's {' / '.join(result.dataset_labels)} were taken for these classes (--any-labels)")
    if result.maybe_trained_on:
        click.echo(
            f"{len(result.maybe_trained_on)} of {count} subjects were trained on, or may have been: "
            f"{', '.join(result.maybe_trained_on)}"
        )
    click.echo(f"offline: {_scores(result.scores, result.labels)}; {result.abstained} abstained")
    for comparison in comparisons:
        _show_comparison(comparison, result.labels)


def _show_comparison(comparison: Comparison, labels: Sequence[str]) -> None:
    click.echo(
        f"live {comparison.subject}: {comparison.windows} windows, {comparison.compared} judged by both; largest "
        f"difference of a probability {comparison.max_probability_difference:.2g}, {comparison.changed_labels} "
        f"labels differ, {comparison.only_live} judged live only, {comparison.only_offline} offline only: "
        f"{'equal' if comparison.equal else 'NOT EQUAL'}"
    )
    if comparison.live is not None:
        trained_on = "; was trained on, or may have been" if comparison.maybe_trained_on else ""
        click.echo(
            f"live {comparison.subject}: {_scores(comparison.live, labels)}; labelled windows, one a hop "
            f"(overlapping){trained_on}"
        )


def _scores(scores: Scores, labels: Sequence[str]) -> str:
    if scores.missing_classes:
        return f"{scores.windows} windows, accuracy n/a: {describe_missing(scores.missing_classes, labels)}"
    return (
        f"{scores.windows} windows, accuracy {percent(scores.accuracy, ' %')}, balanced "
        f"{percent(scores.balanced_accuracy, ' %')}, F1 {percent(scores.f1, ' %')}, AUC {percent(scores.auc, ' %')}"
    )
