"""The whole benchmark of a bundle: operations, latency, memory, answers, each beside the paper's figure."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from edgepain.benchmarks import flops
from edgepain.benchmarks.counter import fvcore_counts
from edgepain.benchmarks.energy import Meter, find_meter
from edgepain.benchmarks.latency import ENGINES, REFERENCE, EngineName, Latency, NotMeasured, measure
from edgepain.benchmarks.live_latency import decide_live
from edgepain.benchmarks.machine import this_machine
from edgepain.benchmarks.plain_graph import plain_graph
from edgepain.benchmarks.report import SCHEMA, EngineRow, LiveLatency, Operations, PaperLatency, Reference, Report
from edgepain.bundle import Bundle, NetworkSpec
from edgepain.engine import softmax
from edgepain.engine.onnx import file_to_load
from edgepain.engine.tensorrt.recipe import read_recipe
from edgepain.errors import BundleMismatchError, ConfigError, MissingExtraError
from edgepain.train import paper

# Ratios of medians closer to 1 than this come and go between two runs.
SLOWER = 1.05
# Another machine or torch adds in another order; another training answers otherwise by far more than this.
SAME_WEIGHTS = 1e-3
OPENVINO: tuple[EngineName, ...] = ("openvino-fp32", "openvino-bf16", "openvino-int8")
# Of a compact bundle; export makes it, which is not imported here.
SHARED_WEIGHTS = "weights.bin"
# Without the training run these compute on random weights.
UNTRAINED: tuple[EngineName, ...] = ("torch", "plain")


def benchmark(
    bundle: Bundle,
    *,
    run: Path | None = None,
    reference: Bundle | None = None,
    runs: int = 300,
    live_s: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Measure `bundle`; with the folder of its training `run`, torch computes on the trained weights.

    live_s: also decide live on a simulated wearable for so many seconds after its calibration. reference: a bundle
    that takes the same windows, such as that of the network that this one was distilled from; torch computes it too.

    Raises ConfigError where `run` is not the one that the bundle was exported from, MissingExtraError where it
    cannot be read without torch.
    """
    if reference:
        _require_same_windows(bundle, reference)
    operations, fvcore_reason = _operations(bundle.manifest.network)
    with tempfile.TemporaryDirectory(prefix="edgepain-") as scratch:
        weights = _weights(run, bundle, Path(scratch)) if run else None
        graphs: dict[EngineName, Path | NotMeasured] = {
            "plain": plain_graph(bundle.manifest.network, weights, Path(scratch)),
            "openvino-int8": _qdq_graph(bundle),
        }
        measured = measure(bundle, weights=weights, graphs=graphs, reference=reference, runs=runs, progress=progress)
    beside = measured.get(REFERENCE)
    engines = _engine_rows(bundle, {name: measured[name] for name in ENGINES}, trained=run is not None)
    meter = find_meter()
    live = decide_live(bundle, live_s) if live_s else NotMeasured("not asked for: --live SECONDS")
    return Report(
        schema=SCHEMA,
        bundle=bundle.manifest.name,
        demonstration=bundle.manifest.demonstration,
        network=bundle.manifest.network,
        machine=this_machine(),
        threads=1,
        golden_windows=len(bundle.golden().labels),
        operations=operations,
        fvcore=fvcore_reason,
        engines=engines,
        energy=meter.what if isinstance(meter, Meter) else f"n/a ({meter.reason})",
        live=live if isinstance(live, LiveLatency) else None,
        no_live=live.reason if isinstance(live, NotMeasured) else "",
        paper=PaperLatency(paper.INFERENCE_MS, paper.INFERENCE_MACHINE),
        notes=(*_remarks(engines), *bundle.manifest.notes),
        reference=_reference(reference, beside, engines) if reference and beside else None,
    )


def _require_same_windows(bundle: Bundle, reference: Bundle) -> None:
    ours, theirs = bundle.manifest.network, reference.manifest.network
    if (ours.modalities, ours.steps, ours.classes) != (theirs.modalities, theirs.steps, theirs.classes):
        raise ConfigError(f"bundle {reference} takes other windows or has other classes than {bundle}; name another")


def _reference(bundle: Bundle, measured: Latency | NotMeasured, engines: tuple[EngineRow, ...]) -> Reference:
    latency = measured if isinstance(measured, Latency) else None
    return Reference(
        bundle=bundle.manifest.name,
        network=bundle.manifest.network,
        multiply_adds=flops.total(bundle.manifest.network).multiply_adds,
        latency=latency,
        reason=measured.reason if isinstance(measured, NotMeasured) else "",
        times_faster={row.engine: latency.p50_ms / row.latency.p50_ms for row in engines if latency and row.latency},
    )


def _weights(run: Path, bundle: Bundle, scratch: Path) -> Path:
    try:
        import torch
        from safetensors.torch import save_file

        from edgepain.train.run import open_run
    except ImportError as error:
        raise MissingExtraError(error.name or "torch", "train,bench") from error
    opened = open_run(run)
    if opened.spec != bundle.manifest.network:
        raise ConfigError(f"run {run} has another network than bundle {bundle}; name the run it was exported from")
    other = ConfigError(
        f"run {run} is not the one that bundle {bundle} was exported from; name that run, or leave --run out"
    )
    fold = bundle.manifest.training.fold
    if fold and fold not in (each.name for each in opened.folds):
        raise other
    network = opened.fold(fold).network()
    golden = bundle.golden()
    if "torch" not in golden.logits:
        raise ConfigError(f"bundle {bundle} has no answers of torch to know run {run} by; export it again")
    with torch.inference_mode():
        found = network(torch.from_numpy(golden.windows)).numpy()
    # Not "more than": an answer that is no number differs too.
    if not np.abs(softmax(found) - softmax(golden.logits["torch"])).max() <= SAME_WEIGHTS:
        raise other
    path = scratch / "network.safetensors"
    save_file(network.state_dict(), path)
    return path


def _fvcore(spec: NetworkSpec) -> tuple[dict[str, dict[str, int]], str]:
    """fvcore's counts by sub-network and for all of them, or why there are none."""
    try:
        counts = fvcore_counts(spec)
    except MissingExtraError:
        return {}, "install edgepain[bench]"
    everything: dict[str, int] = {}
    for name, operations in counts.items():
        for operation, count in operations.items():
            everything[operation] = everything.get(operation, 0) + count * flops.times_needed(name, spec)
    return {**counts, flops.TOTAL: everything}, ""


def _operations(spec: NetworkSpec) -> tuple[tuple[Operations, ...], str]:
    """Rows for the network of `spec`, then those that differ in the other fusion mode; and why fvcore has none."""
    other = msgspec.structs.replace(spec, fusion="sequence" if spec.fusion == "pooled" else "pooled")
    counted, _ = _fvcore(spec)
    rows = [
        _row(count(spec), spec, counted)
        for count in (flops.fcn, flops.alstm, flops.transformer, flops.crossmod, flops.total)
    ]
    counted, reason = _fvcore(other)
    rows += [_row(count(other), other, counted) for count in (flops.crossmod, flops.total)]
    return tuple(rows), reason


def _row(count: flops.Count, spec: NetworkSpec, fvcore: dict[str, dict[str, int]]) -> Operations:
    theirs = fvcore.get(count.name, {})
    names = {**count.operations, **theirs}
    differences = {name: count.operations.get(name, 0) - theirs.get(name, 0) for name in names}
    return Operations(
        name=count.name,
        fusion=spec.fusion,
        multiply_adds=count.multiply_adds,
        mflops=count.mflops,
        operations=count.operations,
        fvcore_multiply_adds=sum(theirs.values()) if theirs else None,
        difference={name: value for name, value in differences.items() if value} if theirs else {},
        paper_mflops=paper.MFLOPS.get(count.name),
    )


def _engine_rows(
    bundle: Bundle, measured: dict[EngineName, Latency | NotMeasured], trained: bool
) -> tuple[EngineRow, ...]:
    golden = bundle.golden()
    reference = golden.logits["torch"].argmax(axis=1) if "torch" in golden.logits else None
    median_ms = {name: m.p50_ms for name, m in measured.items() if isinstance(m, Latency)}

    openvino = min((name for name in median_ms if name in OPENVINO), key=median_ms.__getitem__, default=None)

    def times_faster(than: EngineName | None, name: EngineName) -> float | None:
        return median_ms[than] / median_ms[name] if than in median_ms and name in median_ms else None

    rows = []
    for name, latency in measured.items():
        known = trained or name not in UNTRAINED
        answers = np.array(latency.labels) if isinstance(latency, Latency) and known else None
        rows.append(
            EngineRow(
                engine=name,
                weights="trained" if known else "random",
                latency=latency if isinstance(latency, Latency) else None,
                reason=latency.reason if isinstance(latency, NotMeasured) else "",
                size_bytes=_size(bundle, name),
                accuracy=None if answers is None else float(np.mean(answers == golden.labels)),
                changed_labels=None
                if answers is None or reference is None
                else int(np.count_nonzero(answers != reference)),
                times_faster_than_torch=times_faster("torch", name),
                times_faster_than_plain=times_faster("plain", name),
                times_faster_than_fp32=times_faster("fp32", name),
                times_faster_than_openvino=times_faster(openvino, name),
            )
        )
    return tuple(rows)


def _qdq_graph(bundle: Bundle) -> Path | NotMeasured:
    """The graph with explicit Q/DQ that a bundle for TensorRT carries, which OpenVINO takes too."""
    try:
        recipe = read_recipe(bundle)
    except BundleMismatchError:
        return NotMeasured("the bundle has no QDQ graph; export it with --target jetson")
    weakly_typed = [v for v in recipe.variants if not v.strongly_typed]
    if not weakly_typed:
        return NotMeasured("the bundle's QDQ graphs are for strongly typed networks")
    return bundle.root / weakly_typed[-1].graph("int8").file


def _size(bundle: Bundle, engine: EngineName) -> int | None:
    """Bytes of the graph that is loaded, and of the weights beside it where two graphs share them."""
    graph = next((g for g in bundle.manifest.graphs if g.precision == engine), None)
    if graph is None:
        return None
    files = bundle.manifest.files
    loaded = file_to_load(graph)
    return files[loaded].bytes + (files[SHARED_WEIGHTS].bytes if SHARED_WEIGHTS in files else 0)


def _remarks(engines: tuple[EngineRow, ...]) -> tuple[str, ...]:
    by_name = {row.engine: row for row in engines}
    notes = []
    ratio = by_name["int8"].times_faster_than_fp32
    if ratio is not None and ratio < 1 / SLOWER:
        notes.append(f"INT8 is slower here: {1 / ratio:.2f} times the fp32 latency; run with --precision fp32")
    return tuple(notes)
