"""Options of the device on a port, which several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def settings(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Callback of `--device-option NAME=VALUE`: what was set, by name."""
    found: dict[str, str] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"expected NAME=VALUE, such as eda=A3, got {value!r}", ctx, param)
        found[name] = text
    return found


def device_options(command: _Command) -> _Command:
    """Add --device, --device-option and --baud; given as device, device_options and baud."""
    for option in (
        click.option("--baud", type=click.IntRange(1), help="Default: that of the device, mostly 115200."),
        click.option(
            "--device-option",
            "device_options",
            multiple=True,
            callback=settings,
            metavar="NAME=VALUE",
            help="Setting of the device, such as its calibration. Repeatable.",
        ),
        click.option(
            "--device", help="What is on the port; `edgepain devices` lists them; auto finds out. Default: edgeframe."
        ),
    ):
        command = option(command)
    return command
