"""The table that `edgepain train` ends with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from edgepain.cli.scores import describe_missing, percent

if TYPE_CHECKING:
    from edgepain.train.results import Result, Results
    from edgepain.train.run import Run

COLUMNS = {
    "acc.": "accuracy",
    "bal.": "balanced_accuracy",
    "sens.": "sensitivity",
    "spec.": "specificity",
    "F1": "f1",
    "AUC": "auc",
}


def show(run: Run, results: Results) -> None:
    """Print scores of every model: of the only fold, else mean ± SD over folds."""
    from rich import box
    from rich.table import Table

    from edgepain.cli.progress import console

    several = len(run.folds) > 1
    title = "held-out subjects, %" + (", mean ± SD over folds" if several else "")
    table = Table(
        title=title + (" (simulated people: synthetic data)" if run.synthetic else ""),
        caption=results.protocol,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
        collapse_padding=True,
    )
    for name in ("model", "scaling"):
        table.add_column(name, no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for row in results.rows:
        name = f"{row.model} without {row.missing}" if row.missing else row.model
        cells = (
            _over_folds(row, field) if several else percent(getattr(row.pooled, field)) for field in COLUMNS.values()
        )
        table.add_row(name, row.scaling, *cells)
    console.print(table)
    _counts(results)


def _over_folds(row: Result, field: str) -> str:
    mean, sd = row.mean[field], row.sd[field]
    if mean is None:
        return "n/a"
    return f"{100 * mean:.1f}" + ("" if sd is None else f"±{100 * sd:.0f}")


def _counts(results: Results) -> None:
    from edgepain.bundle import SCALINGS

    first = {row.scaling: row for row in reversed(results.rows)}
    for scaling in SCALINGS:
        if scaling not in first:
            click.echo(f"{scaling} scaling: no window of the held-out subjects can be used (quality or history)")
            continue
        row = first[scaling]
        missing = row.pooled.missing_classes
        text = f"; {describe_missing(missing, results.labels)}" if missing else ""
        lone = sum(bool(scores.missing_classes) for scores in row.folds.values())
        if lone and not missing:
            text = f"; {lone} of {len(row.folds)} folds lack a class and count only in pooled scores"
        click.echo(
            f"{scaling} scaling: {row.pooled.windows} windows, {row.left_out} left out (quality or history){text}"
        )
    if results.unfinished:
        click.echo(f"not finished, and not in the table: {_some(results.unfinished)}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
