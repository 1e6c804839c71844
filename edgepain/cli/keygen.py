"""`edgepain keygen`: a pair of keys to sign bundles with."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("keygen")
@click.argument("path", type=click.Path(path_type=Path))
def command(path: Path) -> None:
    """Write a new Ed25519 private key to PATH, readable by you alone, and its public key to PATH.pub.

    Sign with the first and keep it off the devices; give the second to whoever is to trust your bundles.

    \b
    Example:
      edgepain keygen ward7.key
      edgepain sign bundles/people --key ward7.key
      edgepain run --port /dev/ttyUSB0 --model bundles/people --trusted-key ward7.key.pub
    """
    from edgepain.bundle import make_keys

    fingerprint = make_keys(path)
    click.echo(f"private key: {path} (not locked by a passphrase: keep it off the devices)")
    click.echo(f"public key: {path}.pub")
    click.echo(f"fingerprint: {fingerprint}")
