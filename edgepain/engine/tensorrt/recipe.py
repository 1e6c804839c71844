"""The recipe of a bundle for a Jetson: which graph each TensorRT takes, and how an engine is built of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from edgepain.bundle import Bundle, Scaling
from edgepain.errors import BundleError, BundleMismatchError
from edgepain.signal import Modality

SCHEMA = 1
FOLDER = "tensorrt"
FILE = f"{FOLDER}/recipe.json"
WEIGHTS = f"{FOLDER}/weights.bin"

EnginePrecision = Literal["fp16", "int8"]
Version = tuple[int, ...]
Count = Annotated[int, msgspec.Meta(ge=0)]


class GraphAnswers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Answers of a graph in ONNX Runtime on the CPU beside torch's, on windows of held-out subjects."""

    scaling: Scaling
    without: Modality | None
    windows: Count
    accuracy: float | None
    changed_labels: Count
    max_probability_difference: float
    mean_probability_difference: float


class TensorRtGraph(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ONNX graph, with the weights beside it.

    precision: of the engine. flags: names of `BuilderFlag` that a weakly typed network needs. golden: name of the
    answers in golden.npz that an engine is compared with; golden_tolerance: how far its probabilities may be off.
    """

    file: str
    precision: EnginePrecision
    opset: int
    flags: tuple[Literal["FP16", "INT8"], ...]
    golden: str
    golden_tolerance: Annotated[float, msgspec.Meta(gt=0, le=1)]
    quantized_operators: dict[str, int]
    float_operators: dict[str, int]
    int8_weight_share: float
    answers: tuple[GraphAnswers, ...]


class Variant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What TensorRT of a range of versions takes: `since` included, `below` not."""

    since: tuple[int, int]
    below: tuple[int, int]
    strongly_typed: bool
    graphs: tuple[TensorRtGraph, ...]

    def graph(self, precision: EnginePrecision) -> TensorRtGraph:
        """The graph of that precision."""
        return next(graph for graph in self.graphs if graph.precision == precision)


class CalibrationFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the ranges of INT8 come from. windows: of training subjects; sensitive_layers: kept in float for it."""

    windows: Count
    percentile: float
    mean_probability_difference: float
    sensitive_layers: tuple[str, ...] = ()


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything `edgepain build` needs to know beside the graphs."""

    schema: int
    workspace_mb: Annotated[int, msgspec.Meta(gt=0)]
    calibration: CalibrationFacts
    variants: tuple[Variant, ...]

    def __post_init__(self) -> None:
        if not self.variants:
            raise ValueError("it has no graphs for any TensorRT")
        for variant in self.variants:
            if sorted(graph.precision for graph in variant.graphs) != ["fp16", "int8"]:
                raise ValueError("every range of versions needs one fp16 and one int8 graph")

    def variant(self, version: Version) -> Variant:
        """The one for a version of TensorRT. Raises BundleMismatchError where there is none."""
        for variant in self.variants:
            if variant.since <= version[:2] < variant.below:
                return variant
        since, below = min(v.since for v in self.variants), max(v.below for v in self.variants)
        raise BundleMismatchError(
            f"the bundle has graphs for TensorRT {_words(since)} up to, not including, {_words(below)}, this is "
            f"{_words(version)}; install such a TensorRT or export the bundle with a newer edgepain"
        )


def read_recipe(bundle: Bundle) -> Recipe:
    """The recipe of a checked bundle.

    Raises BundleMismatchError where the bundle was not exported for a Jetson, BundleError where its recipe is no
    recipe, of a newer schema, or names graphs that the bundle does not have.
    """
    target = next((t for t in bundle.manifest.targets if t.name == "jetson"), None)
    if target is None:
        raise BundleMismatchError(f"bundle {bundle} has no graphs for TensorRT; export it again with --target jetson")
    path = bundle.root / target.recipe
    try:
        data = path.read_bytes()
        if (schema := msgspec.json.decode(data, type=_SchemaOnly).schema) > SCHEMA:
            raise BundleError(
                f"{path} has schema {schema}, this edgepain reads up to {SCHEMA}; install a newer edgepain"
            )
        recipe = msgspec.json.decode(data, type=Recipe)
    except (msgspec.DecodeError, OSError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise BundleError(f"{path} is damaged or no recipe ({reason}); export the bundle again") from error
    for variant in recipe.variants:
        for graph in variant.graphs:
            if graph.file not in bundle.manifest.files or graph.golden not in bundle.golden().logits:
                raise BundleError(f"{path} names {graph.file!r}, which the bundle does not have; export it again")
    return recipe


def graph_sha256(bundle: Bundle, graph: TensorRtGraph) -> str:
    """SHA-256 (hex) of a graph together with its weights, as the manifest states them."""
    files = bundle.manifest.files
    parts = [files[graph.file].sha256, *([files[WEIGHTS].sha256] if WEIGHTS in files else [])]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def write_recipe(root: Path, recipe: Recipe) -> None:
    """Write `tensorrt/recipe.json` below `root`."""
    (root / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(recipe), indent=2) + b"\n")


def _words(version: Version) -> str:
    return ".".join(map(str, version))


class _SchemaOnly(msgspec.Struct):
    schema: int
