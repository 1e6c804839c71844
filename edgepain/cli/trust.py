"""The option that commands share which open a bundle."""

from __future__ import annotations

from pathlib import Path

import click

trusted_key_option = click.option(
    "--trusted-key",
    type=click.Path(path_type=Path),
    metavar="PUB",
    help="Refuse a bundle that is not signed with this public key; see `edgepain sign`.",
)
