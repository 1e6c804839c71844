"""`edgepain evaluate`: judge a bundle on recordings, and compare with live decisions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edgepain.benchmarks.evaluate import Comparison, Evaluation


@click.command(name="evaluate")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--dataset", required=True, type=click.Choice(["biovid", "ai4pain", "e4"]), help="Layout under --root.")
@click.option("--root", required=True, type=click.Path(path_type=Path), help="Folder that holds the dataset.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Of the dataset reader; repeatable.")
@click.option("--subjects", default="", help="Ids, separated by commas. Default: all, training subjects among them.")
@click.option("--live", multiple=True, metavar="SUBJECT=FILE", help="Decisions of `edgepain run --json`; repeatable.")
@click.option("--precision", type=click.Choice(["fp32", "int8"]), help="Default: int8 where the bundle has it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def command(
    bundle: Path,
    dataset: str,
    root: Path,
    options: tuple[str, ...],
    subjects: str,
    live: tuple[str, ...],
    precision: str | None,
    as_json: bool,
) -> None:
    """Accuracy of BUNDLE on labelled windows, scaled causally as in live use.

    With --live, also hold live decisions on a recording that was played from its beginning against the offline
    answers to the same windows. They must agree within 1e-4 in every probability, else the exit code is 5.

    \b
    Example:
      edgepain evaluate bundles/stress --dataset e4 --root sessions --option positive=interview \\
          --option negative=relax1,relax2 --subjects S11,S16 --live S11=s11.jsonl --live S16=s16.jsonl
    """
    import msgspec

    from edgepain.benchmarks.evaluate import compare_live, evaluate
    from edgepain.bundle import open_bundle
    from edgepain.engine import open_engine
    from edgepain.train.datasets.base import open_dataset, parse_options

    opened = open_bundle(bundle)
    engine = open_engine(opened, precision)  # type: ignore[arg-type]
    data = open_dataset(dataset, root, **parse_options(dataset, options))
    chosen = [name.strip() for name in subjects.split(",") if name.strip()] or list(data.subjects())
    result = evaluate(opened, engine, data, chosen)
    comparisons = [compare_live(opened, engine, data, *_subject_file(text)) for text in live]
    if as_json:
        document: dict[str, Any] = {"evaluation": result, "live": comparisons}
        click.echo(msgspec.json.encode(document))
    else:
        _show(result, comparisons, " / ".join(data.labels))
    if not all(comparison.equal for comparison in comparisons):
        click.echo("error: live decisions differ from the offline answers to the same windows", err=True)
        sys.exit(5)


def _subject_file(text: str) -> tuple[str, Path]:
    subject, equals, file = text.partition("=")
    if not equals:
        raise click.UsageError(f"--live {text!r} is not SUBJECT=FILE")
    return subject, Path(file)


def _show(result: Evaluation, comparisons: list[Comparison], task: str) -> None:
    scores = result.scores
    click.echo(
        f"{task}, {result.precision}, causal scaling, {len(result.subjects)} subjects: {', '.join(result.subjects)}"
    )
    click.echo(
        f"offline: {scores.windows} windows, accuracy {100 * scores.accuracy:.2f} %, balanced "
        f"{100 * scores.balanced_accuracy:.2f} %, F1 {100 * scores.f1:.2f} %, "
        f"AUC {'n/a (a class is missing)' if scores.auc is None else f'{scores.auc:.3f}'}; {result.abstained} abstained"
    )
    for comparison in comparisons:
        click.echo(
            f"live {comparison.subject}: {comparison.windows} windows, {comparison.compared} judged by both; largest "
            f"difference of a probability {comparison.max_probability_difference:.2g}, {comparison.changed_labels} "
            f"labels differ, {comparison.only_live} judged live only, {comparison.only_offline} offline only: "
            f"{'equal' if comparison.equal else 'NOT EQUAL'}"
        )
        if comparison.live is not None:
            live = comparison.live
            click.echo(
                f"live {comparison.subject}: accuracy {100 * live.accuracy:.2f} %, balanced "
                f"{100 * live.balanced_accuracy:.2f} % over {live.windows} labelled windows, one a hop (overlapping)"
            )
