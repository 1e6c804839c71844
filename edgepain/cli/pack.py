"""`edgepain pack`: a bundle as one zip file."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("pack")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def command(bundle: Path, file: Path, force: bool) -> None:
    """Check BUNDLE and write it to FILE, which ends in .zip.

    Every command that takes a bundle takes the zip too. A signature goes along.

    \b
    Example:
      edgepain pack bundles/people people.zip
      edgepain run --port /dev/ttyUSB0 --model people.zip
    """
    from edgepain.bundle import open_bundle, pack

    opened = open_bundle(bundle)
    pack(opened.root, file, replace=force)
    click.echo(f"{file}: {file.stat().st_size / 1e6:.2f} MB")
