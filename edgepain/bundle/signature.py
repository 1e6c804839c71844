"""The signature of a bundle: Ed25519 over the bytes of its manifest, which states the hash of every other file.

    {"algorithm": "Ed25519", "public_key": base64, "signature": base64, "manifest_sha256": hex, "sha256": hex}

It lies in signature.json beside the manifest, which does not list it. Anybody can make one with a key of their own:
it says something only beside a public key that came on another way. `manifest_sha256` and `sha256` show slips, as a
signature of an older manifest is, where `cryptography` is not installed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from edgepain.bundle.manifest import seal, unseal
from edgepain.errors import BundleError, ConfigError, MissingExtraError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

# What stands before the 32 bytes of an Ed25519 key in its DER form (RFC 8410).
_DER_HEAD = bytes.fromhex("302a300506032b6570032100")
MAX_BYTES = 4096

_Key = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Contents of signature.json."""

    algorithm: Literal["Ed25519"]
    public_key: _Key
    signature: _Signature
    manifest_sha256: str
    sha256: str = ""

    @property
    def fingerprint(self) -> str:
        """Of the key that signed, see `fingerprint`."""
        return fingerprint(self.public_key)


def fingerprint(public_key: bytes) -> str:
    """SHA-256 (hex) of a public key's DER form, as of `openssl pkey -pubin -in KEY.pub -outform DER | sha256sum`."""
    return hashlib.sha256(_DER_HEAD + public_key).hexdigest()


def decode_signature(data: bytes, manifest: bytes, shown: Path) -> Signature:
    """Read a signature.json. It is not verified by this, only found to be whole and to be of these manifest bytes.

    Raises BundleError where it is not.
    """
    facts = unseal(data, shown)
    try:
        signature = msgspec.convert(facts, Signature)
    except msgspec.ValidationError as error:
        raise BundleError(f"{shown} is no signature that this edgepain knows ({error}); {_AGAIN}") from error
    if signature.manifest_sha256 != hashlib.sha256(manifest).hexdigest():
        raise BundleError(f"{shown} is the signature of another manifest; remove it and {_AGAIN}")
    return signature


def encode_signature(manifest: bytes, key: Ed25519PrivateKey) -> bytes:
    """Sign the bytes of a manifest; returns those of its signature.json."""
    signature = Signature(
        algorithm="Ed25519",
        public_key=key.public_key().public_bytes_raw(),
        signature=key.sign(manifest),
        manifest_sha256=hashlib.sha256(manifest).hexdigest(),
    )
    return seal(msgspec.to_builtins(signature))


def verify(signature: Signature, manifest: bytes, shown: Path) -> None:
    """Raises BundleError where the signature was not made with the key it names, MissingExtraError without
    `cryptography`.
    """
    require_cryptography()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(signature.public_key).verify(signature.signature, manifest)
    except (InvalidSignature, ValueError) as error:
        raise BundleError(
            f"the signature of bundle {shown} is not valid: it or the bundle was changed; "
            "get the bundle again from its maker"
        ) from error


def require_trusted(signature: Signature | None, manifest: bytes, trusted: Ed25519PublicKey, shown: Path) -> None:
    """Raises BundleError where the bundle is not signed, was signed with another key, or was changed after."""
    key = trusted.public_bytes_raw()
    if signature is None:
        raise BundleError(
            f"bundle {shown} is not signed, and the key {fingerprint(key)} is required; get it signed with that key"
        )
    if signature.public_key != key:
        raise BundleError(
            f"bundle {shown} is signed with the key {signature.fingerprint}, but {fingerprint(key)} is required; "
            "get it signed with that key"
        )
    verify(signature, manifest, shown)


def read_public_key(path: Path) -> Ed25519PublicKey:
    """A public key in PEM. Raises ConfigError where it is none, MissingExtraError without `cryptography`."""
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    data = _read(path)
    if b"PRIVATE KEY" in data:
        raise ConfigError(f"{path} is a private key; name the public one, and keep this one to yourself")
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path} is no public key in PEM; {_MAKE}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path} is no Ed25519 key; {_MAKE}")
    return key


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """A private key in PEM. Raises ConfigError where it is none, MissingExtraError without `cryptography`."""
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read(path)
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError as error:
        raise ConfigError(f"{path} is locked by a passphrase, which is not supported; {_MAKE}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path} is no private key in PEM; {_MAKE}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} is no Ed25519 key; {_MAKE}")
    return key


def require_cryptography() -> None:
    """Raises MissingExtraError where `cryptography` is not installed."""
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("cryptography", "sign") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(1 << 16)
    except OSError as error:
        raise ConfigError(f"key {path} cannot be read ({error.strerror}); {_MAKE}") from error


_AGAIN = "sign the bundle again, or get it again from its maker"
_MAKE = "make a pair with: edgepain keygen PATH"
