"""`edgepain devices`: what can be read, and how to wire it."""

from __future__ import annotations

import click


@click.command("devices")
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List the wearables that `edgepain run --device` reads, or only the one called NAME.

    Which of those on serial ports is plugged in, --device auto finds out. Other packages add theirs
    by an entry point of the group edgepain.devices (docs/devices.md).

    \b
    Examples:
      edgepain devices
      edgepain devices edgeframe
    """
    from edgepain.errors import ConfigError
    from edgepain.firmware_bridge import device_kind, device_names

    for each in device_names() if name is None else [name]:
        try:
            kind = device_kind(each)
        except ConfigError as error:
            if name is not None:
                raise
            click.echo(f"{each}\n  cannot be used: {error}\n")
            continue
        click.echo(f"{kind.name}\n  {kind.summary}")
        click.echo(f"  signals  {kind.signals}\n  rates    {kind.rates}\n  wiring   {kind.wiring}")
        click.echo(f"  options  {kind.describe_options()}\n")
