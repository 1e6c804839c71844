"""The model bundle: one directory with everything a device needs, and nothing executable.

    manifest.json      what it is, for which signals, trained on what, how accurate; SHA-256 of every file and of itself
    model.onnx         the network in fp32, if the bundle carries it
    model.int8.onnx    the network in INT8, if the bundle carries it
    golden.npz         real windows and the reference answers; every engine is checked against them
    calibration.npz    windows of training subjects only, for quantizing again on a device

A bundle is hostile until checked: `open_bundle` reads nothing but the manifest before every listed file
has the size and hash that the manifest states, and arrays are read without pickles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from edgepain.errors import BundleError, BundleMismatchError
from edgepain.signal import Modality, ScalingSpec, StreamInfo, WindowSpec

SCHEMA = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 30

Precision = Literal["fp32", "int8"]
Scaling = Literal["subject", "causal"]
SCALINGS: tuple[Scaling, ...] = ("subject", "causal")


class NetworkSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shape of the network. `fusion` is one of the two readings of the paper's multi-modal stream."""

    modalities: tuple[Modality, ...]
    classes: int
    fusion: Literal["pooled", "sequence"] = "pooled"
    steps: int = 138
    width: int = 128
    heads: int = 8

    def __post_init__(self) -> None:
        if len(self.modalities) != 2 or len(set(self.modalities)) != 2:
            raise ValueError("modalities must be two different ones")
        if self.classes not in (2, 3):
            raise ValueError("classes must be 2 or 3")
        if self.steps < 2 or self.heads < 1 or self.width < 2 or self.width % self.heads or self.width % 2:
            raise ValueError("width must be even and a multiple of heads, steps at least 2")


class ModalitySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signal the bundle needs: its unit, and the sampling rates it accepts."""

    modality: Modality
    unit: str
    min_rate_hz: float
    max_rate_hz: float


class WindowFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Length and points of a window (`WindowSpec`)."""

    seconds: float
    steps: int


class ScalingFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How windows were scaled in training, and the causal form that live use applies (`ScalingSpec`)."""

    trained_with: Scaling
    min_history_s: float
    horizon_s: float
    limit_iqr: Annotated[float, msgspec.Meta(gt=0)] | None = None


class TrainingFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the weights come from, in words and numbers a person asks for. held_out: ids of those subjects.

    fold: of the run, where it has several. modality_dropout: chance with which the fusion was shown a window without
    one of its modalities; above 0, it can answer without one.
    """

    dataset: str
    task: str
    protocol: str
    train_subjects: int
    held_out_subjects: int
    train_windows: int
    config: str
    seed: int
    synthetic: bool
    held_out: tuple[str, ...] = ()
    fold: str = ""
    modality_dropout: float = 0.0


class AccuracyFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Accuracy on windows of held-out subjects, for one precision and one scaling.

    missing_classes: indices of labels that no window has under this scaling; the accuracies are None then, for one
    over the other classes says nothing of the whole. without: a modality that was taken away from the windows.
    """

    precision: Literal["torch", "fp32", "int8"]
    scaling: Scaling
    windows: int
    accuracy: float | None
    balanced_accuracy: float | None
    changed_labels: int
    max_probability_difference: float
    mean_probability_difference: float = 0.0
    missing_classes: tuple[int, ...] = ()
    without: Modality | None = None


class GraphFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ONNX graph: how it was made, how far its answers may be from the golden ones on this or another CPU.

    activation_percentile: beyond which statically quantized activations saturate, chosen on training windows.
    sensitive_operators: those that stay in float because INT8 moved the answers to training windows too far.
    """

    precision: Precision
    file: str
    opset: int
    quantized_operators: dict[str, int]
    float_operators: dict[str, int]
    int8_weight_share: float
    golden_tolerance: float
    activation_percentile: float | None = None
    sensitive_operators: tuple[str, ...] = ()


class FileFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size and SHA-256 (hex) of a file of the bundle."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a device and a person need to know of a bundle. sha256: see `seal`."""

    schema: int
    name: str
    created: str
    demonstration: bool
    modalities: tuple[ModalitySpec, ...]
    window: WindowFacts
    scaling: ScalingFacts
    labels: tuple[str, ...]
    network: NetworkSpec
    training: TrainingFacts
    accuracy: tuple[AccuracyFacts, ...]
    graphs: tuple[GraphFacts, ...]
    tools: dict[str, str]
    files: dict[str, FileFacts]
    notes: tuple[str, ...] = ()
    sha256: str = ""

    def __post_init__(self) -> None:
        if tuple(m.modality for m in self.modalities) != self.network.modalities:
            raise ValueError("modalities and network.modalities differ")
        if len(self.labels) != self.network.classes:
            raise ValueError("one label a class is needed")
        if self.window.steps != self.network.steps or not 0 < self.window.seconds < 3600:
            raise ValueError("window does not fit the network")
        if not (0 <= self.scaling.min_history_s <= self.scaling.horizon_s <= 86400):
            raise ValueError("scaling must have 0 <= min_history_s <= horizon_s <= 86400")
        if not self.graphs or len({g.precision for g in self.graphs}) != len(self.graphs):
            raise ValueError("one graph a precision is needed, and at least one")
        for graph in self.graphs:
            if graph.file not in self.files:
                raise ValueError(f"graph file {graph.file!r} is not listed under files")

    @property
    def window_spec(self) -> WindowSpec:
        """The window as the signal room takes it."""
        return WindowSpec(self.window.seconds, self.window.steps)

    @property
    def scaling_spec(self) -> ScalingSpec:
        """The scaling as the signal room takes it."""
        return ScalingSpec(self.scaling.min_history_s, self.scaling.horizon_s, self.scaling.limit_iqr)


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
    manifest = _decode_manifest(path)
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


def seal(manifest: Mapping[str, object]) -> bytes:
    """The manifest as JSON with its own SHA-256 in it, over all other fields in sorted order.

    It shows a slip of an editor or a disk. It is no signature: who means harm can compute it again.
    """
    sealed = {**manifest, "sha256": _seal_of(manifest)}
    return msgspec.json.format(msgspec.json.encode(sealed), indent=2) + b"\n"


def _seal_of(manifest: Mapping[str, object]) -> str:
    unsealed = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(msgspec.json.encode(unsealed, order="sorted")).hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class _SchemaOnly(msgspec.Struct):
    schema: int


def _decode_manifest(path: Path) -> Manifest:
    data = path.read_bytes()
    try:
        schema = msgspec.json.decode(data, type=_SchemaOnly).schema
        if schema > SCHEMA:
            raise BundleError(
                f"{path} has schema {schema}, this edgepain reads up to {SCHEMA}; install a newer edgepain"
            )
        manifest = msgspec.json.decode(data, type=Manifest)
        if manifest.sha256 != _seal_of(msgspec.json.decode(data)):
            raise BundleError(f"{path} was changed after export (SHA-256 differs); copy or export the bundle again")
        return manifest
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise BundleError(f"{path} is damaged or no manifest ({error}); copy or export the bundle again") from error


def _check_files(root: Path, manifest: Manifest) -> None:
    for name, facts in manifest.files.items():
        _check_file(root, name, facts)
    listed = {*manifest.files, MANIFEST}
    for found in root.rglob("*"):
        if not found.is_dir() and found.relative_to(root).as_posix() not in listed:
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
