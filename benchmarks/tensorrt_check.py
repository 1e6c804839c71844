"""Every engine of some bundles on this NVIDIA GPU: `python -m edgepain.benchmarks.tensorrt_check BUNDLE...`.

Parses, builds, checks and times the fp16 and the INT8 graph of each bundle (one of each fusion mode, say) and prints
the table of docs/results.md. Needs the base install, TensorRT and a GPU; no torch, no onnx.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import click
from rich import box
from rich.console import Console
from rich.table import Table

from edgepain.bundle import open_bundle
from edgepain.engine.tensorrt.build import build
from edgepain.engine.tensorrt.driver import NoDriverError
from edgepain.engine.tensorrt.plan import Measured, Plan
from edgepain.errors import EdgepainError

PRECISIONS: tuple[Literal["fp16", "int8"], ...] = ("fp16", "int8")
HEADINGS = (
    *("fusion", "engine", "graph", "p50 ms", "p99 ms", "CUDA graph", "max Δ probability", "changed labels"),
    *("INT8 layers", "MB", "built in s"),
)


@click.command()
@click.argument("bundles", type=click.Path(path_type=Path), nargs=-1, required=True)
def main(bundles: tuple[Path, ...]) -> None:
    """Build and time every engine of BUNDLES, exported with --target jetson; exit code 1 where one was refused."""
    table = Table(box=box.MARKDOWN)
    for heading in HEADINGS:
        table.add_column(heading)
    refused = []
    where = ""
    for path in bundles:
        bundle = open_bundle(path)
        fusion = bundle.manifest.network.fusion
        for precision in PRECISIONS:
            with TemporaryDirectory(prefix="edgepain-") as folder:
                try:
                    plan = build(bundle, precision=precision, out=Path(folder)).plan
                except NoDriverError:
                    raise
                except EdgepainError as error:
                    refused.append(f"{path}, {precision}: {error}")
                    table.add_row(fusion, precision, "n/a (refused, see below)", *[""] * (len(HEADINGS) - 3))
                    continue
            facts = plan.facts
            where = f"{facts.gpu}, sm_{facts.sm}, TensorRT {facts.tensorrt}, driver for CUDA {facts.driver}, batch 1"
            table.add_row(fusion, precision, *_cells(plan, plan.measured))
    console = Console(width=200)
    console.print(where, highlight=False, markup=False)
    console.print(table)
    for line in refused:
        console.print(line, highlight=False, markup=False)
    sys.exit(1 if refused else 0)


def _cells(plan: Plan, m: Measured) -> tuple[str, ...]:
    return (
        Path(plan.facts.onnx).name,
        f"{m.p50_ms:.3f}",
        f"{m.p99_ms:.3f}",
        "yes" if m.cuda_graph else f"no ({m.graph_reason})",
        f"{m.golden_difference:.1e}",
        f"{m.changed_labels}/{m.golden_windows}",
        "n/a (not listed)" if m.layers is None else f"{m.int8_layers} of {m.layers}",
        f"{m.plan_bytes / 1e6:.2f}",
        f"{m.build_s:.0f}",
    )


if __name__ == "__main__":
    try:
        main()
    except EdgepainError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
