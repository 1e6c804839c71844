"""`edgepain data`: look at a dataset on disk, or write a simulated one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgepain.train.datasets.check import ChannelReport, Report

LAYOUTS = ("biovid", "ai4pain", "e4", "recording")
SHOWN_PROBLEMS = 20


@click.group(name="data")
def command() -> None:
    """Check a dataset on disk, or write a simulated one in its layout."""


@command.command()
@click.argument("root", type=click.Path(path_type=Path))
@click.option(
    "--dataset", type=click.Choice(["auto", "biovid", "ai4pain", "e4", "sessions"]), default="auto", show_default=True
)
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Of the dataset reader; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON on standard output.")
def check(root: Path, dataset: str, options: tuple[str, ...], as_json: bool) -> None:
    """Say what the dataset under ROOT holds, and which files cannot be used and why.

    Ends with 3 where nobody could train on it: nothing can be used, or only one class or one subject.

    \b
    Examples:
      edgepain data check BioVid
      edgepain data check sessions --option positive=interview --option negative=relax1,relax2
    """
    from rich.progress import Progress

    from edgepain.cli.progress import error_console
    from edgepain.errors import DataError
    from edgepain.train.datasets.base import guess_dataset, open_dataset, parse_options
    from edgepain.train.datasets.check import check_dataset

    name = guess_dataset(root) if dataset == "auto" else dataset
    defaults = {"levels": ("BL1", "PA1", "PA2", "PA3", "PA4")} if name == "biovid" else {}
    opened = open_dataset(name, root, **{**defaults, **parse_options(name, options)})
    with Progress(console=error_console, transient=True, disable=not error_console.is_terminal) as bar:
        task = bar.add_task("reading", total=None)
        report = check_dataset(opened, lambda done, total: bar.update(task, completed=done, total=total))
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=1))
    else:
        _show(report)
    if not report.usable:
        click.get_current_context().exit(DataError.exit_code)


@command.command()
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--layout", type=click.Choice(LAYOUTS), default="biovid", show_default=True)
@click.option("--subjects", type=click.IntRange(1), default=10, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed, the same files.")
@click.option("--trials", type=click.IntRange(1), help="Stimuli a level. Default: as in the real dataset.")
@click.option("--seconds", type=float, default=600.0, show_default=True, help="Length of each `recording`.")
def synth(root: Path, layout: str, subjects: int, seed: int, trials: int | None, seconds: float) -> None:
    """Write simulated people to ROOT, in the true layout of a dataset or as recordings of a wearable.

    For trying things out: no accuracy on these files says anything about people.

    \b
    Examples:
      edgepain data synth demo --layout biovid --subjects 10
      edgepain data synth wearable --layout recording --subjects 2 --seconds 900
      edgepain data synth session.csv.gz --layout recording
    """
    from rich.progress import Progress

    from edgepain.cli.progress import error_console
    from edgepain.train.datasets import synth as writers

    with Progress(console=error_console, transient=True, disable=not error_console.is_terminal) as bar:
        task = bar.add_task("simulating", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if layout == "recording":
            written = writers.write_recordings(root, subjects, seed, seconds, progress)
        else:
            write = {"biovid": writers.write_biovid, "ai4pain": writers.write_ai4pain, "e4": writers.write_e4}[layout]
            write(root, subjects, seed, **({} if trials is None else {"trials": trials}), progress=progress)
            written = [root]
    click.echo(f"simulated {layout} data written: {', '.join(map(str, written))}")


def _show(report: Report) -> None:
    from rich.table import Table

    from edgepain.cli.progress import console

    modalities = sorted({channel.modality for subject in report.subjects for channel in subject.channels})
    table = Table(title=f"{report.dataset}{' (simulated)' if report.synthetic else ''}")
    table.add_column("subject", no_wrap=True)
    table.add_column("recordings", justify="right")
    table.add_column("minutes", justify="right")
    table.add_column(" / ".join(report.labels), justify="right")
    for modality in modalities:
        table.add_column(f"{modality} ({modality.unit})")
    for subject in report.subjects:
        cells = {channel.modality: _channel_text(channel) for channel in subject.channels}
        table.add_row(
            subject.subject,
            f"{subject.recordings}",
            f"{subject.seconds / 60:.1f}",
            " / ".join(f"{subject.events.get(label, 0)}" for label in report.labels),
            *(cells.get(modality, "none") for modality in modalities),
        )
    console.print(table)
    totals = ", ".join(f"{count} {label}" for label, count in report.events.items())
    click.echo(f"{len(report.subjects)} subjects; labelled stretches: {totals}")
    for name, subjects in report.holdouts.items():
        click.echo(f"official {name}: {', '.join(subjects)}")
    for problem in report.problems[:SHOWN_PROBLEMS]:
        click.echo(f"left out: {problem}")
    if len(report.problems) > SHOWN_PROBLEMS:
        click.echo(f"left out: {len(report.problems) - SHOWN_PROBLEMS} more; --json lists all")
    for obstacle in report.obstacles:
        click.echo(f"not enough to train on: {obstacle}")


def _channel_text(channel: ChannelReport) -> str:
    """Rates, and what is the matter with the channel if anything is."""
    parts = [f"{', '.join(f'{rate:g}' for rate in channel.rates_hz)} Hz"]
    if channel.gaps:
        parts.append(f"{channel.gaps} gaps of {channel.missing_s:.1f} s in all")
    if channel.flat_s:
        parts.append(f"flat {channel.flat_s:.1f} s")
    if channel.no_contact_s:
        parts.append(f"no contact {channel.no_contact_s:.1f} s")
    return "; ".join(parts)
