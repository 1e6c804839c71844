"""`edgepain ports`: serial ports, and what is likely plugged in."""

from __future__ import annotations

import click


@click.command("ports")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on standard output, nothing else.")
def command(as_json: bool) -> None:
    """List serial ports by names that survive a replug, with a guess at what is plugged in.

    The guess is by USB vendor and product only; nothing is opened and nothing is sent. The first name is what
    `edgepain run --port` takes.

    \b
    Examples:
      edgepain ports
      edgepain ports --json
    """
    import json
    from dataclasses import asdict

    from edgepain.firmware_bridge.serial_ports import describe, serial_ports

    found = serial_ports()
    click.echo(json.dumps([asdict(port) for port in found]) if as_json else describe(found))
