"""From a training run to a bundle on disk: trace, quantize, verify, write, and nothing left behind on failure."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import onnx

from edgepain.bundle import (
    MANIFEST,
    SCHEMA,
    Bundle,
    FileFacts,
    Manifest,
    Precision,
    ScalingFacts,
    WindowFacts,
    open_bundle,
    pack,
    sign_bundle,
    write_manifest,
)
from edgepain.engine import OnnxEngine, open_engine
from edgepain.errors import ConfigError, EdgepainError
from edgepain.export import compact as compacting
from edgepain.export.graphs import Graph, Progress, make_graphs
from edgepain.export.jetson import add_jetson
from edgepain.export.lint import require_clean
from edgepain.export.optimize import save_optimized
from edgepain.export.run import ExportableRun
from edgepain.export.verify import Limits, torch_logits, verify
from edgepain.export.windows import Labelled, calibration_windows, golden_windows, held_out_windows, with_missing
from edgepain.train.models import CrossModTransformer

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

GOLDEN_WINDOWS = 32
CALIBRATION_WINDOWS = 256
COMPACT_CALIBRATION_WINDOWS = 64
Target = Literal["cpu", "jetson", "rpi"]
TOOLS = ("edgepain", "numpy", "torch", "onnx", "onnxruntime")


def export_run(
    run: ExportableRun,
    out: Path,
    *,
    precisions: Sequence[Precision] = ("fp32", "int8"),
    limits: Limits | None = None,
    compact: bool = False,
    target: Target = "cpu",
    name: str = "",
    demonstration: bool = False,
    force: bool = False,
    signing_key: Ed25519PrivateKey | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Write the bundle of a trained run to the directory `out`, or to one file where that ends in .zip.

    Returns it, opened and checked.

    compact: store weights once, as INT8, for both precisions (see `edgepain.export.compact`).
    target: `jetson` adds the graphs for TensorRT (see `edgepain.export.jetson`). `rpi` leaves out the optimized forms
    of the graphs, which only a processor like this one loads; which graph is faster there, `edgepain build` finds.
    force: replace a bundle that is there.
    signing_key: sign it (see `edgepain.bundle.read_private_key`). progress: told what is done next, in words.

    Raises ConfigError where `out` is in use or cannot be made, DataError where no window can judge the export,
    VerificationError where a graph is further from torch than `limits`, EdgepainError where writing fails, as on
    a full disk; `out` is then as it was before.
    """
    tell = progress or (lambda _: None)
    _require_free(out, force)
    # The directory comes first: nobody should wait for a quantization that has nowhere to go.
    with _new_directory(out) as scratch:
        network = run.network()
        calibration, trial = calibration_windows(run, CALIBRATION_WINDOWS)
        trial = with_missing(run, trial)
        held_out = held_out_windows(run)
        graphs = make_graphs(network, calibration, trial, precisions, compact, tell)
        if compact:
            compacting.move_weights([g.model for g in graphs], scratch)
        for graph in graphs:
            onnx.save(graph.model, scratch / graph.facts.file)
            require_clean(scratch / graph.facts.file, "onnxruntime")
        if not compact and target != "rpi":
            graphs = [_optimized(graph, scratch) for graph in graphs]
        kept = calibration[:COMPACT_CALIBRATION_WINDOWS] if compact else calibration
        np.savez(scratch / "calibration.npz", windows=kept)
        draft = Bundle(scratch, _manifest(run, graphs, name or _name_of(out), demonstration, compact))
        engines = {g.facts.precision: OnnxEngine(draft, g.facts.precision) for g in graphs}
        accuracy = verify(network, engines, graphs, held_out, limits or Limits(), tell)
        golden = golden_windows(held_out, GOLDEN_WINDOWS)
        answers = {str(precision): engine.predict(golden.windows) for precision, engine in engines.items()}
        manifest = msgspec.structs.replace(draft.manifest, accuracy=accuracy)
        if target == "jetson":
            added = add_jetson(scratch, network, calibration, trial, held_out, golden.windows, limits or Limits(), tell)
            answers |= added.golden
            manifest = msgspec.structs.replace(
                manifest, targets=(added.facts,), files={**manifest.files, added.facts.recipe: FileFacts(0, "")}
            )
        _save_golden(scratch / "golden.npz", network, answers, golden)
        bundle = write_manifest(scratch, manifest)
        tell("checking the golden windows")
        for graph in graphs:
            open_engine(bundle, graph.facts.precision)
        if signing_key is not None:
            sign_bundle(scratch, signing_key)
        if _is_zip(out):
            pack(scratch, out, replace=True)
        else:
            _move_into_place(scratch, out)
    return open_bundle(out)


def _optimized(graph: Graph, folder: Path) -> Graph:
    facts = msgspec.structs.replace(graph.facts, optimized=save_optimized(folder / graph.facts.file))
    return replace(graph, facts=facts)


def _save_golden(
    path: Path, network: CrossModTransformer, answers: Mapping[str, npt.NDArray[np.float32]], golden: Labelled
) -> None:
    named: dict[str, Any] = {f"logits_{name}": logits for name, logits in answers.items()}
    named["logits_torch"] = torch_logits(network, golden.windows)
    np.savez(path, windows=golden.windows, labels=golden.labels, **named)


def _manifest(run: ExportableRun, graphs: list[Graph], name: str, demonstration: bool, compact: bool) -> Manifest:
    return Manifest(
        schema=SCHEMA,
        name=name,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        demonstration=demonstration,
        modalities=run.modality_specs(),
        window=WindowFacts(run.window.seconds, run.window.steps),
        scaling=ScalingFacts(run.scaling, *astuple(run.scaling_spec)),
        labels=run.labels,
        network=run.spec,
        training=run.training_facts(),
        accuracy=(),
        graphs=tuple(g.facts for g in graphs),
        tools={tool: version(tool) for tool in TOOLS},
        # `write_manifest` fills in sizes and hashes.
        files={name: FileFacts(0, "") for g in graphs for name in _files(g)},
        notes=(compacting.NOTE,) if compact else (),
    )


def _files(graph: Graph) -> list[str]:
    optimized = graph.facts.optimized
    return [graph.facts.file, *([optimized.file] if optimized else [])]


def _is_zip(out: Path) -> bool:
    return out.suffix == ".zip"


def _name_of(out: Path) -> str:
    return out.stem if _is_zip(out) else out.name


def _require_free(out: Path, force: bool) -> None:
    try:
        if not out.exists() or (not _is_zip(out) and out.is_dir() and not any(out.iterdir())):
            return
        is_bundle = out.is_file() if _is_zip(out) else (out / MANIFEST).is_file()
    except OSError as error:
        raise _cannot_be_made(out, error) from error
    if not is_bundle:
        raise ConfigError(f"{out} exists and is no bundle; choose another --out")
    if not force:
        raise ConfigError(f"{out} holds a bundle already; choose another --out or replace it with --force")


@contextmanager
def _new_directory(out: Path) -> Iterator[Path]:
    """A directory beside `out`, on the same file system, that is gone afterwards whatever happens."""
    missing = [folder for folder in out.parents if not folder.exists()]
    try:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        except OSError as error:
            raise _cannot_be_made(out, error) from error
        try:
            yield scratch
        except OSError as error:
            raise EdgepainError(
                f"{out} cannot be written ({error.strerror or error}); make room or choose another --out"
            ) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    finally:
        for folder in missing:
            with suppress(OSError):  # Not empty: the bundle is in it.
                folder.rmdir()


def _cannot_be_made(out: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{out} cannot be made a bundle ({error.strerror}); choose another --out")


def _move_into_place(scratch: Path, out: Path) -> None:
    scratch.chmod(0o755)  # mkdtemp gives it to its owner alone.
    if out.exists():
        with _new_directory(out) as old:
            out.rename(old / "bundle")
            try:
                scratch.rename(out)
            except BaseException:
                (old / "bundle").rename(out)
                raise
    else:
        scratch.rename(out)
