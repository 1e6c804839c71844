"""`edgepain doctor`: what is wrong with this machine and what is plugged into it."""

from __future__ import annotations

import click

from edgepain.cli.device_options import settings


@click.command("doctor")
@click.argument("port", required=False)
@click.option("--device", default="auto", show_default=True, help="What is on the port; auto finds out.")
@click.option(
    "--device-option",
    "device_options",
    multiple=True,
    callback=settings,
    metavar="NAME=VALUE",
    help="Setting of the device. Repeatable.",
)
@click.option("--baud", type=click.IntRange(1), help="Default: that of the device.")
@click.option("--seconds", type=click.FloatRange(1, 600), default=5.0, show_default=True, help="To listen for.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on standard output, nothing else.")
def command(
    port: str | None, device: str, device_options: dict[str, str], baud: int | None, seconds: float, as_json: bool
) -> None:
    """Look for what may go wrong on this machine, and say what to do: software, speed, ports, programs in the way.

    With PORT, what is plugged in is listened to for some seconds: what it is, rate, losses, jitter. Nothing else is
    opened, and nothing is changed. Ends with exit code 1 when something fails (docs/doctor.md).

    \b
    Examples:
      edgepain doctor
      edgepain doctor /dev/ttyUSB0
      edgepain doctor /dev/rfcomm0 --device bitalino --json
    """
    import msgspec
    from rich.console import Console

    from edgepain.doctor import Status, diagnose
    from edgepain.errors import EdgepainError

    colours = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILS: "red", Status.NOT_CHECKED: "dim"}
    console = Console(soft_wrap=True)
    found = []
    for check in diagnose(port, device=device, options=device_options, baud=baud, seconds=seconds):
        found.append(check)
        if as_json:
            continue
        # What a device says of itself may be anything, and goes to a terminal.
        lines = ["".join(filter(str.isprintable, text)) for text in (f"{check.name}: {check.found}", check.todo)]
        console.print(f"{check.status:>11}", style=colours[check.status], end="  ")
        console.print(lines[0], markup=False, highlight=False)
        if lines[1]:
            console.print(f"{'':>13}{lines[1]}", markup=False, highlight=False)
    if as_json:
        click.echo(msgspec.json.encode(found))
    failures = [check.name for check in found if check.status is Status.FAILS]
    if failures:
        raise EdgepainError(f"{len(failures)} of {len(found)} checks fail: {', '.join(failures)}")
