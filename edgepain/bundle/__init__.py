"""The model bundle: one directory with everything a device needs, and nothing executable.

    manifest.json      what it is, for which signals, trained on what, how accurate; SHA-256 of every file and of itself
    model.onnx         the network in fp32, if the bundle carries it
    model.int8.onnx    the network in INT8, if the bundle carries it
    golden.npz         real windows and the reference answers; every engine is checked against them
    calibration.npz    windows of training subjects only, for quantizing again on a device
    tensorrt/          graphs for TensorRT and the recipe to build engines of them, if the bundle is for a Jetson
    engines/           built on this device by `edgepain build`; outside the manifest, checked by its own sidecars

A bundle is hostile until checked: `open_bundle` reads nothing but the manifest before every listed file
has the size and hash that the manifest states, and arrays are read without pickles.
"""

from edgepain.bundle.manifest import (
    SCALINGS,
    SCHEMA,
    AccuracyFacts,
    FileFacts,
    GraphFacts,
    Manifest,
    ModalitySpec,
    NetworkSpec,
    Precision,
    Scaling,
    ScalingFacts,
    TargetFacts,
    TrainingFacts,
    WindowFacts,
    seal,
)
from edgepain.bundle.store import (
    ENGINES,
    MANIFEST,
    Bundle,
    Golden,
    demonstration_bundle,
    open_bundle,
    sha256_of,
    write_manifest,
)

__all__ = [
    "ENGINES",
    "MANIFEST",
    "SCALINGS",
    "SCHEMA",
    "AccuracyFacts",
    "Bundle",
    "FileFacts",
    "Golden",
    "GraphFacts",
    "Manifest",
    "ModalitySpec",
    "NetworkSpec",
    "Precision",
    "Scaling",
    "ScalingFacts",
    "TargetFacts",
    "TrainingFacts",
    "WindowFacts",
    "demonstration_bundle",
    "open_bundle",
    "seal",
    "sha256_of",
    "write_manifest",
]
