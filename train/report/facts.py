"""What was run on what: the head of a run's section."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from edgepain.train.chosen import read_chosen
from edgepain.train.config import SIZES, RunConfig, StageConfig
from edgepain.train.paper import STAGES
from edgepain.train.report.beside import not_pain, printed_table
from edgepain.train.report.results import run_columns
from edgepain.train.report.source import Digest
from edgepain.train.report.table import Table
from edgepain.train.report.text import NONE, listed, printable


def facts(digest: Digest) -> list[tuple[str, str]]:
    """Terms and what is to say about them, in order."""
    run = digest.run
    config, train = run.config, run.config.train
    options = "; ".join(f"{name} = {_option(value)}" for name, value in config.options.items())
    limit = "" if train.limit_iqr is None else f"; values end at {train.limit_iqr:g} inter-quartile ranges"
    found = [
        ("Dataset", config.dataset + (f" ({options})" if options else "")),
        ("Data", "synthetic: simulated people" if run.synthetic else "recordings of people"),
        ("Classes", " / ".join(run.labels)),
        ("Signals", " + ".join(f"{m.upper()} ({m.unit.replace('uS', 'µS')})" for m in config.modalities)),
        ("Subjects", f"{len(config.subjects)}, of whom {len(digest.subject_order)} were held out and judged"),
        ("Windows judged", _windows(digest)),
        ("Protocol", run.protocol),
        ("Seeds", ", ".join(map(str, config.seeds))),
        ("Window", f"{train.window.seconds:g} s, {train.window.steps} points"),
        (
            "Scaling",
            f"{run.scaling}; causal scaling needs {train.min_history_s:g} s of history, looks back "
            f"{train.horizon_s:g} s{limit}",
        ),
        (
            "Training",
            f"configuration {train.name}: fusion {train.fusion}, batches of {train.batch_size}, precision "
            f"{train.precision}, modality dropout {train.modality_dropout:g}, {train.calibration_share:.0%} of the "
            "training subjects kept for the temperature",
        ),
        ("Network", _network(config)),
        ("Peers", ", ".join(config.peers) or "none"),
        ("Machine", _machine(run.environment)),
    ]
    return [(term, printable(text)) for term, text in found]


def _network(config: RunConfig) -> str:
    width, heads, stride = SIZES[config.size]
    text = f"{config.size}: width {width}, {heads} heads"
    if stride > 1:
        text += f", one token for {stride} time steps"
    if config.teacher is None:
        return text
    distill = config.train.distill
    return (
        f"{text}; distilled from {config.teacher.run} ({config.teacher.fingerprint}), fold by fold on the same "
        f"training people; its answers are {distill.share:.0%} of the loss, at temperature {distill.temperature:g}"
    )


def warnings(digest: Digest) -> list[str]:
    """What a reader must know before the first number."""
    found = []
    if digest.unfinished:
        found.append(f"{len(digest.unfinished)} parts of this run are not finished: {listed(digest.unfinished, 12)}.")
    if digest.run.config.epoch_choice == "test-fold":
        found.append(
            "EPOCH CHOSEN ON THE TEST FOLD: the epoch was picked by its scores on the held-out people, so these "
            "results are better than those on new people would be."
        )
    if digest.run.synthetic:
        found.append("Synthetic: these people are simulated, so the results say nothing about people.")
    if reason := not_pain(digest.run):
        found.append(reason)
    _, no_figures = printed_table(digest.run)
    if no_figures:
        found.append(no_figures)
    return [printable(text) for text in found]


def stages_table(digest: Digest) -> Table | None:
    """Settings of every stage beside Table 4 of the paper; None for a run of peers only."""
    from edgepain.train.staged import stage_configs  # imports torch

    config = digest.run.config
    if not config.network:
        return None
    chosen = [read_chosen(digest.run.folder / "folds" / fold.name) for fold in config.folds]
    rows, raw = [], []
    for name, stage in stage_configs(config.modalities, config.train).items():
        of_folds = [stages.get(name, stage) for stages in chosen]
        epochs, rate, dropout, schedule = STAGES[name.partition(".")[0]]
        rows.append(
            {
                "Stage": name,
                "Epochs": _range([s.epochs for s in of_folds]),
                "paper: epochs": epochs,
                "Learning rate": _range([s.learning_rate for s in of_folds]),
                "paper: searched rates": rate,
                "Dropout": _range([s.dropout for s in of_folds]),
                "paper: searched dropouts": dropout,
                "Schedule": _schedule(stage),
                "paper: schedule": schedule,
            }
        )
        raw += [
            {**run_columns(digest), "fold": fold.name, "stage": name}
            | {"epochs": s.epochs, "learning_rate": s.learning_rate, "dropout": s.dropout, "schedule": _schedule(s)}
            for fold, s in zip(config.folds, of_folds, strict=True)
        ]
    searched = any(chosen) and "A search on training subjects chose settings; where folds differ, their range is shown."
    return Table(
        f"{digest.slug}-stages",
        "Stages of training",
        digest.what,
        pd.DataFrame(rows),
        pd.DataFrame(raw),
        (
            "Adam. The paper (Table 4) prints ranges that it searched, not what it chose.",
            *([searched] if searched else []),
        ),
        tuple(name for name in rows[0] if name.startswith("paper")),
    )


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    text = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in (low, high)]
    return text[0] if low == high else " to ".join(text)


def _schedule(stage: StageConfig) -> str:
    milestones = ", ".join(map(str, stage.milestones))
    return f"× {stage.gamma:g} at [{milestones}]" if milestones else "none"


def _windows(digest: Digest) -> str:
    """Per class, under the scaling of training, each window once."""
    answers = digest.answers[digest.trained(digest.main)]
    labels = dict(pair for a in answers for pair in zip(a.rows.tolist(), a.labels.tolist(), strict=True))
    counts = np.bincount(list(labels.values()), minlength=len(digest.run.labels))
    each = ", ".join(f"{count} {name}" for name, count in zip(digest.run.labels, counts.tolist(), strict=True))
    left_out = digest.summaries[digest.trained(digest.main)].left_out
    return f"{counts.sum()} ({each}); {left_out:g} left out for quality or history"


def _machine(environment: Any) -> str:
    packages = environment.get("packages") or {}
    parts = [str(environment[name]) for name in ("processor", "system", "machine", "device") if environment.get(name)]
    parts += [f"threads: {environment[name]}" for name in ("threads",) if environment.get(name)]
    parts += [f"Python {environment['python']}"] if environment.get("python") else []
    return ", ".join(parts + [f"{name} {version}" for name, version in packages.items()]) or NONE


def _option(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
