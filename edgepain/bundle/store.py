"""A bundle on disk: opened and checked, or written."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import weakref
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from edgepain.bundle.archive import unpack
from edgepain.bundle.manifest import FileFacts, GraphFacts, Manifest, Precision, decode_manifest, seal
from edgepain.bundle.names import MANIFEST, SIGNATURE, may_be_listed
from edgepain.bundle.onnx_files import require_own_files
from edgepain.bundle.signature import MAX_BYTES as MAX_SIGNATURE_BYTES
from edgepain.bundle.signature import Signature, decode_signature, read_public_key, require_trusted
from edgepain.errors import BundleError, BundleMismatchError
from edgepain.signal import StreamInfo

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 30
# Arrays unpack to no more: a file of a few megabytes must not fill the memory.
MAX_ARRAYS_BYTES = 1 << 28


@dataclass(frozen=True)
class Golden:
    """Windows with reference answers.

    windows: [G, M, S] float32, scaled. labels: [G] int64, true classes. logits: for `torch` and every
    precision of the bundle the answers [G, K] float32 as they were at export.
    """

    windows: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    logits: Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Bundle:
    """A checked bundle.

    root: the directory of its files; of a zip, a private one that is gone when this object is, or the process ends.
    source: what the user named, where that is not `root`. signature: is whole and of this manifest, but verified only
    where `trusted`: made with the key that `open_bundle` was told to require.
    """

    root: Path
    manifest: Manifest
    source: Path | None = field(default=None, compare=False)
    signature: Signature | None = None
    trusted: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return str(self.source or self.root)

    def graph(self, precision: Precision | None = None) -> GraphFacts:
        """The graph of that precision; by default INT8 where the bundle has it, else fp32."""
        by_precision = {g.precision: g for g in self.manifest.graphs}
        if precision is None:
            return by_precision.get("int8") or self.manifest.graphs[0]
        if precision not in by_precision:
            has = ", ".join(sorted(by_precision))
            raise BundleMismatchError(
                f"bundle {self} has no {precision} graph (it has {has}); "
                f"choose one of these or export again with --precision {precision}"
            )
        return by_precision[precision]

    def golden(self) -> Golden:
        """The golden windows. Raises BundleError where they do not fit the manifest."""
        arrays = self.arrays("golden.npz")
        if any(array.dtype.kind not in "fi" for array in arrays.values()):
            raise BundleError(f"golden.npz in {self} holds something that is no number; export the bundle again")
        network = self.manifest.network
        windows = arrays.get("windows", np.empty(0))
        labels = arrays.get("labels", np.empty(0))
        logits = {n.removeprefix("logits_"): array for n, array in arrays.items() if n.startswith("logits_")}
        count = labels.size
        types_fit = labels.dtype.kind == "i" and all(a.dtype == np.float32 for a in (windows, *logits.values()))
        shapes_fit = (
            windows.shape == (count, len(network.modalities), network.steps)
            and labels.shape == (count,)
            and all(a.shape == (count, network.classes) for a in logits.values())
        )
        complete = all(g.precision in logits for g in self.manifest.graphs)
        if not (count and types_fit and shapes_fit and complete):
            raise BundleError(f"golden.npz in {self} does not fit the manifest; export the bundle again")
        as_float32 = {name: array.astype(np.float32) for name, array in logits.items()}
        return Golden(windows.astype(np.float32), labels.astype(np.int64), as_float32)

    def arrays(self, name: str) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays of an npz file of the bundle. Raises BundleError where it is none, or too large."""
        return _read_npz(self.root / name, f"{self}/{name}")

    def require(self, streams: Sequence[StreamInfo], device: str) -> None:
        """Refuse a sensor whose streams do not fit: BundleMismatchError says which and why."""
        offered = {s.modality: s for s in streams}
        for need in self.manifest.modalities:
            stream = offered.get(need.modality)
            if stream is None:
                has = ", ".join(str(m) for m in offered) or "no signal it knows"
                raise BundleMismatchError(
                    f"bundle {self.manifest.name!r} needs {need.modality}, but {device} gives {has}; "
                    f"connect a sensor with {need.modality} or use a bundle trained on what it gives"
                )
            if stream.unit != need.unit:
                raise BundleMismatchError(
                    f"bundle {self.manifest.name!r} needs {need.modality} in {need.unit}, but {device} gives it "
                    f"in {stream.unit}; set the device's unit or calibration"
                )
            if not need.min_rate_hz <= stream.rate_hz <= need.max_rate_hz:
                raise BundleMismatchError(
                    f"bundle {self.manifest.name!r} accepts {need.modality} at {need.min_rate_hz:g} to "
                    f"{need.max_rate_hz:g} Hz, but {device} gives {stream.rate_hz:g} Hz; change its rate"
                )


def open_bundle(source: Path | str, *, trusted_key: Path | None = None) -> Bundle:
    """Read the manifest of a directory, or of a zip of one, and check every file it lists.

    trusted_key: file of a public key, with which the manifest must be signed.

    Raises BundleError where it is no bundle, is of another schema, is not signed as it must be, or a file is missing,
    unlisted, or has another size or hash than the manifest states; ConfigError where `trusted_key` is no such key.
    """
    source = Path(source)
    trusted = None if trusted_key is None else read_public_key(trusted_key)
    if source.is_file():
        return _open_archive(source, trusted)
    if not source.is_dir():
        raise BundleError(f"{source} is not a bundle directory; make one with: edgepain export RUN --out {source}")
    return _open_directory(source, source, trusted)


def _open_archive(archive: Path, trusted: Ed25519PublicKey | None) -> Bundle:
    folder = tempfile.mkdtemp(prefix="edgepain-bundle-")
    try:
        unpack(archive, Path(folder))
        bundle = _open_directory(Path(folder), archive, trusted)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(bundle, shutil.rmtree, folder, ignore_errors=True)
    return bundle


def _open_directory(root: Path, source: Path, trusted: Ed25519PublicKey | None) -> Bundle:
    try:
        sealed = _read_small(root, MANIFEST, MAX_MANIFEST_BYTES, source)
        if sealed is None:
            raise BundleError(f"{source} has no {MANIFEST}, so it is not a bundle; make one with: edgepain export RUN")
        manifest = decode_manifest(sealed, source / MANIFEST)
        signed = _read_small(root, SIGNATURE, MAX_SIGNATURE_BYTES, source)
        signature = None if signed is None else decode_signature(signed, sealed, source / SIGNATURE)
        if trusted is not None:
            require_trusted(signature, sealed, trusted, source)
        _check_files(root, source, manifest)
    except OSError as error:  # A name that is too long, a file that may not be read.
        raise BundleError(f"a file of bundle {source} cannot be read ({error}); copy it again") from error
    return Bundle(root, manifest, None if root == source else source, signature, trusted is not None)


def _read_small(root: Path, name: str, limit_bytes: int, source: Path) -> bytes | None:
    """A file that is read whole, or None where there is none. Raises BundleError where it is larger than that."""
    path = root / name
    if path.is_symlink() or not path.is_file():
        return None
    with path.open("rb") as file:
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise BundleError(f"{source / name} is larger than {limit_bytes} bytes and was not read")
    return data


def demonstration_bundle() -> Path:
    """The bundle that is packaged for trying things out. Raises BundleError where the package is without it."""
    path = Path(str(resources.files("edgepain"))) / "demo" / "bundle"
    if not (path / MANIFEST).is_file():
        raise BundleError(
            f"this installation has no demonstration bundle ({path} is missing); name a bundle of your own"
        )
    return path


def write_manifest(root: Path, manifest: Manifest) -> Bundle:
    """Fill in size and hash of every file in `root`, write the manifest, and open the result."""
    files = {
        name: FileFacts(path.stat().st_size, sha256_of(path))
        for path in sorted(root.rglob("*"))
        if path.is_file() and may_be_listed(name := path.relative_to(root).as_posix())
    }
    complete = msgspec.structs.replace(manifest, files=files)
    (root / MANIFEST).write_bytes(seal(msgspec.to_builtins(complete)))
    return open_bundle(root)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_files(root: Path, source: Path, manifest: Manifest) -> None:
    for name, facts in manifest.files.items():
        _check_file(root, source, name, facts)
        if name.endswith(".onnx"):
            require_own_files(name, (root / name).read_bytes(), manifest.files, str(source / name))
    expected = {*manifest.files, MANIFEST, SIGNATURE}
    folders = {str(folder) for name in manifest.files for folder in PurePosixPath(name).parents}
    for parent, subfolders, names in os.walk(root, onerror=_raise):
        below = Path(parent).relative_to(root)
        for name in (*subfolders, *names):
            path = below / name
            link = (root / path).is_symlink()
            known = path.as_posix() in (expected if name in names else folders)
            if link or not known:
                what = "is a link" if link else "is not listed in the manifest"
                raise BundleError(f"{source / path} {what}; remove it or export the bundle again")


def _raise(error: OSError) -> None:
    raise error


def _check_file(root: Path, source: Path, name: str, facts: FileFacts) -> None:
    if not may_be_listed(name):
        raise BundleError(f"manifest of {source} lists {name!r}, which is not a path inside the bundle")
    path, shown = root / name, source / name
    if path.is_symlink() or not path.is_file():
        raise BundleError(f"{shown} is missing; copy or export the bundle again")
    size = path.stat().st_size
    if size != facts.bytes or size > MAX_FILE_BYTES:
        raise BundleError(f"{shown} has {size} bytes, the manifest says {facts.bytes}; copy or export the bundle again")
    if sha256_of(path) != facts.sha256:
        raise BundleError(f"{shown} was changed after export (SHA-256 differs); copy or export the bundle again")


def _read_npz(path: Path, shown: str) -> dict[str, npt.NDArray[np.generic]]:
    try:
        # Opened here, because numpy leaves the file open when it cannot read it.
        with path.open("rb") as file, zipfile.ZipFile(file) as members:
            if sum(info.file_size for info in members.infolist()) > MAX_ARRAYS_BYTES:
                raise ValueError(f"it unpacks to more than {MAX_ARRAYS_BYTES >> 20} MiB")
            names = [info.filename for info in members.infolist()]
            return {name.removesuffix(".npy"): _read_npy(members, name) for name in names}
    except Exception as error:  # The readers of zip, deflate and npy raise a dozen kinds for damaged files.
        raise BundleError(f"{shown} cannot be read ({error}); export the bundle again") from error


def _read_npy(members: zipfile.ZipFile, name: str) -> npt.NDArray[np.generic]:
    with members.open(name) as member:
        array: npt.NDArray[np.generic] = np.lib.format.read_array(member, allow_pickle=False)
        return array
