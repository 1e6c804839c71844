"""`edgepain build`: what a bundle is fastest with on this device: TensorRT engines, or a graph for ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepain.cli.trust import trusted_key_option

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from edgepain.bundle import Bundle
    from edgepain.engine.tensorrt.plan import Plan
    from edgepain.engine.timed import Timed


@click.command("build")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--engine",
    type=click.Choice(["auto", "onnx", "tensorrt"]),
    default="auto",
    show_default=True,
    help="auto: TensorRT for a bundle that was exported with --target jetson, else ONNX Runtime.",
)
@click.option(
    "--precision",
    type=click.Choice(["int8", "fp16", "both"]),
    default="both",
    show_default=True,
    help="Of TensorRT; of both, the better is kept.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the engines, for `run --engines`. Default: edgepain/engines in $XDG_DATA_HOME (~/.local/share).",
)
@click.option("--rebuild", is_flag=True, help="Build even where an engine fits this device already.")
@trusted_key_option
def command(
    bundle: Path, engine: str, precision: str, out: Path | None, rebuild: bool, trusted_key: Path | None
) -> None:
    """Find what answers fastest on this device; `edgepain run` then uses it.

    On an NVIDIA GPU, with a BUNDLE that was exported with --target jetson: TensorRT engines. The INT8 and the FP16
    engine are each checked against the golden windows and timed; the faster is kept. An engine belongs to one GPU, one
    TensorRT and one bundle: build again after any of these changed. See docs/deploy/jetson.md.

    On any other processor: the INT8 and the fp32 graph are checked and timed in ONNX Runtime, and the choice is kept.
    It belongs to this processor, this release of ONNX Runtime and this bundle.

    INT8 is taken only where it is faster by 5 %.

    \b
    Examples:
      edgepain build bundles/ward
      edgepain build bundles/orin --precision fp16 --rebuild
    """
    from rich.console import Console

    from edgepain.bundle import open_bundle

    opened = open_bundle(bundle, trusted_key=trusted_key)
    console = Console()
    if engine == "tensorrt" or (engine == "auto" and opened.manifest.targets):
        _tensorrt(opened, precision, out, rebuild, console)
    elif precision != "both" or rebuild:
        raise click.UsageError("--precision and --rebuild are for TensorRT; leave them out")
    else:
        _onnx(opened, out, console)
    elsewhere = f" --engines {out}" if out else ""
    click.echo(f"next: edgepain run --model {bundle}{elsewhere} --port ...")


def _onnx(bundle: Bundle, out: Path | None, console: Console) -> None:
    from edgepain.engine.timed import keep, measure

    with console.status("opening the bundle") as status:
        timed = measure(bundle, status.update)
    path = keep(bundle, timed, out)
    console.print(_timed_table(timed))
    for precision, reason in timed.refused.items():
        click.echo(f"{precision} refused: {reason}")
    click.echo(f"{timed.chosen} from now on: {timed.why}\n{path}")


def _timed_table(timed: Timed) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{timed.processor}, ONNX Runtime {timed.onnxruntime}, batch 1, 1 thread")
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("graph")
    table.add_column("p50 ms")
    for precision, p50_ms in timed.p50_ms.items():
        table.add_row(precision, f"{p50_ms:.3f}")
    return table


def _tensorrt(bundle: Bundle, precision: str, out: Path | None, rebuild: bool, console: Console) -> None:
    from edgepain.engine.tensorrt.build import build

    with console.status("opening the bundle") as status:
        built = build(
            bundle,
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
