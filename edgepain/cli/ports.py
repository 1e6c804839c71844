"""`edgepain ports`: serial ports, and what is likely plugged in."""

from __future__ import annotations

import click


@click.command("ports")
@click.option("--lsl", is_flag=True, help="Ask the network for LSL streams instead; needs edgepain[lsl].")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on standard output, nothing else.")
def command(lsl: bool, as_json: bool) -> None:
    """List serial ports by names that survive a replug, with a guess at what is plugged in.

    The guess is by USB vendor and product only; nothing is opened and nothing is sent. The first name is what
    `edgepain run --port` takes. With --lsl, the network is asked for streams of the Lab Streaming Layer: `edgepain run
    --device lsl --port` takes their names.

    \b
    Examples:
      edgepain ports
      edgepain ports --lsl
      edgepain ports --json
    """
    import json
    from dataclasses import asdict

    if lsl:
        from edgepain.firmware_bridge.lsl_streams import describe_streams, list_streams

        streams = list_streams()
        click.echo(json.dumps([asdict(each) for each in streams]) if as_json else describe_streams(streams))
        return
    from edgepain.firmware_bridge.serial_ports import describe, serial_ports

    found = serial_ports()
    click.echo(json.dumps([asdict(port) for port in found]) if as_json else describe(found))
