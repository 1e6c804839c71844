"""Making keys, and signing a bundle that is there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgepain.bundle.archive import pack
from edgepain.bundle.names import MANIFEST, SIGNATURE
from edgepain.bundle.signature import encode_signature, fingerprint, require_cryptography
from edgepain.bundle.store import Bundle, open_bundle
from edgepain.errors import ConfigError, EdgepainError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def sign_bundle(source: Path, key: Ed25519PrivateKey, *, replace: bool = False) -> Bundle:
    """Check the bundle, a directory or a zip, and put a signature beside its manifest; returns it opened again.

    Raises BundleError where the bundle is refused, ConfigError where it is signed already (unless `replace`),
    EdgepainError where the signature cannot be written.
    """
    bundle = open_bundle(source)
    if bundle.signature is not None and not replace:
        raise ConfigError(f"{source} is signed already, with {bundle.signature.fingerprint}; replace it with --force")
    try:
        signature = encode_signature((bundle.root / MANIFEST).read_bytes(), key)
        _write_whole(bundle.root / SIGNATURE, signature)
    except OSError as error:
        raise EdgepainError(f"{source} cannot be signed ({error.strerror}); make room, or copy it first") from error
    if bundle.source is not None:
        pack(bundle.root, source, replace=True)
    return open_bundle(source)


def make_keys(path: Path) -> str:
    """Write a new private key (PEM, for its owner's eyes only) to `path`, the public one to `path`.pub.

    Returns the fingerprint. Raises ConfigError where one of the files is there already or cannot be made,
    MissingExtraError without `cryptography`.
    """
    require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    public = key.public_key()
    public_path = path.with_name(f"{path.name}.pub")
    if public_path.exists():
        raise ConfigError(f"{public_path} exists already and is not overwritten; choose another name")
    _write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    _write_new(public_path, public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
    return fingerprint(public.public_bytes_raw())


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        with open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
    except FileExistsError as error:
        raise ConfigError(f"{path} exists already and is not overwritten; choose another name") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); choose another place") from error


def _write_whole(path: Path, data: bytes) -> None:
    """The file appears only when it is whole."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        scratch = Path(file.name)
        try:
            file.write(data)
            file.flush()
            scratch.chmod(0o644)
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
