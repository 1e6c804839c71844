"""`edgepain export`: a training run becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepain.cli.extras import require
from edgepain.cli.scores import describe_missing, percent

if TYPE_CHECKING:
    from rich.table import Table

    from edgepain.bundle import Bundle, Precision


@click.command("export")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Directory of the new bundle.")
@click.option("--target", type=click.Choice(["cpu"]), default="cpu", show_default=True, help="What the bundle is for.")
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(["fp32", "int8"]),
    multiple=True,
    default=("fp32", "int8"),
    help="Graph to make; may be given twice. Default: both.",
)
@click.option("--fold", default="", help="Of a run with several; see the folder RUN/folds.")
@click.option("--name", default="", help="Name of the bundle. Default: that of the directory.")
@click.option("--compact", is_flag=True, help="Store the weights once, as INT8, for both precisions.")
@click.option("--demonstration", is_flag=True, help="Mark the bundle as one that is only for show.")
@click.option("--force", is_flag=True, help="Replace a bundle that is there.")
@click.option(
    "--max-probability-difference",
    type=click.FloatRange(0, 1),
    default=1e-4,
    show_default=True,
    help="How far a probability of the fp32 graph may be from torch.",
)
@click.option(
    "--max-changed-labels",
    type=click.FloatRange(0, 1),
    default=0.02,
    show_default=True,
    help="Share of labels in which a graph on INT8 weights may differ from torch; above 0, at least one window.",
)
@click.option(
    "--max-accuracy-drop",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Accuracy that a graph on INT8 weights may lose; above 0, at least one window.",
)
@click.option(
    "--max-mean-probability-difference",
    type=click.FloatRange(0, 1),
    default=0.02,
    show_default=True,
    help="How far the probabilities of a graph on INT8 weights may be from torch on average.",
)
def command(
    run: Path,
    out: Path,
    target: str,
    precisions: tuple[Precision, ...],
    fold: str,
    name: str,
    compact: bool,
    demonstration: bool,
    force: bool,
    max_probability_difference: float,
    max_changed_labels: float,
    max_accuracy_drop: float,
    max_mean_probability_difference: float,
) -> None:
    """Turn the training run in the folder RUN into a bundle: ONNX graphs, golden windows, manifest.

    Every graph is judged against torch on the windows of the run's held-out subjects. Past a limit the command
    fails and leaves no bundle.

    \b
    Example:
      edgepain export runs/first --target cpu --precision int8 --out bundles/first
    """
    require("export", "torch", "sklearn", "safetensors", "onnx", "onnx_ir", "onnxscript")

    from rich.console import Console

    from edgepain.export import Limits, export_run
    from edgepain.train.run import open_run

    console = Console()
    with console.status("opening the run") as status:
        bundle = export_run(
            open_run(run).fold(fold),
            out,
            precisions=tuple(dict.fromkeys(precisions)),
            limits=Limits(
                max_probability_difference, max_changed_labels, max_accuracy_drop, max_mean_probability_difference
            ),
            compact=compact,
            name=name,
            demonstration=demonstration,
            force=force,
            progress=status.update,
        )
    console.print(_accuracy_table(bundle), _graph_table(bundle), sep="\n")
    for row in bundle.manifest.accuracy:
        if row.precision == "torch" and row.missing_classes and not row.without:
            click.echo(f"{row.scaling} scaling: {describe_missing(row.missing_classes, bundle.manifest.labels)}")
    for graph in bundle.manifest.graphs:
        if graph.activation_percentile is not None:
            click.echo(
                f"{graph.precision}: activations of convolutions saturate beyond percentile "
                f"{graph.activation_percentile:g}, which answered best on training windows"
            )
        if graph.sensitive_operators:
            click.echo(
                f"{graph.precision}: {len(graph.sensitive_operators)} of the convolutions in float, because INT8 moved "
                f"the answers to training windows too far: {', '.join(graph.sensitive_operators)}"
            )
    for note in bundle.manifest.notes:
        click.echo(f"Note: {note}")
    total_mb = (bundle.root / "manifest.json").stat().st_size / 1e6
    total_mb += sum(f.bytes for f in bundle.manifest.files.values()) / 1e6
    click.echo(f"{out}: {total_mb:.2f} MB")
    click.echo(f"next: edgepain bench {out}")


def _accuracy_table(bundle: Bundle) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        title="On windows of held-out subjects, labels and probabilities beside torch's",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    headings = ("graph", "scaling", "windows", "accuracy", "balanced", "changed", "mean Δ prob.", "max Δ prob.")
    for heading in headings:
        table.add_column(
            heading, justify="left" if heading in ("graph", "scaling") else "right", no_wrap=heading == "scaling"
        )
    for row in bundle.manifest.accuracy:
        differences = (row.mean_probability_difference, row.max_probability_difference)
        judged = (str(row.changed_labels), *(f"{difference:.1e}" for difference in differences))
        table.add_row(
            row.precision,
            row.scaling + (f", no {row.without}" if row.without else ""),
            str(row.windows),
            percent(row.accuracy, "%"),
            percent(row.balanced_accuracy, "%"),
            *(("", "", "") if row.precision == "torch" else judged),
        )
    return table


def _graph_table(bundle: Bundle) -> Table:
    from rich.table import Table

    table = Table(title="Graphs")
    for heading in ("graph", "file", "INT8 operators", "float operators", "INT8 weights"):
        table.add_column(heading)
    for graph in bundle.manifest.graphs:
        table.add_row(
            graph.precision,
            graph.file,
            _counts(graph.quantized_operators),
            _counts(graph.float_operators),
            f"{graph.int8_weight_share:.1%}",
        )
    return table


def _counts(operators: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in operators.items()) or "none"
