"""An inspected bundle on a terminal. All text of the bundle goes through `Text`: a stranger's names are no markup."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgepain.bundle import FileFacts, Inspection, Manifest, ModalitySpec
from edgepain.cli.bundle_tables import accuracy_table, graph_table
from edgepain.cli.scores import describe_missing

_HASH_SHOWN = 16

Row = tuple[str, str]


def show(inspection: Inspection, console: Console) -> None:
    """Print all of it; fits 80 columns."""
    manifest = inspection.manifest
    console.print(Text(manifest.name, style="bold"))
    if manifest.demonstration:
        console.print(Text("A demonstration, only for show: it says nothing about anybody's pain.", style="yellow"))
    for heading, rows in (
        ("", _identity(inspection)),
        ("For", _purpose(manifest)),
        ("Trained", _training(inspection)),
    ):
        console.print(_pairs(heading, rows))
    console.print(accuracy_table(manifest) if manifest.accuracy else Text("Accuracy: not stated"))
    for row in manifest.accuracy:
        if row.precision == "torch" and row.missing_classes and not row.without:
            console.print(Text(f"{row.scaling} scaling: {describe_missing(row.missing_classes, manifest.labels)}"))
    console.print(graph_table(manifest))
    for line in _remarks(manifest):
        console.print(Text(line))
    console.print(_files("Files, as the manifest states them (whole hashes: --json)", manifest.files.items()))
    if inspection.engines:
        console.print(_files("Engines, built of it by this user: no part of the bundle", inspection.engines.items()))
        console.print(Text(f"They lie in {inspection.engines_folder}"))


def _identity(inspection: Inspection) -> Iterator[Row]:
    manifest, signature = inspection.manifest, inspection.signature
    tools = [f"{name} {version}" for name, version in manifest.tools.items() if name != "edgepain"]
    yield "bundle", f"{inspection.path} ({inspection.kind}, {inspection.bytes / 1e6:.2f} MB, schema {manifest.schema})"
    yield "made", f"{manifest.created} by edgepain {manifest.tools.get('edgepain', '(version not stated)')}"
    yield "with", ", ".join(tools) or "not stated"
    yield (
        "signature",
        {
            "none": "none: nothing says who made it",
            "unverified": "there, but not verified: pip install 'edgepain[sign]'",
            "valid": "valid, by the key below; compare it with --trusted-key",
            "trusted": "valid, with the key that you trust",
        }[signature.state],
    )
    if signature.fingerprint:
        yield "key", signature.fingerprint
    yield "manifest", inspection.manifest_sha256


def _purpose(manifest: Manifest) -> Iterator[Row]:
    window, scaling, network = manifest.window, manifest.scaling, manifest.network
    yield "labels", " / ".join(manifest.labels)
    for spec in manifest.modalities:
        yield f"{spec.modality}", _accepted(spec)
    yield "window", f"{window.seconds:g} s as {window.steps} points"
    limit = "" if scaling.limit_iqr is None else f", cut off at {scaling.limit_iqr:g} IQR"
    yield (
        "scaling",
        f"live: by median and IQR of the {scaling.min_history_s:g} to {scaling.horizon_s:g} s before the window"
        f"{limit}; in training: {scaling.trained_with}",
    )
    yield (
        "network",
        f"{network.fusion} fusion, width {network.width}, {network.heads} heads, {network.classes} classes"
        + (f", one token for {network.stride} points" if network.stride > 1 else ""),
    )
    dropout = manifest.training.modality_dropout
    yield (
        "one signal",
        f"can answer without the other (modality dropout {dropout:g})" if dropout else "is not enough: it needs both",
    )
    for target in manifest.targets:
        yield target.name, f"graphs for it are listed in {target.recipe}"


def _accepted(spec: ModalitySpec) -> str:
    return f"in {spec.unit}, {spec.min_rate_hz:g} to {spec.max_rate_hz:g} Hz"


def _training(inspection: Inspection) -> Iterator[Row]:
    training = inspection.manifest.training
    yield "dataset", training.dataset + (" (SIMULATED people, no real ones)" if training.synthetic else "")
    yield "task", training.task
    yield "protocol", training.protocol
    if training.fold:
        yield "fold", training.fold
    yield "trained on", f"{training.train_subjects} people, {training.train_windows} windows"
    names = f": {', '.join(training.held_out)}" if training.held_out else " (names not stated)"
    yield "held out", f"{training.held_out_subjects} people{names}"
    yield "setup", f"configuration {training.config}, seed {training.seed}"
    kept = inspection.calibration_windows
    yield (
        "calibrated",
        "nothing kept to say on what"
        if kept is None
        else f"on training people only; {kept} of their windows are in calibration.npz",
    )
    yield "self-check", f"{inspection.golden_windows} golden windows with answers, before the first decision"


def _remarks(manifest: Manifest) -> Iterator[str]:
    for graph in manifest.graphs:
        if graph.activation_percentile is not None:
            yield f"{graph.precision}: activations saturate beyond percentile {graph.activation_percentile:g}"
        if graph.sensitive_operators:
            kept = ", ".join(graph.sensitive_operators)
            yield f"{graph.precision}: kept in float, because INT8 moved the answers too far: {kept}"
        yield (
            f"{graph.precision}: opset {graph.opset}; self-check allows a probability to be off by "
            f"{graph.golden_tolerance:g}"
        )
    yield from (f"Note: {note}" for note in manifest.notes)


def _pairs(heading: str, rows: Iterable[Row]) -> Table:
    table = Table(
        title=heading or None,
        title_justify="left",
        title_style="bold",
        box=None,
        show_header=False,
        padding=(0, 2, 0, 0),
    )
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def _files(title: str, files: Iterable[tuple[str, FileFacts]]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("file", overflow="fold")
    table.add_column("bytes", justify="right", no_wrap=True)
    table.add_column("SHA-256", no_wrap=True)
    for name, facts in files:
        table.add_row(Text(name), str(facts.bytes), f"{facts.sha256[:_HASH_SHOWN]}…")
    return table
