"""`edgepain export`: a training run becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepain.cli.extras import require
from edgepain.cli.scores import describe_missing

if TYPE_CHECKING:
    from rich.console import Console

    from edgepain.bundle import Bundle, Precision
    from edgepain.export import Target


@click.command("export")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New bundle: a directory, or FILE.zip.")
@click.option(
    "--target",
    type=click.Choice(["cpu", "jetson", "rpi"]),
    default="cpu",
    show_default=True,
    help="What the bundle is for; jetson adds graphs for TensorRT to those for the CPU, rpi is for any ARM board.",
)
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
@click.option("--sign", "key", type=click.Path(path_type=Path), metavar="KEY", help="Sign with this private key.")
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
    target: Target,
    precisions: tuple[Precision, ...],
    fold: str,
    name: str,
    compact: bool,
    demonstration: bool,
    force: bool,
    key: Path | None,
    max_probability_difference: float,
    max_changed_labels: float,
    max_accuracy_drop: float,
    max_mean_probability_difference: float,
) -> None:
    """Turn the training run in the folder RUN into a bundle: ONNX graphs, golden windows, manifest.

    Every graph is judged against torch on the windows of the run's held-out subjects. Past a limit the command
    fails and leaves no bundle.

    \b
    Examples:
      edgepain export runs/first --target cpu --precision int8 --out bundles/first
      edgepain export runs/first --target jetson --out bundles/orin
      edgepain export runs/first --target rpi --out ward.zip
      edgepain export runs/first --out first.zip --sign ward7.key
    """
    require("export", "torch", "sklearn", "safetensors", "onnx", "onnx_ir", "onnxscript")

    from rich.console import Console

    from edgepain.bundle import read_private_key
    from edgepain.export import Limits, export_run
    from edgepain.train.run import open_run

    signing_key = None if key is None else read_private_key(key)
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
            target=target,
            name=name,
            demonstration=demonstration,
            force=force,
            signing_key=signing_key,
            progress=status.update,
        )
    _tell(bundle, console)
    signed = "" if bundle.signature is None else f", signed with {bundle.signature.fingerprint}"
    click.echo(f"{out}: {_megabytes(bundle):.2f} MB{signed}")
    following = {"cpu": "edgepain bench", "jetson": "on the Jetson, edgepain build", "rpi": "on the Pi, edgepain build"}
    click.echo(f"next: {following[target]} {out}")


def _tell(bundle: Bundle, console: Console) -> None:
    """How the graphs answer, and what became INT8."""
    from edgepain.cli.bundle_tables import accuracy_table, graph_table
    from edgepain.cli.tensorrt_table import tensorrt_note, tensorrt_table
    from edgepain.engine.tensorrt.recipe import read_recipe

    console.print(accuracy_table(bundle.manifest), graph_table(bundle.manifest), sep="\n")
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
                f"{graph.precision}: convolutions and LSTM kept in float, because INT8 moved the answers to training "
                f"windows too far: {', '.join(graph.sensitive_operators)}"
            )
    if bundle.manifest.targets:
        recipe = read_recipe(bundle)
        console.print(tensorrt_table(recipe))
        click.echo(tensorrt_note(recipe))
    for note in bundle.manifest.notes:
        click.echo(f"Note: {note}")


def _megabytes(bundle: Bundle) -> float:
    manifest_bytes = (bundle.root / "manifest.json").stat().st_size
    return (manifest_bytes + sum(file.bytes for file in bundle.manifest.files.values())) / 1e6
