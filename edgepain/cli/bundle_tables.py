"""Tables of a manifest that `export` and `inspect` show."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from edgepain.bundle import Manifest
from edgepain.cli.scores import percent


def accuracy_table(manifest: Manifest) -> Table:
    """Accuracy of every graph on held-out people, and how far its answers are from torch's."""
    table = Table(
        title_justify="left",
        title="On windows of held-out subjects, labels and probabilities beside torch's",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    headings = ("graph", "scaling", "windows", "accuracy", "balanced", "changed", "mean Δ prob.", "max Δ prob.")
    for heading in headings:
        table.add_column(
            heading, justify="left" if heading in ("graph", "scaling") else "right", no_wrap=heading == "scaling"
        )
    for row in manifest.accuracy:
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


def graph_table(manifest: Manifest) -> Table:
    """What of every graph is INT8 and what is float."""
    table = Table(title="Graphs", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("graph", "file", "INT8 operators", "float operators", "INT8 weights"):
        table.add_column(heading, no_wrap=heading in ("graph", "file"), overflow="fold")
    for graph in manifest.graphs:
        table.add_row(
            graph.precision,
            graph.file,
            _counts(graph.quantized_operators),
            _counts(graph.float_operators),
            f"{graph.int8_weight_share:.1%}",
        )
    return table


def _counts(operators: dict[str, int]) -> Text:
    # Text, because names of a stranger's bundle are no markup.
    return Text(", ".join(f"{count} {name}" for name, count in operators.items()) or "none")
