"""A bundle on disk: opened and checked, or written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath

import msgspec
import numpy as np
import numpy.typing as npt

from edgepain.bundle.manifest import FileFacts, GraphFacts, Manifest, Precision, decode_manifest, seal
from edgepain.errors import BundleError, BundleMismatchError
from edgepain.signal import StreamInfo

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 30
# Engines belong to one device and come after the manifest: `edgepain.engine.tensorrt` checks what lies there.
ENGINES = "engines"


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
    """A checked bundle on disk."""

    root: Path
    manifest: Manifest

    def graph(self, precision: Precision | None = None) -> GraphFacts:
        """The graph of that precision; by default INT8 where the bundle has it, else fp32."""
        by_precision = {g.precision: g for g in self.manifest.graphs}
        if precision is None:
            return by_precision.get("int8") or self.manifest.graphs[0]
        if precision not in by_precision:
            has = ", ".join(sorted(by_precision))
            raise BundleMismatchError(
                f"bundle {self.root} has no {precision} graph (it has {has}); "
                f"choose one of these or export again with --precision {precision}"
            )
        return by_precision[precision]

    def golden(self) -> Golden:
        """The golden windows. Raises BundleError where they do not fit the manifest."""
        arrays = _read_npz(self.root / "golden.npz")
        if any(array.dtype.kind not in "fi" for array in arrays.values()):
            raise BundleError(f"golden.npz in {self.root} holds something that is no number; export the bundle again")
        network = self.manifest.network
        windows = arrays.get("windows", np.empty(0)).astype(np.float32)
        labels = arrays.get("labels", np.empty(0)).astype(np.int64)
        logits = {
            name.removeprefix("logits_"): array.astype(np.float32)
            for name, array in arrays.items()
            if name.startswith("logits_")
        }
        count = len(windows)
        shapes_fit = (
            windows.shape == (count, len(network.modalities), network.steps)
            and labels.shape == (count,)
            and all(a.shape == (count, network.classes) for a in logits.values())
        )
        if count == 0 or not shapes_fit or any(g.precision not in logits for g in self.manifest.graphs):
            raise BundleError(f"golden.npz in {self.root} does not fit the manifest; export the bundle again")
        return Golden(windows, labels, logits)

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


def open_bundle(root: Path | str) -> Bundle:
    """Read the manifest and check every file it lists.

    Raises BundleError where the directory is no bundle, is of a newer schema, or a file is missing, unlisted,
    or has another size or hash than the manifest states.
    """
    root = Path(root)
    path = root / MANIFEST
    if not root.is_dir():
        raise BundleError(f"{root} is not a bundle directory; make one with: edgepain export RUN --out {root}")
    if not path.is_file():
        raise BundleError(f"{root} has no {MANIFEST}, so it is not a bundle; make one with: edgepain export RUN")
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(f"{path} is larger than {MAX_MANIFEST_BYTES} bytes and was not read")
    manifest = decode_manifest(path)
    try:
        _check_files(root, manifest)
    except OSError as error:  # A name that is too long, a file that may not be read.
        raise BundleError(f"a file of bundle {root} cannot be read ({error}); copy it again") from error
    return Bundle(root, manifest)


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
        p.relative_to(root).as_posix(): FileFacts(p.stat().st_size, sha256_of(p))
        for p in sorted(root.rglob("*"))
        if p.is_file() and p.name != MANIFEST
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


def _check_files(root: Path, manifest: Manifest) -> None:
    for name, facts in manifest.files.items():
        _check_file(root, name, facts)
    listed = {*manifest.files, MANIFEST}
    for found in root.rglob("*"):
        relative = found.relative_to(root)
        if relative.parts[0] != ENGINES and not found.is_dir() and relative.as_posix() not in listed:
            raise BundleError(f"{found} is not listed in the manifest; remove it or export the bundle again")


def _check_file(root: Path, name: str, facts: FileFacts) -> None:
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or name != relative.as_posix() or "\\" in name:
        raise BundleError(f"manifest of {root} lists {name!r}, which is not a path inside the bundle")
    path = root / relative
    if path.is_symlink() or not path.is_file():
        raise BundleError(f"{path} is missing; copy or export the bundle again")
    size = path.stat().st_size
    if size != facts.bytes or size > MAX_FILE_BYTES:
        raise BundleError(f"{path} has {size} bytes, the manifest says {facts.bytes}; copy or export the bundle again")
    if sha256_of(path) != facts.sha256:
        raise BundleError(f"{path} was changed after export (SHA-256 differs); copy or export the bundle again")


def _read_npz(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    try:
        # Opened here, because numpy leaves the file open when it cannot read it.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # The readers of zip, deflate and npy raise a dozen kinds for damaged files.
        raise BundleError(f"{path} cannot be read ({error}); export the bundle again") from error
