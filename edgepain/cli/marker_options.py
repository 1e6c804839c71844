"""`--marker KEY=LABEL`, which commands share that read a person's markers."""

from __future__ import annotations

import click

from edgepain.errors import ConfigError


def _labels(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    from edgepain.runtime.markers import key_labels

    try:
        return key_labels(values)
    except ConfigError as error:
        raise click.BadParameter(str(error), ctx, param) from error


marker_option = click.option(
    "--marker",
    "markers",
    multiple=True,
    callback=_labels,
    metavar="KEY=LABEL",
    help="A key that marks a moment, such as b=begin. Repeatable.",
)
