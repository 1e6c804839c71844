"""`edgepain ports`: serial ports, and what is likely plugged in."""

from __future__ import annotations

import click


@click.command("ports")
@click.argument("names", nargs=-1, metavar="[PORT]...")
@click.option("--probe", is_flag=True, help="Open the ports and find out what speaks. That restarts some boards.")
@click.option("--lsl", is_flag=True, help="Ask the network for LSL streams instead; needs edgepain[lsl].")
@click.option("--json", "as_json", is_flag=True, help="One JSON array on standard output, nothing else.")
def command(names: tuple[str, ...], probe: bool, lsl: bool, as_json: bool) -> None:
    """List serial ports by names that survive a replug, with a guess at what is plugged in.

    The guess is by USB vendor and product only; nothing is opened and nothing is sent. With --probe, every port, or
    only PORT, is opened, listened to and asked: that takes up to 14 s a port, and restarts most Arduino boards. The
    first name is what `edgepain run --port` takes. With --lsl, the network is asked for streams of the
    Lab Streaming Layer: `edgepain run --device lsl --port` takes their names.

    \b
    Examples:
      edgepain ports
      edgepain ports --probe
      edgepain ports --probe /dev/rfcomm0
      edgepain ports --lsl
      edgepain ports --json
    """
    import json
    from dataclasses import asdict

    if lsl and (names or probe):
        raise click.UsageError("--lsl asks the network; leave PORT and --probe out")
    if lsl:
        from edgepain.firmware_bridge.lsl_streams import describe_streams, list_streams

        streams = list_streams()
        click.echo(json.dumps([asdict(each) for each in streams]) if as_json else describe_streams(streams))
        return
    from edgepain.firmware_bridge.serial_ports import describe, serial_port, serial_ports

    found = [serial_port(name) for name in names] if names else serial_ports()
    if probe:
        from edgepain.firmware_bridge.identify import probe as probed

        found = [probed(port) for port in found]
    click.echo(json.dumps([asdict(port) for port in found]) if as_json else describe(found))
