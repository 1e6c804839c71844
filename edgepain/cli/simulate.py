"""`edgepain simulate`: play a recording as a wearable on a port."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepain.cli.device_options import settings

if TYPE_CHECKING:
    from rich.console import Console

    from edgepain.firmware_bridge.board_simulator import BoardSimulator
    from edgepain.firmware_bridge.faults import FaultPlan
    from edgepain.firmware_bridge.pty_link import PtyLink
    from edgepain.firmware_bridge.simulator import Simulator
    from edgepain.signal import Recording


def _outages(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[tuple[float, float]]:
    try:
        pairs = [tuple(map(float, value.split(":"))) for value in values]
        return [(at_s, seconds) for at_s, seconds in pairs]
    except ValueError:
        raise click.BadParameter("expected AT:SECONDS, such as 20:5", ctx, param) from None


_PROBABILITY = click.FloatRange(0, 1)


@click.command()
@click.argument("recording", required=False, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--device",
    type=click.Choice(["edgeframe", "bitalino", "shimmer3", "lines"]),
    default="edgeframe",
    show_default=True,
)
@click.option(
    "--device-option",
    "device_options",
    multiple=True,
    callback=settings,
    metavar="NAME=VALUE",
    help="What `edgepain run` is told of the device, too: ports and calibration. Repeatable.",
)
@click.option("--link", type=click.Path(path_type=Path), help="Symlink to the port; stays the same after a replug.")
@click.option("--speed", type=float, default=1.0, show_default=True, help="Seconds of play a second.")
@click.option("--start", type=click.FloatRange(min=0), default=0.0, help="Begin at this second of the recording.")
@click.option("--duration", type=click.FloatRange(min=0, min_open=True), help="Play so many seconds.")
@click.option("--loop", is_flag=True, help="Start over at the end, for ever.")
@click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Begin when a reader asks the device who it is."
)
@click.option(
    "--drop-when-full",
    is_flag=True,
    help="Like real firmware, drop frames when the reader is slow, instead of waiting for it.",
)
@click.option("--sample-type", type=click.Choice(["f4", "i2"]), default="f4", show_default=True)
@click.option("--skew-ppm", type=float, default=0.0, help="How much the device's clock runs fast.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all faults.")
@click.option("--bit-errors", type=_PROBABILITY, default=0.0, help="Probability of a flipped bit.")
@click.option("--drop-bytes", type=_PROBABILITY, default=0.0, help="Probability of a lost byte.")
@click.option("--repeat-bytes", type=_PROBABILITY, default=0.0, help="Probability of a byte sent twice.")
@click.option("--drop-frames", type=_PROBABILITY, default=0.0, help="Probability of a lost frame.")
@click.option(
    "--pause",
    callback=_outages,
    multiple=True,
    metavar="AT:SECONDS",
    help="Silence at AT for SECONDS of play. Repeatable.",
)
@click.option(
    "--unplug", callback=_outages, multiple=True, metavar="AT:SECONDS", help="Port away at AT for SECONDS. Repeatable."
)
@click.option("--reboot", type=float, multiple=True, metavar="AT", help="Device restarts at AT. Repeatable.")
@click.option("--report", is_flag=True, help="End with one line of JSON on stderr: what was sent and injected.")
def command(recording: Path | None, **options: Any) -> None:
    """Play RECORDING as a wearable on a pseudo-terminal: edgeframe, a BITalino, a Shimmer3 or text lines.

    RECORDING is an Empatica E4 session folder, or a CSV file with time_s and any of eda_us, ecg_mv, bvp_au;
    without it, the synthetic recording of the package is played. The first line on stdout names the port.
    A BITalino and a Shimmer3 begin when they are told to measure, text lines when the port is opened; --no-wait,
    --drop-when-full and --sample-type are for edgeframe only.

    \b
    Examples:
      edgepain simulate --link /tmp/wearable
      edgepain simulate S02/ --link /tmp/wearable --speed 10 --unplug 60:5 --bit-errors 1e-5
      edgepain simulate --device bitalino --device-option bvp=A1 --link /tmp/bitalino
    """
    import json

    from rich.console import Console

    from edgepain.cli.polite_end import end_politely
    from edgepain.firmware_bridge.playback import load, part

    end_politely()
    played = part(load(recording), options["start"], options["duration"])
    simulator = _simulator(played, options)
    try:
        _play(simulator, None if options["loop"] else played.duration_s, Console(stderr=True))
    finally:
        report = simulator.report()
        if options["report"]:
            click.echo(json.dumps(report), err=True)
        elif report["frames"]:
            click.echo(_summary(report), err=True)


def _simulator(played: Recording, options: dict[str, Any]) -> Simulator | BoardSimulator:
    from edgepain.firmware_bridge.faults import FaultPlan, Outage
    from edgepain.firmware_bridge.pty_link import PtyLink

    plan = FaultPlan(
        seed=options["seed"],
        bit_errors=options["bit_errors"],
        drop_bytes=options["drop_bytes"],
        repeat_bytes=options["repeat_bytes"],
        drop_frames=options["drop_frames"],
        pauses=[Outage(*at) for at in options["pause"]],
        unplugs=[Outage(*at) for at in options["unplug"]],
        reboots_s=options["reboot"],
    )
    make = _edgeframe if options["device"] == "edgeframe" else _board
    return make(played, PtyLink(options["link"]), plan, options)


def _edgeframe(played: Recording, link: PtyLink, plan: FaultPlan, options: dict[str, Any]) -> Simulator:
    import secrets

    from edgepain.firmware_bridge import device_kind
    from edgepain.firmware_bridge.simulator import PlayOptions, Simulator
    from edgepain.firmware_bridge.wearable import Wearable

    device_kind("edgeframe").parse(options["device_options"])
    wearable = Wearable(
        played,
        sample_type=options["sample_type"],
        skew_ppm=options["skew_ppm"],
        boot_id=secrets.randbits(32),
    )
    play = PlayOptions(options["speed"], options["loop"], options["wait"], options["drop_when_full"])
    return Simulator(wearable, link, play, plan)


def _board(played: Recording, link: PtyLink, plan: FaultPlan, options: dict[str, Any]) -> BoardSimulator:
    from edgepain.firmware_bridge import device_kind
    from edgepain.firmware_bridge.bitalino_board import SimulatedBitalino
    from edgepain.firmware_bridge.bitalino_driver import BitalinoOptions
    from edgepain.firmware_bridge.board_simulator import Board, BoardSimulator
    from edgepain.firmware_bridge.lines_board import SimulatedLines
    from edgepain.firmware_bridge.shimmer_board import SimulatedShimmer
    from edgepain.firmware_bridge.shimmer_units import ShimmerOptions
    from edgepain.firmware_bridge.sketches import LinesOptions

    if not options["wait"] or options["drop_when_full"] or options["sample_type"] != "f4":
        raise click.UsageError("--no-wait, --drop-when-full and --sample-type are for edgeframe only; leave them out")
    of_it = device_kind(options["device"]).parse(options["device_options"])
    board: Board
    if isinstance(of_it, BitalinoOptions):
        board = SimulatedBitalino(played, of_it, options["skew_ppm"])
    elif isinstance(of_it, LinesOptions):
        board = SimulatedLines(played, of_it, lambda: link.configured, options["skew_ppm"])
    else:
        assert isinstance(of_it, ShimmerOptions)
        board = SimulatedShimmer(played, of_it, options["skew_ppm"])
    return BoardSimulator(board, link, plan, options["speed"], options["loop"])


def _play(simulator: Simulator | BoardSimulator, duration_s: float | None, console: Console) -> None:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("playing"), BarColumn(), TextColumn("{task.completed:.0f} s"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("playing", total=duration_s)
        # echo flushes: a script that reads this line goes on at once.
        simulator.run(
            on_port=lambda port: click.echo(f"port: {port}"),
            on_progress=lambda played_s: progress.update(task, completed=played_s),
        )


def _summary(report: dict[str, Any]) -> str:
    frames = [
        f"{name} " + ", ".join(f"{count} {fate}" for fate, count in fates.items())
        for name, fates in report["frames"].items()
    ]
    injected = [f"{count} {name.replace('_', ' ')}" for name, count in report["injected"].items() if count]
    text = "frames: " + "; ".join(frames or ["none"])
    text += "; injected: " + ", ".join(injected or ["nothing"])
    return text + (f"; {report['unread_bytes']} bytes were never read" if report["unread_bytes"] else "")
