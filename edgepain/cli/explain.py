"""`edgepain explain`: what a trained network looks at, in pictures and numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepain.cli.extras import require

if TYPE_CHECKING:
    from edgepain.signal import Recording
    from edgepain.train.explain import ChosenWindow, Fold
    from edgepain.train.run import Run

# What each way of naming a window needs, and what else it takes.
WAYS = {
    "embeddings": ((), ("method", "mark_subjects")),
    "recording": (("at",), ()),
    "dataset": (("root", "subject", "at"), ("options", "name")),
    "window": (("subject",), ()),
}


@click.command(name="explain")
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("explained"),
    show_default=True,
    help="Folder for pictures and numbers; files of the same names are replaced.",
)
@click.option(
    "--fold",
    "fold_name",
    default="",
    help="Of a run of several. Default: the first that holds the subject out.",
)
@click.option("--subject", help="Whose window.")
@click.option("--window", type=click.IntRange(0), help="Which of the subject's windows in the run's own table, from 0.")
@click.option(
    "--dataset", type=click.Choice(["biovid", "ai4pain", "e4", "sessions"]), help="Explain a window of this instead."
)
@click.option("--root", type=click.Path(path_type=Path), help="Folder that holds the dataset.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="Of the dataset reader; repeatable.")
@click.option("--name", help="Recording of the dataset's subject, where there are several.")
@click.option(
    "--recording",
    type=click.Path(exists=True, path_type=Path),
    help="Explain a window of this file: CSV or E4 session folder, as `edgepain simulate` plays it.",
)
@click.option("--at", type=click.FloatRange(min=0), help="Start of the window, seconds on the recording's clock.")
@click.option("--embeddings", is_flag=True, help="Instead of one window, map all held-out ones.")
@click.option("--method", type=click.Choice(["tsne", "pca"]), default="tsne", show_default=True, help="Of the map.")
@click.option("--mark-subjects", is_flag=True, help="A marker a subject in the map.")
@click.pass_context
def command(context: click.Context, /, run_folder: Path, out: Path, fold_name: str, **asked: Any) -> None:
    """Show what the network of RUN looks at in one window, or how it maps all held-out windows.

    Writes pictures (attention of each modality to itself, between FCN and ALSTM, between modalities, and which time
    steps and dimensions argue for the answer) and the numbers behind them.

    \b
    Examples:
      edgepain explain runs/stress --subject S11 --window 12 --out explained
      edgepain explain runs/stress --dataset e4 --root sessions --option positive=interview \\
          --option negative=relax1,relax2 --subject S11 --at 731.5
      edgepain explain runs/stress --recording session.csv.gz --at 90
      edgepain explain runs/stress --embeddings
    """
    way = _way(context)
    require("train", "torch", "safetensors", "sklearn")
    require("report", "matplotlib")

    from edgepain.cli.progress import error_console
    from edgepain.train.run import open_run

    run = open_run(run_folder)
    with error_console.status("explaining"):
        lines, written = (
            _embeddings(run, out, fold_name, asked)
            if way == "embeddings"
            else _window(run, out, fold_name, *_choose(run, way, asked))
        )
    click.echo("\n".join(lines))
    click.echo(f"written to {out}: {', '.join(path.name for path in written)}")


def _way(context: click.Context) -> str:
    """The way in which the user names a window. Raises UsageError where it is none, or two at once."""
    source = context.get_parameter_source
    given = {name for name in context.params if source(name) is click.core.ParameterSource.COMMANDLINE}
    given -= {"run_folder", "out", "fold_name"}
    options = {p.name: p.opts[0] for p in context.command.params}
    way = next((name for name in WAYS if name in given), None)
    if way is None:
        raise click.UsageError("name a window: --window N, --dataset …, --recording FILE; or give --embeddings")
    needed, allowed = WAYS[way]
    if missing := [options[name] for name in needed if name not in given]:
        raise click.UsageError(f"{options[way]} needs {' and '.join(map(str, missing))}")
    if other := sorted(given - {way, *needed, *allowed}):
        raise click.UsageError(f"{options[other[0]]} does not go with {options[way]}")
    return way


def _choose(run: Run, way: str, asked: dict[str, Any]) -> tuple[ChosenWindow, str]:
    """The window, and where it comes from in words."""
    from edgepain.train.explain import choose_recorded, choose_row

    if way == "window":
        window = choose_row(run.table, run.scaling, asked["subject"], asked["window"])
        return window, f"window {asked['window']} of {asked['subject']}"
    recordings: Iterable[Recording]
    labels: tuple[str, ...] = ()
    if way == "recording":
        from edgepain.firmware_bridge.playback import load

        recordings = [load(asked["recording"])]
    else:
        recordings, labels = _of_dataset(asked)
    window = choose_recorded(
        recordings,
        asked["at"],
        modalities=run.table.modalities,
        window=run.window,
        scaling_spec=run.scaling_spec,
        scaling=run.scaling,
        name=asked["name"],
        labels=labels,
    )
    return window, f"{window.recording} at {window.start_s:g} s"


def _of_dataset(asked: dict[str, Any]) -> tuple[list[Recording], tuple[str, ...]]:
    from edgepain.errors import ConfigError, DataError
    from edgepain.train.datasets.base import open_dataset, parse_options

    dataset = open_dataset(asked["dataset"], asked["root"], **parse_options(asked["dataset"], asked["options"]))
    subject = asked["subject"]
    if subject not in dataset.subjects():
        raise ConfigError(f"no subject {subject!r} under {asked['root']}; there are {', '.join(dataset.subjects())}")
    recordings = list(dataset.recordings(subject))
    if not recordings:
        why = "".join(f"; {p.where}: {p.reason}" for p in dataset.problems()[:3])
        raise DataError(f"no recording of {subject} under {asked['root']} can be used{why}")
    return recordings, dataset.labels


def _window(run: Run, out: Path, fold_name: str, window: ChosenWindow, where: str) -> tuple[list[str], list[Path]]:
    from edgepain.train.explain import choose_fold, explain, standing, unimodal_heads
    from edgepain.train.explain.files import make_folder, write_window
    from edgepain.train.explain.pictures import draw_window
    from edgepain.train.explain.summary import describe

    fold = choose_fold(run, fold_name, window.subject)
    explanation = explain(fold.network(), unimodal_heads(fold), window.scaled)
    make_folder(out)
    who = standing(fold, window.subject)
    answer = f"{run.labels[explanation.answer]} {explanation.probabilities[explanation.answer]:.0%}"
    label = f", labelled {window.label}" if window.label else ""
    title = f"{where} ({who}{_simulated(run)}): {answer}{label}"
    lines = [_network(run, fold), *describe(window, explanation, run.labels, who)]
    return lines, write_window(out, window, explanation, run.labels, draw_window(window, explanation, title))


def _embeddings(run: Run, out: Path, fold_name: str, asked: dict[str, Any]) -> tuple[list[str], list[Path]]:
    from edgepain.train.explain import choose_fold, embed_held_out, project
    from edgepain.train.explain.files import make_folder, write_embeddings
    from edgepain.train.explain.planes import draw_planes

    fold = choose_fold(run, fold_name, "")
    embeddings = embed_held_out(run, fold)
    make_folder(out)
    windows, method = embeddings.windows, asked["method"]
    planes = {block: project(vectors, method) for block, vectors in embeddings.vectors.items()}
    subjects = len(set(windows.subjects))
    of = f"{len(windows)} windows of {subjects} held-out subject{'s' if subjects != 1 else ''}"
    title = f"Embeddings of {of}, {'t-SNE' if method == 'tsne' else 'PCA'}{_simulated(run)}"
    picture = draw_planes(embeddings, planes, method, title, asked["mark_subjects"])
    right = (windows.labels == embeddings.answers).mean()
    lines = [_network(run, fold), f"{of}, {run.scaling} scaling; {right:.1%} answered rightly"]
    return lines, write_embeddings(out, embeddings, planes, {"embeddings": picture})


def _network(run: Run, fold: Fold) -> str:
    name = f"fold {fold.name}, " if len(run.folds) > 1 else ""
    return f"network: {name}{run.spec.fusion} fusion, {' / '.join(run.labels)}{_simulated(run)}"


def _simulated(run: Run) -> str:
    return ", simulated people" if run.synthetic else ""
