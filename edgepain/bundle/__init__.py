"""The model bundle: one directory, or one zip of it, with everything a device needs, and nothing executable.

    manifest.json      what it is, for which signals, trained on what, how accurate; SHA-256 of every file and of itself
    model.onnx         the network in fp32, if the bundle carries it
    model.int8.onnx    the network in INT8, if the bundle carries it
    golden.npz         real windows and the reference answers; every engine is checked against them
    calibration.npz    windows of training subjects only, for quantizing again on a device
    tensorrt/          graphs for TensorRT and the recipe to build engines of them, if the bundle is for a Jetson
    signature.json     Ed25519 signature of the manifest, if the bundle is signed

A bundle is hostile until checked: `open_bundle` reads nothing but the manifest before every listed file
has the size and hash that the manifest states, and arrays are read without pickles.
"""

from edgepain.bundle.archive import pack
from edgepain.bundle.inspection import Inspection, SignatureFacts, inspect_bundle
from edgepain.bundle.local import engines_folder
from edgepain.bundle.manifest import (
    SCALINGS,
    SCHEMA,
    AccuracyFacts,
    FileFacts,
    GraphFacts,
    Manifest,
    ModalitySpec,
    NetworkSpec,
    OptimizedFacts,
    Precision,
    Scaling,
    ScalingFacts,
    TargetFacts,
    TrainingFacts,
    WindowFacts,
    seal,
)
from edgepain.bundle.names import MANIFEST, SIGNATURE
from edgepain.bundle.signature import Signature, fingerprint, read_private_key, verify
from edgepain.bundle.signing import make_keys, sign_bundle
from edgepain.bundle.store import (
    Bundle,
    Golden,
    demonstration_bundle,
    open_bundle,
    sha256_of,
    write_manifest,
)

__all__ = [
    "MANIFEST",
    "SCALINGS",
    "SCHEMA",
    "SIGNATURE",
    "AccuracyFacts",
    "Bundle",
    "FileFacts",
    "Golden",
    "GraphFacts",
    "Inspection",
    "Manifest",
    "ModalitySpec",
    "NetworkSpec",
    "OptimizedFacts",
    "Precision",
    "Scaling",
    "ScalingFacts",
    "Signature",
    "SignatureFacts",
    "TargetFacts",
    "TrainingFacts",
    "WindowFacts",
    "demonstration_bundle",
    "engines_folder",
    "fingerprint",
    "inspect_bundle",
    "make_keys",
    "open_bundle",
    "pack",
    "read_private_key",
    "seal",
    "sha256_of",
    "sign_bundle",
    "verify",
    "write_manifest",
]
