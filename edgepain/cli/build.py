"""`edgepain build`: TensorRT engines of a bundle, on the GPU that will run them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepain.cli.trust import trusted_key_option

if TYPE_CHECKING:
    from rich.table import Table

    from edgepain.engine.tensorrt.plan import Plan


@click.command("build")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--precision",
    type=click.Choice(["int8", "fp16", "both"]),
    default="both",
    show_default=True,
    help="Of both, the better is kept.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the engines, for `run --engines`. Default: edgepain/engines in $XDG_DATA_HOME (~/.local/share).",
)
@click.option("--rebuild", is_flag=True, help="Build even where an engine fits this device already.")
@trusted_key_option
def command(bundle: Path, precision: str, out: Path | None, rebuild: bool, trusted_key: Path | None) -> None:
    """Build TensorRT engines of BUNDLE for this NVIDIA GPU; `edgepain run` then uses them.

    BUNDLE was exported with --target jetson. The INT8 and the FP16 engine are each checked against the golden windows
    and timed; the faster is kept, INT8 only where it is faster by 5 %. An engine belongs to one GPU, one TensorRT and
    one bundle: build again after any of these changed. See docs/deploy/jetson.md.

    \b
    Examples:
      edgepain build bundles/orin
      edgepain build bundles/orin --precision fp16 --rebuild
    """
    from rich.console import Console

    from edgepain.bundle import open_bundle
    from edgepain.engine.tensorrt.build import build

    opened = open_bundle(bundle, trusted_key=trusted_key)
    console = Console()
    with console.status("opening the bundle") as status:
        built = build(
            opened,
            precision=precision,  # type: ignore[arg-type]
            out=out,
            rebuild=rebuild,
            tell=status.update,
        )
    facts = built.plan.facts
    if not built.new:
        click.echo("an engine for this device is there already; --rebuild makes it again")
    console.print(_table(built.plan))
    for refused in facts.refused:
        click.echo(f"{refused.precision} refused: {refused.reason}")
    click.echo(f"kept {facts.chosen}")
    if facts.host_only:
        click.echo("This machine is no Jetson: the engine serves to check the graphs here, and runs nowhere else.")
    click.echo(f"{built.plan.path}: {facts.plan_bytes / 1e6:.2f} MB")
    elsewhere = f" --engines {out}" if out else ""
    click.echo(f"next: edgepain run --model {bundle}{elsewhere} --port ...")


def _table(plan: Plan) -> Table:
    from rich import box
    from rich.table import Table

    facts = plan.facts
    title = f"{facts.gpu}, sm_{facts.sm}, TensorRT {facts.tensorrt}, driver for CUDA {facts.driver}, batch 1"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in (
        "engine",
        "p50 ms",
        "p99 ms",
        "CUDA graph",
        "changed",
        "max Δ prob.",
        "INT8 layers",
        "MB",
        "built s",
    ):
        table.add_column(heading)
    for m in facts.measured:
        table.add_row(
            m.precision,
            f"{m.p50_ms:.3f}",
            f"{m.p99_ms:.3f}",
            "yes" if m.cuda_graph else f"no ({m.graph_reason})",
            f"{m.changed_labels}/{m.golden_windows}",
            f"{m.golden_difference:.1e}",
            "n/a (not listed)" if m.layers is None else f"{m.int8_layers} of {m.layers}",
            f"{m.plan_bytes / 1e6:.2f}",
            f"{m.build_s:.0f}",
        )
    return table
