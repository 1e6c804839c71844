"""`--device-option NAME=VALUE`, which several commands share."""

from __future__ import annotations

import click


def settings(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Callback of the option: what was set, by name."""
    found: dict[str, str] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"expected NAME=VALUE, such as eda=A3, got {value!r}", ctx, param)
        found[name] = text
    return found
