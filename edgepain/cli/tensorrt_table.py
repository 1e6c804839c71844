"""The graphs for TensorRT of a bundle, and its engines, as a person reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from edgepain.engine.tensorrt.recipe import Recipe


def tensorrt_table(recipe: Recipe) -> Table:
    """One row a graph: for which TensorRT, how much INT8, how far from torch."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title="Graphs for TensorRT, judged in ONNX Runtime on the CPU; no engine was built",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for heading in ("TensorRT", "file", "INT8 operators", "INT8 weights", "changed", "mean Δ prob.", "max Δ prob."):
        table.add_column(heading)
    for variant in recipe.variants:
        for graph in variant.graphs:
            table.add_row(
                f"{variant.since[0]}.{variant.since[1]} to below {variant.below[0]}.{variant.below[1]}",
                # A stranger's names are no markup.
                Text(graph.file),
                Text(", ".join(f"{count} {name}" for name, count in graph.quantized_operators.items()) or "none"),
                f"{graph.int8_weight_share:.1%}",
                f"{sum(a.changed_labels for a in graph.answers)}/{sum(a.windows for a in graph.answers)}",
                f"{max(a.mean_probability_difference for a in graph.answers):.1e}",
                f"{max(a.max_probability_difference for a in graph.answers):.1e}",
            )
    return table


def tensorrt_note(recipe: Recipe) -> str:
    """How INT8 was chosen, and what went back to float for it."""
    kept = recipe.calibration.sensitive_layers
    back = f"{len(kept)} layers went back to float: {', '.join(kept)}" if kept else "no layer had to go back to float"
    return (
        f"TensorRT: activations saturate beyond percentile {recipe.calibration.percentile:g}, which answered best on "
        f"training windows; {back}"
    )
