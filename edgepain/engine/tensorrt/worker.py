"""The part of a build that may crash, in a process of its own: `python -m edgepain.engine.tensorrt.worker JOB`.

JOB is a JSON file (`Job`). The answer goes to a file too, for libraries write what they like to standard output.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgepain.bundle import Bundle, open_bundle
from edgepain.engine.golden import compare_golden
from edgepain.engine.tensorrt.builder import build_plan
from edgepain.engine.tensorrt.driver import Driver
from edgepain.engine.tensorrt.library import load_tensorrt, parse_version
from edgepain.engine.tensorrt.plan import Measured
from edgepain.engine.tensorrt.recipe import EnginePrecision, TensorRtGraph, read_recipe
from edgepain.engine.tensorrt.runner import TensorRtEngine
from edgepain.errors import BundleError, EdgepainError

WARM_UP = 50
RUNS = 300


class Job(msgspec.Struct, frozen=True):
    """What to do. precision: None asks for nothing but the version. Files in `folder` are the parent's.

    manifest_sha256: of the bundle as the parent has checked it.
    """

    bundle: str
    manifest_sha256: str
    folder: str
    precision: EnginePrecision | None = None
    timing: str | None = None

    @property
    def answer(self) -> Path:
        """Where the answer goes."""
        return Path(self.folder) / f"{self.precision or 'version'}.answer"

    @property
    def plan(self) -> Path:
        """Where the plan goes."""
        return Path(self.folder) / f"{self.precision}.plan"

    @property
    def new_timing(self) -> Path:
        """Where what the builder measured goes."""
        return Path(self.folder) / "new.timing"


class Answer(msgspec.Struct, frozen=True):
    """What came of it. error: one line, empty where all went well; exit_code: of that error.

    of_bundle: the error is one of the bundle, so that no other precision needs to be tried.
    """

    tensorrt: str = ""
    measured: Measured | None = None
    error: str = ""
    exit_code: int = 1
    of_bundle: bool = False


def main(argument: str) -> None:
    """Do the job in the file `argument` and write the answer; only a crash leaves none."""
    job = msgspec.json.decode(Path(argument).read_bytes(), type=Job)
    try:
        answer = _work(job)
    except EdgepainError as error:
        answer = Answer(error=str(error), exit_code=error.exit_code, of_bundle=isinstance(error, BundleError))
    except (OSError, MemoryError) as error:
        answer = Answer(
            error=f"{getattr(error, 'strerror', None) or error or 'out of memory'}; make room and try again"
        )
    job.answer.write_bytes(msgspec.json.encode(answer))


def _work(job: Job) -> Answer:
    driver = Driver()
    trt, tensorrt = load_tensorrt(driver)
    if job.precision is None:
        return Answer(tensorrt)
    bundle = open_bundle(job.bundle)
    if bundle.manifest.sha256 != job.manifest_sha256:
        raise BundleError(f"{bundle} was exchanged after it was checked; find out by whom, and build again")
    recipe = read_recipe(bundle)
    variant = recipe.variant(parse_version(tensorrt))
    graph = variant.graph(job.precision)
    timing = Path(job.timing).read_bytes() if job.timing else b""
    start = time.monotonic()
    plan, measured = build_plan(
        trt,
        bundle.root / graph.file,
        graph,
        strongly_typed=variant.strongly_typed,
        workspace_mb=recipe.workspace_mb,
        timing=timing,
    )
    build_s = time.monotonic() - start
    job.plan.write_bytes(plan)
    job.new_timing.write_bytes(measured)
    with TensorRtEngine(trt, tensorrt, driver, plan, bundle, graph) as engine:
        return Answer(tensorrt, _measure(trt, engine, bundle, graph, len(plan), build_s))


def _measure(
    trt: Any, engine: TensorRtEngine, bundle: Bundle, graph: TensorRtGraph, plan_bytes: int, build_s: float
) -> Measured:
    """Check the engine against the golden windows, then time it on them."""
    golden = bundle.golden()
    found = engine.predict(golden.windows)
    difference = compare_golden(
        found, golden.logits[graph.golden], graph.golden_tolerance, engine.description, f"{bundle}/{graph.file}"
    )
    reference = golden.logits.get("torch", golden.logits[graph.golden])
    times_ms = []
    for index in range(WARM_UP + RUNS):
        window = golden.windows[index % len(golden.windows)][None]
        start = time.perf_counter()
        engine.predict(window)
        times_ms.append(1e3 * (time.perf_counter() - start))
    p50_ms, p99_ms = np.percentile(times_ms[WARM_UP:], (50, 99)).tolist()
    layers, int8_layers = engine.layers(trt)
    return Measured(
        precision=engine.precision,
        p50_ms=p50_ms,
        p99_ms=p99_ms,
        runs=RUNS,
        cuda_graph=engine.uses_cuda_graph,
        graph_reason=engine.graph_reason,
        golden_difference=difference,
        changed_labels=int(np.count_nonzero(found.argmax(axis=1) != reference.argmax(axis=1))),
        golden_windows=len(found),
        plan_bytes=plan_bytes,
        build_s=build_s,
        layers=layers,
        int8_layers=int8_layers,
    )


if __name__ == "__main__":
    main(sys.argv[1])
