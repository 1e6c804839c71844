"""`edgepain replay`: play a wire log as the device that it was recorded from, or say what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgepain.firmware_bridge.log_check import LogCheck
    from edgepain.firmware_bridge.log_player import LogPlayer


def _speed(ctx: click.Context, param: click.Parameter, value: str) -> float:
    try:
        return float("inf") if value == "max" else float(value)
    except ValueError:
        raise click.BadParameter(f"expected a number or max, got {value!r}", ctx, param) from None


@click.command(name="replay")
@click.argument("log", type=click.Path(path_type=Path))
@click.option("--speed", default="1", show_default=True, callback=_speed, metavar="N|max", help="Seconds a second.")
@click.option("--link", type=click.Path(path_type=Path), help="Symlink to the port, a name that stays the same.")
@click.option(
    "--wait/--no-wait", default=True, show_default=True, help="Begin when a reader has set up the line; `cat` does not."
)
@click.option("--check", is_flag=True, help="Play nothing: decode the log and say what is in it, and what is not.")
@click.option("--json", "as_json", is_flag=True, help="With --check: everything as JSON on standard output.")
def command(log: Path, speed: float, link: Path | None, wait: bool, check: bool, as_json: bool) -> None:
    """Play the bytes of LOG on a pseudo-terminal, bit by bit and in their timing, as the device that sent them.

    Any program can read it, edgepain or another; the first line on stdout names the port. What the reader asks is not
    answered: the device's answers are in the log. `edgepain run --replay LOG` needs no port.

    \b
    Examples:
      edgepain replay monday.wire --link /tmp/wearable
      edgepain replay monday.wire --speed max --no-wait
      edgepain replay monday.wire --check
    """
    if as_json and not check:
        raise click.UsageError("--json is for --check")
    if check:
        _check(log, as_json)
        return
    from edgepain.cli.polite_end import end_politely
    from edgepain.firmware_bridge import read_recording
    from edgepain.firmware_bridge.log_player import LogPlayer
    from edgepain.firmware_bridge.pty_link import PtyLink

    player = LogPlayer(read_recording(log), PtyLink(link), speed, wait)
    end_politely()
    try:
        _play(player)
    finally:
        unread = f", {player.unread_bytes} of them never read" if player.unread_bytes else ""
        click.echo(f"{player.sent_bytes} bytes played{unread}", err=True)


def _play(player: LogPlayer) -> None:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from edgepain.cli.progress import error_console

    columns = (TextColumn("playing"), BarColumn(), TextColumn("{task.completed:.0f} s"), TimeRemainingColumn())
    with Progress(*columns, console=error_console, transient=True, disable=not error_console.is_terminal) as progress:
        task = progress.add_task("playing", total=player.duration_s)
        player.run(
            on_port=lambda port: click.echo(f"port: {port}"),
            on_progress=lambda played_s: progress.update(task, completed=played_s),
        )


def _check(log: Path, as_json: bool) -> None:
    import msgspec

    from edgepain.firmware_bridge.log_check import check_log

    found = check_log(log)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=1).decode())
    else:
        _show(found)


def _show(found: LogCheck) -> None:
    device = _printable(found.device) if found.device else "no device that introduced itself"
    click.echo(f"{found.log}: {device}, {found.seconds:.1f} s")
    if found.begin:
        click.echo(f"begins {found.begin}; started {found.starts} times, line opened {found.openings} times")
    if found.slept_s:
        click.echo(f"the computer slept for {found.slept_s:.1f} s of it")
    for name, s in found.signals.items():
        click.echo(
            f"{name}: {s.samples} samples at {s.rate_hz:g} Hz in {s.unit}, {s.seconds:.1f} s; "
            f"{s.gaps} gaps of {s.gaps_s:.1f} s in all"
            + (f"; {s.missing_samples} without value" * (s.missing_samples > 0))
        )
        for gap in s.missing:
            click.echo(f"  missing: {gap.begin_s:.2f} to {gap.end_s:.2f} s")
    for number, basis in enumerate(found.time_basis):
        skew, uncertainty = found.clock_skew_ppm[number], found.time_uncertainty_ms[number]
        told = f", {skew:+.0f} ppm" if skew is not None else ""
        told += f", ± {uncertainty:.1f} ms" if uncertainty is not None else ""
        click.echo(f"time of start {number + 1}: {basis}{told}")
    least = "at least " if found.wire.lost_is_minimum else ""
    click.echo(
        f"wire: {found.wire.bytes_read} bytes, {found.wire.frames} frames, {least}{found.wire.frames_lost} lost, "
        f"{found.wire.crc_errors} CRC errors, {found.wire.malformed} malformed"
    )
    for marker in found.markers:
        value = "" if marker.value is None else f" {marker.value:g}"
        click.echo(f"marker at {marker.at_s:.2f} s: {_printable(marker.label)}{value}")
    if found.stray_markers:
        click.echo(f"{found.stray_markers} markers of another time are left out")
    if not found.described:
        click.echo("damaged: what the log says of itself (device, start); it was taken for an edgeframe device's")
    for stretch in found.damage:
        begin = "the begin" if stretch.after_s is None else f"{stretch.after_s:.2f} s"
        end = "the end" if stretch.before_s is None else f"{stretch.before_s:.2f} s"
        click.echo(f"damaged: {stretch.lost_bytes} bytes of the file, between {begin} and {end}")
    if not found.damage:
        click.echo("the file is whole")


def _printable(text: str) -> str:
    """What a log says, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
