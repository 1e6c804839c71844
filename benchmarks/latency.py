"""How long an answer takes, for each engine in a process of its own, all of them measured in turns.

A fresh interpreter an engine keeps load time and memory apart; rounds that alternate between the engines let
whatever else the machine does fall on all of them alike.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import msgspec
import numpy as np

from edgepain.benchmarks.energy import Meter, NoMeter, find_meter
from edgepain.bundle import Bundle

EngineName = Literal["torch", "plain", "fp32", "int8", "openvino-fp32", "openvino-bf16", "openvino-int8"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
# torch on the network of another bundle, which this one is set beside.
REFERENCE: Literal["reference"] = "reference"
Measured: TypeAlias = "EngineName | Literal['reference']"
# What an engine is handed beside the bundle: weights for torch, a graph for these.
GRAPHS: tuple[EngineName, ...] = ("plain", "openvino-int8")
BATCH = 32
BATCH_ROUNDS = 5
WARM_UP = 20
ROUND = 10
SINGLE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class Latency(msgspec.Struct, frozen=True):
    """One window at a time, one thread.

    batch_ms: median time for BATCH windows, in one go where `batched`, else one after the other. joules: of an answer,
    None where no meter is; then `no_joules` says why.
    p50_ms, p90_ms, p99_ms: of `runs` answers after warm-up. import_ms: of the runtime's libraries. load_ms: from the
    file to ready. first_ms: the first answer. peak_mb: largest resident memory of the process, None where the system
    does not tell. labels: predicted class of every golden window.
    """

    runs: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    import_ms: float
    load_ms: float
    first_ms: float
    peak_mb: float | None
    batch_ms: float
    batched: bool
    joules: float | None
    no_joules: str
    labels: tuple[int, ...]


class NotMeasured(msgspec.Struct, frozen=True):
    """Why an engine has no numbers."""

    reason: str


def measure(
    bundle: Bundle,
    *,
    weights: Path | None = None,
    graphs: Mapping[EngineName, Path | NotMeasured] | None = None,
    reference: Bundle | None = None,
    runs: int = 300,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Measured, Latency | NotMeasured]:
    """Measure every engine on the golden windows of `bundle`, `runs` answers each.

    weights: safetensors of the network for torch; without them torch computes on random weights. graphs: for those in
    GRAPHS. reference: a bundle whose network torch computes too, on random weights, under REFERENCE.
    """
    results: dict[Measured, Latency | NotMeasured] = {}
    workers: dict[Measured, _Worker] = {}
    has = {graph.precision for graph in bundle.manifest.graphs}
    meter = find_meter()
    with _all_closed(workers):
        for name in ENGINES:
            given = weights if name == "torch" else (graphs or {}).get(name)
            needed = {"fp32": "fp32", "int8": "int8", "openvino-fp32": "fp32", "openvino-bf16": "fp32"}.get(name)
            if needed and needed not in has:
                results[name] = NotMeasured("the bundle has no such graph")
            elif name in GRAPHS and not isinstance(given, Path):
                results[name] = given or NotMeasured("no such graph was made")
            else:
                workers[name] = _Worker(name, bundle.root, given if isinstance(given, Path) else None, meter)
        if reference:
            workers[REFERENCE] = _Worker("torch", reference.root, None, meter)
        rounds = [WARM_UP, *[ROUND] * (runs // ROUND), *([runs % ROUND] if runs % ROUND else [])]
        steps = len(rounds) + BATCH_ROUNDS
        for index, count in enumerate(rounds):
            for worker in workers.values():
                worker.run(count, keep=index > 0)
            if progress:
                progress(index + 1, steps)
        for index in range(BATCH_ROUNDS):
            for worker in workers.values():
                worker.run_batch()
            if progress:
                progress(len(rounds) + index + 1, steps)
        results |= {name: worker.result() for name, worker in workers.items()}
    return {name: results[name] for name in (*ENGINES, REFERENCE) if name in results}


class _Worker:
    """A child process and what it has answered so far. `reason` says why there is nothing more to ask."""

    def __init__(self, engine: EngineName, root: Path, given: Path | None, meter: Meter | NoMeter) -> None:
        self.reason = ""
        self._meter = meter
        self._joules: float | None = 0.0 if isinstance(meter, Meter) else None
        self._times_ms: list[float] = []
        self._batches_ms: list[float] = []
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        command = [sys.executable, "-m", "edgepain.benchmarks.worker", engine, str(root)]
        self._process = subprocess.Popen(
            command + ([str(given)] if given else []),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, **SINGLE_THREAD},
        )
        # Read before the next worker starts: loading is to be measured alone too.
        self._opened = self._read()

    def run(self, count: int, *, keep: bool) -> None:
        """Run `count` windows, and remember how long they took."""
        before = self._meter.joules() if isinstance(self._meter, Meter) else None
        times_ms = self._ask(str(count)).get("times_ms", [])
        if keep:
            self._times_ms += times_ms
            if before is not None and self._joules is not None and isinstance(self._meter, Meter):
                self._joules += self._meter.joules() - before

    def run_batch(self) -> None:
        """Run BATCH windows, as many at once as the engine can take."""
        self._batches_ms += self._ask(f"batch {BATCH}").get("times_ms", [])

    def _ask(self, line: str) -> dict[str, Any]:
        if self.reason:
            return {}
        assert self._process.stdin
        with suppress(BrokenPipeError):  # `_read` finds out what it died of.
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
        return self._read()

    def result(self) -> Latency | NotMeasured:
        """What was measured; ends the process."""
        closing: dict[str, Any] = {}
        if not self.reason:
            assert self._process.stdin
            self._process.stdin.close()
            closing = self._read()
        if self.reason:
            return NotMeasured(self.reason)
        p50, p90, p99 = np.percentile(self._times_ms, (50, 90, 99))
        return Latency(
            runs=len(self._times_ms),
            p50_ms=float(p50),
            p90_ms=float(p90),
            p99_ms=float(p99),
            import_ms=self._opened["import_ms"],
            load_ms=self._opened["load_ms"],
            first_ms=self._opened["first_ms"],
            peak_mb=closing["peak_mb"],
            batch_ms=float(np.median(self._batches_ms)),
            batched=self._opened["batched"],
            joules=None if self._joules is None else self._joules / len(self._times_ms),
            no_joules=self._meter.reason if isinstance(self._meter, NoMeter) else "",
            labels=tuple(closing["labels"]),
        )

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            assert stream
            with suppress(BrokenPipeError):
                stream.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": self._last_words()}
        self.reason = answer.get("error", "")
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return f"the process ended with {code}: {lines[-1] if lines else 'no message'}"


@contextmanager
def _all_closed(workers: dict[Measured, _Worker]) -> Iterator[None]:
    try:
        yield
    finally:
        for worker in workers.values():
            worker.close()
