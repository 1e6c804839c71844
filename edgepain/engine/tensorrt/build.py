"""`edgepain build`: engines of a bundle on this device, checked, timed, and the better one kept."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import msgspec

from edgepain.bundle import Bundle, engines_folder, sha256_of
from edgepain.engine.folder import FILE_MODE, make_folder, require_own
from edgepain.engine.processor import processor_name
from edgepain.engine.tensorrt.driver import Device, Driver
from edgepain.engine.tensorrt.library import parse_version
from edgepain.engine.tensorrt.plan import (
    Measured,
    Plan,
    Refused,
    Sidecar,
    best,
    list_plans,
    misfit,
    plan_name,
    stem,
    write_sidecar,
)
from edgepain.engine.tensorrt.recipe import EnginePrecision, Recipe, graph_sha256, read_recipe
from edgepain.engine.tensorrt.worker import Answer, Job
from edgepain.engine.timed import WORTH_INT8
from edgepain.errors import BundleError, ConfigError, EdgepainError

SCRATCH = ".building-"
Wanted = Literal["int8", "fp16", "both"]


@dataclass(frozen=True)
class Built:
    """The engine that is kept. new: built now, not found."""

    plan: Plan
    new: bool


def build(
    bundle: Bundle,
    *,
    precision: Wanted = "both",
    out: Path | None = None,
    rebuild: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Built:
    """Make the engines of a bundle for this GPU and this TensorRT, in `out` (by default `engines_folder`).

    Of both precisions, the faster that answers rightly is kept; INT8 only where it is faster by 5 %. What fits this
    device is not made again without `rebuild`. tell: told what is done next, in words.

    Raises NoDriverError, EdgepainError where TensorRT is absent, refused, crashes or cannot build, VerificationError's
    text where an engine answers wrongly, BundleMismatchError where the bundle is not for a Jetson, BundleError where
    it is exchanged meanwhile, EngineError where others may write to the folder, ConfigError where another build is at
    work, or `out` is in the bundle. Nothing half-written is left.
    """
    recipe = read_recipe(bundle)
    device = Driver().device
    folder = (out or engines_folder(bundle.manifest.sha256)).resolve()
    if folder.is_relative_to(bundle.root.resolve()):
        raise ConfigError(f"engines in {folder} would make it another bundle; choose another --out, or none")
    try:
        make_folder(folder)
        require_own(folder)
        with _locked(folder), _scratch(folder) as scratch:
            tell("asking TensorRT for its version")
            tensorrt = _run(_job(bundle, scratch), scratch).tensorrt
            found = _fitting(folder, bundle, recipe, device, tensorrt, precision)
            if found and not rebuild:
                return Built(best(found), new=False)
            return Built(_build(bundle, recipe, device, tensorrt, precision, folder, scratch, tell), new=True)
    except OSError as error:
        raise EdgepainError(
            f"engines cannot be written to {folder} ({error.strerror or error}); make room or choose another --out"
        ) from error


def _build(
    bundle: Bundle,
    recipe: Recipe,
    device: Device,
    tensorrt: str,
    wanted: Wanted,
    folder: Path,
    scratch: Path,
    tell: Callable[[str], None],
) -> Plan:
    timing = folder / f"{stem(device, tensorrt)}.timing"
    measured: list[Measured] = []
    refused: list[Refused] = []
    precisions: tuple[EnginePrecision, ...] = ("fp16", "int8") if wanted == "both" else (wanted,)
    for precision in precisions:
        tell(f"building, checking and timing the {precision} engine; this takes minutes on a Jetson")
        known = _known_timing(folder, timing)
        job = _job(bundle, scratch, precision, known)
        try:
            answer = _run(job, scratch)
        except BundleError:
            raise
        except EdgepainError as error:
            refused.append(Refused(precision, str(error)))
            continue
        assert answer.measured is not None
        measured.append(answer.measured)
        # The second precision starts with what the first has measured.
        job.new_timing.replace(scratch / "next.timing")
    if not measured:
        raise EdgepainError("; ".join(f"{r.precision}: {r.reason}" for r in refused))
    kept, why = choose(measured, refused)
    variant = recipe.variant(parse_version(tensorrt))
    graph = variant.graph(kept.precision)
    onnx = graph_sha256(bundle, graph)
    path = folder / plan_name(device, tensorrt, kept.precision, onnx)
    new_plan = scratch / f"{kept.precision}.plan"
    new_timing = scratch / "next.timing"
    facts = Sidecar(
        schema=1,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        plan_sha256=sha256_of(new_plan),
        plan_bytes=new_plan.stat().st_size,
        gpu=device.name,
        sm=device.sm,
        driver=device.driver,
        tensorrt=tensorrt,
        precision=kept.precision,
        onnx=graph.file,
        onnx_sha256=onnx,
        bundle_sha256=bundle.manifest.sha256,
        strongly_typed=variant.strongly_typed,
        flags=graph.flags,
        host_only=not is_jetson(),
        measured=tuple(measured),
        refused=tuple(refused),
        chosen=why,
        timing_sha256=sha256_of(new_timing),
    )
    sidecar = scratch / "sidecar"
    write_sidecar(sidecar, facts)
    for file in (new_plan, new_timing, sidecar):
        file.chmod(FILE_MODE)
    _remove_older(folder, facts, wanted)
    new_plan.replace(path)
    new_timing.replace(timing)
    # Last: without it, the plan beside it is not there for anybody.
    sidecar.replace(path.with_suffix(".json"))
    return Plan(path, facts)


def choose(measured: Sequence[Measured], refused: Sequence[Refused]) -> tuple[Measured, str]:
    """The engine to keep, and why, in words."""
    by_precision = {m.precision: m for m in measured}
    if len(by_precision) == 1:
        (only,) = measured
        others = "; ".join(f"{r.precision} was refused: {r.reason}" for r in refused)
        return only, f"{only.precision}: {others or 'the other precision was not asked for'}"
    fp16, int8 = by_precision["fp16"], by_precision["int8"]
    medians = f"p50 {int8.p50_ms:.3f} ms against {fp16.p50_ms:.3f} ms"
    if fp16.p50_ms >= int8.p50_ms * WORTH_INT8:
        return int8, f"int8: {fp16.p50_ms / int8.p50_ms:.2f} times as fast as fp16 ({medians})"
    return fp16, f"fp16: int8 is not faster by {WORTH_INT8 - 1:.0%} ({medians}) and less exact"


def is_jetson() -> bool:
    """Whether this machine is one of NVIDIA's Jetsons."""
    return Path("/etc/nv_tegra_release").exists() or "Jetson" in processor_name()


def _fitting(folder: Path, bundle: Bundle, recipe: Recipe, device: Device, tensorrt: str, wanted: Wanted) -> list[Plan]:
    """Plans that are whole and fit this device, of the precision wanted."""
    found = []
    for plan in list_plans(folder)[0]:
        asked = wanted == "both" and len(plan.facts.measured) + len(plan.facts.refused) == 2
        if not asked and plan.facts.precision != wanted:
            continue
        if misfit(plan, bundle, recipe, device, tensorrt, parse_version(tensorrt)):
            continue
        try:
            plan.read()
        except EdgepainError:
            continue
        found.append(plan)
    return found


def _known_timing(folder: Path, timing: Path) -> Path | None:
    """What an earlier build measured, where it is as that build's sidecar says."""
    scratch = next(folder.glob(f"{SCRATCH}*/next.timing"), None)
    if scratch is not None:
        return scratch
    vouched = {plan.facts.timing_sha256 for plan in list_plans(folder)[0]}
    return timing if timing.is_file() and sha256_of(timing) in vouched else None


def _remove_older(folder: Path, new: Sidecar, wanted: Wanted) -> None:
    """Take away what the new engine replaces: all of its bundle, GPU and TensorRT, or those of its precision."""
    for plan in list_plans(folder)[0]:
        path, old = plan.path, plan.facts
        same = (old.bundle_sha256, old.gpu, old.sm, old.tensorrt) == (new.bundle_sha256, new.gpu, new.sm, new.tensorrt)
        if same and wanted in ("both", old.precision):
            path.with_suffix(".json").unlink(missing_ok=True)
            path.unlink(missing_ok=True)


def _job(bundle: Bundle, scratch: Path, precision: EnginePrecision | None = None, timing: Path | None = None) -> Job:
    source = (bundle.source or bundle.root).resolve()
    known = None if timing is None else str(timing)
    return Job(str(source), bundle.manifest.sha256, str(scratch), precision, known)


def _run(job: Job, scratch: Path) -> Answer:
    """Have the worker do a job. Raises BundleError or EdgepainError with its error, or what it died of."""
    (scratch / "job").write_bytes(msgspec.json.encode(job))
    with (scratch / "output").open("wb") as output:
        # In the scratch folder, so that no file of the user's can stand in for a module.
        worker = subprocess.Popen(
            [sys.executable, "-m", "edgepain.engine.tensorrt.worker", str(scratch / "job")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=scratch,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        try:
            code = worker.wait()
        except BaseException:  # Ctrl-C: TensorRT's builder does not listen to it.
            worker.kill()
            worker.wait()
            raise
    if not job.answer.is_file():
        lines = (scratch / "output").read_text(errors="replace").strip().splitlines()
        died = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        raise EdgepainError(f"TensorRT's process {died} ({lines[-1][:200] if lines else 'it said nothing'}); see dmesg")
    answer = msgspec.json.decode(job.answer.read_bytes(), type=Answer)
    if answer.error:
        error = BundleError(answer.error) if answer.of_bundle else EdgepainError(answer.error)
        error.exit_code = answer.exit_code
        raise error
    return answer


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which ends with the process whatever it dies of."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another build is at work in {folder}; wait for it, or choose another --out") from error
        yield


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A new folder inside `folder`, gone afterwards; what a killed build has left behind goes, too."""
    for old in folder.glob(f"{SCRATCH}*"):
        shutil.rmtree(old, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=folder))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
