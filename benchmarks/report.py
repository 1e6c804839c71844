"""What a benchmark found, as one document; `edgepain bench --json` prints it as JSON."""

from __future__ import annotations

import msgspec

from edgepain.benchmarks.latency import EngineName, Latency
from edgepain.benchmarks.machine import Machine
from edgepain.bundle import NetworkSpec

SCHEMA = 2


class Operations(msgspec.Struct, frozen=True):
    """A sub-network. mflops: 2 FLOPs a multiply-add. fvcore_multiply_adds and paper_mflops: None where there is none.

    difference: operations in which fvcore and the analytic count differ, analytic minus fvcore, in multiply-adds.
    """

    name: str
    fusion: str
    multiply_adds: int
    mflops: float
    operations: dict[str, int]
    fvcore_multiply_adds: int | None
    difference: dict[str, int]
    paper_mflops: float | None


class EngineRow(msgspec.Struct, frozen=True):
    """An engine. latency: None where it was not measured, then `reason` says why.

    weights: "trained" or "random" (latency does not depend on the values; answers do, so there are none).
    size_bytes: of the files it loads, None for torch. accuracy, changed_labels: on the `golden_windows`, changed
    against torch at export. times_faster: ratio of the medians to those of torch, of the network as torch exports it
    (`plain`), of the bundle's fp32 graph, and of the fastest OpenVINO.
    """

    engine: EngineName
    weights: str
    latency: Latency | None
    reason: str
    size_bytes: int | None
    accuracy: float | None
    changed_labels: int | None
    times_faster_than_torch: float | None
    times_faster_than_plain: float | None
    times_faster_than_fp32: float | None
    times_faster_than_openvino: float | None


class LiveLatency(msgspec.Struct, frozen=True):
    """From a sample's arrival to the decision that needed it, and of that the inference, in a live session.

    p50_ms, p90_ms, p99_ms: of `decisions`. inference_p50_ms: of the model within. device: what sent the samples.
    """

    decisions: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    inference_p50_ms: float
    device: str


class Reference(msgspec.Struct, frozen=True):
    """torch eager of another bundle's network, on random weights, measured in turns with the engines.

    latency: None where it was not measured, then `reason` says why. times_faster: ratio of its median to that of each
    engine that was measured.
    """

    bundle: str
    network: NetworkSpec
    multiply_adds: int
    latency: Latency | None
    reason: str
    times_faster: dict[EngineName, float]


class PaperLatency(msgspec.Struct, frozen=True):
    """What the paper prints."""

    ms: float
    machine: str


class Report(msgspec.Struct, frozen=True):
    """What `edgepain bench --json` prints: one JSON object with these fields, schema 2.

    threads: of every engine. fvcore: "" or why there is no fvcore column. Every latency of an engine is of the model
    alone, without sensor, window and scaling. live: with all of these, None where `no_live` says why. energy: whose,
    or why there is none.
    """

    schema: int
    bundle: str
    demonstration: bool
    network: NetworkSpec
    machine: Machine
    threads: int
    golden_windows: int
    operations: tuple[Operations, ...]
    fvcore: str
    engines: tuple[EngineRow, ...]
    energy: str
    live: LiveLatency | None
    no_live: str
    paper: PaperLatency
    notes: tuple[str, ...]
    reference: Reference | None = None
