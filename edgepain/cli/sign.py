"""`edgepain sign`: put a signature on a bundle."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("sign")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--key", type=click.Path(path_type=Path), required=True, help="Private key made by `edgepain keygen`.")
@click.option("--force", is_flag=True, help="Replace a signature that is there.")
def command(bundle: Path, key: Path, force: bool) -> None:
    """Check BUNDLE, a directory or a zip, and sign it with an Ed25519 key.

    The signature covers the manifest, which states the hash of every other file. `edgepain run --trusted-key` then
    refuses the bundle once a byte of it is another.

    \b
    Example:
      edgepain sign bundles/people --key ward7.key
    """
    from edgepain.bundle import read_private_key, sign_bundle

    signature = sign_bundle(bundle, read_private_key(key), replace=force).signature
    assert signature is not None
    click.echo(f"{bundle}: signed with {signature.fingerprint}")
