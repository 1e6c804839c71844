"""`--marker KEY=LABEL` and `--lsl-markers NAME`, which commands share that read markers."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from edgepain.errors import ConfigError

if TYPE_CHECKING:
    from edgepain.signal import MarkerSource


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

lsl_markers_option = click.option(
    "--lsl-markers",
    multiple=True,
    metavar="NAME",
    help="An LSL stream of texts whose samples are markers; needs edgepain[lsl]. Repeatable.",
)


def open_lsl_markers(names: tuple[str, ...], stack: ExitStack) -> list[MarkerSource]:
    """The streams of these names, to be closed with `stack`. Raises MissingExtraError."""
    if not names:
        return []
    from edgepain.runtime.lsl_markers import LslMarkers

    streams = [LslMarkers(name) for name in names]
    for stream in streams:
        stack.callback(stream.close)
    return list(streams)
