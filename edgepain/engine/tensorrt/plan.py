"""Engines on disk: a plan as TensorRT wrote it, and beside it a JSON that says what it is and what it is good for.

    <gpu>-sm87__trt10.3.0.26__int8__<sha of the ONNX>.plan
    <gpu>-sm87__trt10.3.0.26__int8__<sha of the ONNX>.json
    <gpu>-sm87__trt10.3.0.26.timing      what the builder measured: makes the next build faster

A plan belongs to one GPU architecture, one TensorRT and one ONNX. It is code for the GPU and nobody has signed it: its
hash in the sidecar shows a damaged file, not a forged one. So it lies with the user who built it, never in the bundle,
and is read only where nobody else but root may write.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from edgepain.bundle import Bundle, sha256_of
from edgepain.engine.folder import EngineError, require_own
from edgepain.engine.tensorrt.driver import Device
from edgepain.engine.tensorrt.recipe import EnginePrecision, Recipe, graph_sha256

MAX_SIDECAR_BYTES = 1 << 20
MAX_PLAN_BYTES = 1 << 30
SHOWN_DIGITS = 12


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One engine on this device, one window at a time from host memory to host memory.

    cuda_graph: whether it was launched as one; if not, graph_reason says why. layers, int8_layers: of the engine as
    TensorRT's inspector lists them, None where it lists none.
    """

    precision: EnginePrecision
    p50_ms: float
    p99_ms: float
    runs: int
    cuda_graph: bool
    graph_reason: str
    golden_difference: float
    changed_labels: int
    golden_windows: int
    plan_bytes: int
    build_s: float
    layers: int | None
    int8_layers: int | None


class Refused(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A precision of which there is no engine, and why."""

    precision: EnginePrecision
    reason: str


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a plan is. chosen: why it and not the other precision. host_only: built on no Jetson, for checking."""

    schema: Literal[1]
    created: str
    plan_sha256: str
    plan_bytes: int
    gpu: str
    sm: int
    driver: str
    tensorrt: str
    precision: EnginePrecision
    onnx: str
    onnx_sha256: str
    bundle_sha256: str
    strongly_typed: bool
    flags: tuple[str, ...]
    host_only: bool
    measured: tuple[Measured, ...]
    refused: tuple[Refused, ...]
    chosen: str
    timing_sha256: str


@dataclass(frozen=True)
class Plan:
    """A plan whose sidecar could be read; whether it fits this device is another matter (`require_fit`)."""

    path: Path
    facts: Sidecar

    @property
    def measured(self) -> Measured:
        """What was measured of it when it was built."""
        return next(m for m in self.facts.measured if m.precision == self.facts.precision)

    def read(self) -> bytes:
        """The plan's bytes. Raises EngineError where they are not those that were built."""
        try:
            size = self.path.stat().st_size
            if size != self.facts.plan_bytes or size > MAX_PLAN_BYTES or sha256_of(self.path) != self.facts.plan_sha256:
                raise EngineError(f"{self.path} is damaged (SHA-256 differs); make it again: edgepain build --rebuild")
            return self.path.read_bytes()
        except OSError as error:
            raise EngineError(
                f"{self.path} cannot be read ({error.strerror}); run: edgepain build --rebuild"
            ) from error


def stem(device: Device, tensorrt: str) -> str:
    """How the names of all files of a device and a TensorRT begin."""
    gpu = re.sub(r"[^a-z0-9]+", "-", device.name.lower()).strip("-") or "gpu"
    return f"{gpu}-sm{device.sm}__trt{tensorrt}"


def plan_name(device: Device, tensorrt: str, precision: EnginePrecision, onnx_sha256: str) -> str:
    """Name of a plan's file."""
    return f"{stem(device, tensorrt)}__{precision}__{onnx_sha256[:SHOWN_DIGITS]}.plan"


def list_plans(folder: Path) -> tuple[list[Plan], list[str]]:
    """The plans of a folder of engines, and for each sidecar that cannot be read why not.

    Raises EngineError where others may write to the folder.
    """
    require_own(folder)
    plans, complaints = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            plans.append(_read(path))
        except EngineError as error:
            complaints.append(str(error))
    return plans, complaints


def write_sidecar(path: Path, facts: Sidecar) -> None:
    """Write the JSON of a plan to `path`."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=2) + b"\n")


def misfit(plan: Plan, bundle: Bundle, recipe: Recipe, device: Device, tensorrt: str, version: tuple[int, ...]) -> str:
    """What keeps a plan from running here, in words; empty where nothing does."""
    graph = recipe.variant(version).graph(plan.facts.precision)
    onnx = graph_sha256(bundle, graph)
    built = (plan.facts.gpu, plan.facts.sm, plan.facts.tensorrt, plan.facts.onnx_sha256)
    if built == (device.name, device.sm, tensorrt, onnx):
        return ""
    return f"built for {_words(*built)}; this device has {_words(device.name, device.sm, tensorrt, onnx)}"


def best(plans: Sequence[Plan]) -> Plan:
    """The fastest of plans that fit."""
    return min(plans, key=lambda plan: plan.measured.p50_ms)


def _words(gpu: str, sm: int, tensorrt: str, onnx: str) -> str:
    return f"{gpu} / TensorRT {tensorrt} / sm_{sm} / ONNX {onnx[:SHOWN_DIGITS]}"


def _read(path: Path) -> Plan:
    again = "remove it, or run: edgepain build --rebuild"
    require_own(path)
    require_own(path.with_suffix(".plan"))
    try:
        if path.stat().st_size > MAX_SIDECAR_BYTES:
            raise EngineError(f"{path} is too large for a sidecar; {again}")
        facts = msgspec.json.decode(path.read_bytes(), type=Sidecar)
    except (msgspec.DecodeError, OSError, RecursionError) as error:
        raise EngineError(f"{path} is no sidecar of an engine ({' '.join(str(error).split())}); {again}") from error
    if all(m.precision != facts.precision for m in facts.measured):
        raise EngineError(f"{path} says nothing of the engine that it stands beside; {again}")
    return Plan(path.with_suffix(".plan"), facts)
