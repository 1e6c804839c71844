"""What a person asks of a bundle before trusting it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from edgepain.bundle.local import engines_folder
from edgepain.bundle.manifest import FileFacts, Manifest
from edgepain.bundle.names import MANIFEST
from edgepain.bundle.signature import verify
from edgepain.bundle.store import Bundle, open_bundle, sha256_of
from edgepain.errors import ConfigError, MissingExtraError

# none: not signed. unverified: signed, but `cryptography` is not installed to look. valid: made with the key it names,
# whosever that is. trusted: made with the key that was required.
SignatureState = Literal["none", "unverified", "valid", "trusted"]


class SignatureFacts(msgspec.Struct, frozen=True):
    """How far the signature of a bundle was looked at, and the fingerprint of the key that it names."""

    state: SignatureState
    fingerprint: str = ""


class Inspection(msgspec.Struct, frozen=True):
    """A bundle whose files have the sizes and hashes that its manifest states.

    manifest_sha256: of the manifest's bytes, hex; it stands for the whole bundle.
    calibration_windows: kept for quantizing again, of training subjects; None where the bundle has none.
    golden_windows: with answers, for the self-check of an engine. engines: files in `engines_folder`, where this user
    built them of the bundle; they are no part of it. engines_folder: empty where the user has no home.
    """

    path: str
    kind: Literal["directory", "zip"]
    bytes: int
    manifest_sha256: str
    signature: SignatureFacts
    calibration_windows: int | None
    golden_windows: int
    engines_folder: str
    engines: dict[str, FileFacts]
    manifest: Manifest


def inspect_bundle(source: Path, *, trusted_key: Path | None = None) -> Inspection:
    """Open and describe a bundle. A signature is verified where `cryptography` is installed.

    Raises what `open_bundle` raises, BundleError where the signature is not valid, and ConfigError where engines of the
    bundle are there and cannot be read.
    """
    bundle = open_bundle(source, trusted_key=trusted_key)
    manifest_path = bundle.root / MANIFEST
    folder = _engines_folder(bundle)
    calibration = bundle.arrays("calibration.npz").get("windows") if _has(bundle, "calibration.npz") else None
    return Inspection(
        path=str(bundle),
        kind="directory" if bundle.source is None else "zip",
        bytes=manifest_path.stat().st_size + sum(facts.bytes for facts in bundle.manifest.files.values()),
        manifest_sha256=sha256_of(manifest_path),
        signature=_look_at_signature(bundle, manifest_path.read_bytes(), source),
        calibration_windows=None if calibration is None or not calibration.ndim else len(calibration),
        golden_windows=len(bundle.golden().labels),
        engines_folder="" if folder is None else str(folder),
        engines={} if folder is None else _engines(folder),
        manifest=bundle.manifest,
    )


def _engines_folder(bundle: Bundle) -> Path | None:
    try:
        return engines_folder(bundle.manifest.sha256)
    except ConfigError:  # Without a home there are no engines either.
        return None


def _engines(folder: Path) -> dict[str, FileFacts]:
    """The files in the folder, but for the lock and what a build at work has there."""
    try:
        paths = sorted(path for path in folder.glob("[!.]*") if path.is_file())
        return {path.name: FileFacts(path.stat().st_size, sha256_of(path)) for path in paths}
    except OSError as error:
        raise ConfigError(f"engines in {folder} cannot be read ({error.strerror}); set XDG_DATA_HOME") from error


def _has(bundle: Bundle, name: str) -> bool:
    return name in bundle.manifest.files


def _look_at_signature(bundle: Bundle, manifest: bytes, source: Path) -> SignatureFacts:
    if bundle.signature is None:
        return SignatureFacts("none")
    if bundle.trusted:
        return SignatureFacts("trusted", bundle.signature.fingerprint)
    try:
        verify(bundle.signature, manifest, source)
    except MissingExtraError:
        return SignatureFacts("unverified", bundle.signature.fingerprint)
    return SignatureFacts("valid", bundle.signature.fingerprint)
