"""The manifest of a bundle: everything a device and a person need to know of it, sealed by its own hash."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edgepain import __version__
from edgepain.errors import BundleError
from edgepain.signal import Modality, ScalingSpec, WindowSpec

# 1: first. 2: with a fold, a modality that may be missing, limits of scaled values, targets, and optimized graphs.
SCHEMA = 2

Precision = Literal["fp32", "int8"]
Scaling = Literal["subject", "causal"]
SCALINGS: tuple[Scaling, ...] = ("subject", "causal")


class NetworkSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shape of the network. `fusion` is one of the two readings of the paper's multi-modal stream.

    stride: time steps that one token of the blocks stands for, 1 in the paper.
    """

    modalities: tuple[Modality, ...]
    classes: int
    fusion: Literal["pooled", "sequence"] = "pooled"
    steps: int = 138
    width: int = 128
    heads: int = 8
    stride: int = 1

    def __post_init__(self) -> None:
        if len(self.modalities) != 2 or len(set(self.modalities)) != 2:
            raise ValueError("modalities must be two different ones")
        if self.classes not in (2, 3):
            raise ValueError("classes must be 2 or 3")
        if self.steps < 2 or self.heads < 1 or self.width < 2 or self.width % self.heads or self.width % 2:
            raise ValueError("width must be even and a multiple of heads, steps at least 2")
        if not 1 <= self.stride <= self.steps // 2:
            raise ValueError("stride must be at least 1 and leave two tokens")

    @property
    def tokens(self) -> int:
        """Tokens of a window, ⌈steps / stride⌉."""
        return -(-self.steps // self.stride)


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


class OptimizedFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same graph as ONNX Runtime had rearranged it (.ort), for that release on that kind of processor alone."""

    file: str
    onnxruntime: str
    processor: str


class GraphFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ONNX graph: how it was made, how far its answers may be from the golden ones on this or another CPU.

    activation_percentile: beyond which statically quantized activations saturate, chosen on training windows.
    sensitive_operators: those that stay in float because INT8 moved the answers to training windows too far.
    optimized: loads faster where it fits; the answers are the same.
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
    optimized: OptimizedFacts | None = None


class TargetFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Graphs for a device, beside those for the CPU. recipe: the file that lists them and says how to use them."""

    name: Literal["jetson"]
    recipe: str


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
    targets: tuple[TargetFacts, ...] = ()
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
            if graph.file not in self.files or not graph.file.endswith((".onnx", ".ort")):
                raise ValueError(f"graph file {graph.file!r} is not listed under files, or not called .onnx or .ort")
            if graph.optimized and not (graph.optimized.file in self.files and graph.optimized.file.endswith(".ort")):
                raise ValueError(f"graph file {graph.optimized.file!r} is not listed under files, or not called .ort")
        for target in self.targets:
            if target.recipe not in self.files:
                raise ValueError(f"recipe {target.recipe!r} of {target.name} is not listed under files")

    @property
    def window_spec(self) -> WindowSpec:
        """The window as the signal room takes it."""
        return WindowSpec(self.window.seconds, self.window.steps)

    @property
    def scaling_spec(self) -> ScalingSpec:
        """The scaling as the signal room takes it."""
        return ScalingSpec(self.scaling.min_history_s, self.scaling.horizon_s, self.scaling.limit_iqr)


def seal(facts: Mapping[str, object]) -> bytes:
    """`facts` as JSON with their own SHA-256 among them, over all other fields in sorted order.

    It shows a slip of an editor or a disk. It is no signature: who means harm can compute it again.
    """
    sealed = {**facts, "sha256": _seal_of(facts)}
    return msgspec.json.format(msgspec.json.encode(sealed), indent=2) + b"\n"


def unseal(data: bytes, shown: Path) -> dict[str, object]:
    """What `seal` wrote, byte for byte. `shown`: how the file is called towards the user.

    Raises BundleError where it is anything else, or holds a text that would do more to a terminal than be read.
    """
    try:
        facts = msgspec.json.decode(data, type=dict[str, object])
        intact = data == seal(facts)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeError, RecursionError, OverflowError) as error:
        raise _damaged(shown, error) from error
    if not _printable(facts):
        raise BundleError(f"{shown} holds characters that cannot be shown; copy or export the bundle again")
    if not intact:
        raise BundleError(f"{shown} was changed after export (SHA-256 differs); copy or export the bundle again")
    return facts


def decode_manifest(data: bytes, shown: Path) -> Manifest:
    """A manifest as `seal` wrote it. `shown`: how the file is called towards the user.

    Raises BundleError where it is of another schema, was changed, or contradicts itself.
    """
    try:
        _require_schema(msgspec.json.decode(data, type=_Origin), shown)
        unseal(data, shown)
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeError, RecursionError, OverflowError) as error:
        raise _damaged(shown, error) from error


class _Origin(msgspec.Struct):
    """What every schema has in common."""

    schema: int
    tools: dict[str, object] = {}


def _require_schema(origin: _Origin, shown: Path) -> None:
    if origin.schema > SCHEMA:
        maker = str(origin.tools.get("edgepain", ""))
        known = re.fullmatch(r"[0-9][0-9A-Za-z.+-]{0,30}", maker) is not None
        raise BundleError(
            f"{shown} was made by {f'edgepain {maker}' if known else 'a newer edgepain'} and has schema "
            f"{origin.schema}, this edgepain {__version__} reads up to {SCHEMA}; install "
            f"{f'edgepain {maker} or newer' if known else 'a newer edgepain'}"
        )
    if origin.schema < 1:
        raise BundleError(f"{shown} has schema {origin.schema}, which never was; copy or export the bundle again")


def _seal_of(facts: Mapping[str, object]) -> str:
    unsealed = {name: value for name, value in facts.items() if name != "sha256"}
    return hashlib.sha256(msgspec.json.encode(unsealed, order="sorted")).hexdigest()


def _printable(value: object) -> bool:
    if isinstance(value, str):
        return value.isprintable()
    if isinstance(value, dict):
        return all(_printable(name) and _printable(inner) for name, inner in value.items())
    return all(map(_printable, value)) if isinstance(value, list) else True


def _damaged(shown: Path, error: Exception) -> BundleError:
    # The reason may quote what it found.
    reason = "".join(c if c.isprintable() else "?" for c in str(error))
    return BundleError(f"{shown} is damaged or not what its name says ({reason}); copy or export the bundle again")
