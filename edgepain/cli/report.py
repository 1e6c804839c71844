"""`edgepain report`: results of runs beside the paper's, as a page, tables and figures."""

from __future__ import annotations

from pathlib import Path

import click

from edgepain.cli.extras import require


@click.command(name="report")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder to write; an old report is replaced."
)
@click.option(
    "--explain/--no-explain",
    default=True,
    show_default=True,
    help="Show what the network of the first fold looks at (Figures 5 to 7); takes up to a minute a run.",
)
def command(runs: tuple[Path, ...], out: Path, explain: bool) -> None:
    """Write the report of one or several run folders: what was run on what, and how well it did.

    OUT/report.html is one page that needs no network. OUT/tables has every table as CSV, Markdown and LaTeX,
    OUT/figures every picture as SVG. The paper's figures stand beside ours where dataset and protocol are the same.

    Several runs get a section each and a table of all, to compare scalings, window lengths or protocols. A run that is
    not finished is reported as far as it is, and says so.

    \b
    Examples:
      edgepain report runs/loso --out reports/loso
      edgepain report runs/causal runs/subject --out reports/scaling
    """
    require("report", "matplotlib", "jinja2", "tabulate", "pandas", "sklearn", "scipy", "torch", "safetensors")

    from rich.progress import Progress

    from edgepain.cli.progress import error_console
    from edgepain.train.report import STEPS, write_report
    from edgepain.train.run import open_run

    opened = [open_run(folder) for folder in runs]
    with Progress(console=error_console, transient=True) as bar:
        task = bar.add_task("report", total=STEPS * len(opened))
        page = write_report(
            opened,
            out,
            lambda what: bar.update(task, advance=1, description=what),
            opened if explain else (),
        )
    click.echo(f"report: {page}")
