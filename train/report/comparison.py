"""Our results beside what the paper prints: its own, and those of other works."""

from __future__ import annotations

import pandas as pd

from edgepain.train.paper import OtherWork, PrintedTable
from edgepain.train.report.beside import departures, printed_table
from edgepain.train.report.results import HEADINGS, model_cells, run_columns
from edgepain.train.report.source import Digest
from edgepain.train.report.table import Table
from edgepain.train.report.text import interval, model_parts, percent, signed, with_sd


def beside_table(digest: Digest) -> Table | None:
    """Ours beside the paper's printed figures; None where it has none for this dataset and protocol."""
    printed, _ = printed_table(digest.run)
    if printed is None:
        return None
    shown, raw = [], []
    for model in digest.models:
        if model not in printed.rows:
            continue
        theirs, ours = printed.rows[model], digest.summaries[digest.trained(model)]
        row = model_cells(digest, model)
        for name, (mean, sd) in theirs.scores.items():
            row[HEADINGS[name]] = with_sd(ours.mean[name], ours.sd[name])
            row[f"{HEADINGS[name]}, paper"] = f"{mean:.2f}" + (f" ± {sd:g}" if sd is not None else "")
            raw.append(
                {
                    **run_columns(digest),
                    "model": model,
                    "metric": name,
                    "mean": ours.mean[name],
                    "sd": ours.sd[name],
                    "paper_mean": mean / 100,
                    "paper_sd": None if sd is None else sd / 100,
                }
            )
        if theirs.f1_interval:
            low, high = theirs.f1_interval
            row |= {"F1 95 % CI": interval(ours.f1_interval), "F1 95 % CI, paper": f"[{low:.2f}, {high:.2f}]"}
        row["Accuracy, ours − paper"] = signed(ours.mean["accuracy"] - theirs.scores["accuracy"][0] / 100)
        shown.append(row)
    if not shown:
        return None
    differs = departures(digest.run, printed)
    frame = pd.DataFrame(shown)
    notes = [f"Per cent, mean ± SD. Paper: {printed.name}."]
    notes += [f"This run differs from what the paper prints: {'; '.join(differs)}."] if differs else []
    muted = tuple(name for name in frame.columns if name.endswith(", paper"))
    return Table(
        f"{digest.slug}-paper",
        f"Beside the paper ({printed.name})",
        digest.what,
        frame,
        pd.DataFrame(raw),
        tuple(notes),
        muted,
    )


def other_works_table(digest: Digest) -> Table | None:
    """Our hybrid models among the other works that the paper prints, by accuracy."""
    printed, _ = printed_table(digest.run)
    if printed is None:
        return None
    rows = [_other_row(work) for work in printed.others] + _our_rows(digest, printed)
    rows.sort(key=lambda row: (row["Signals"].count(","), row["Signals"], float(row["Accuracy"])))
    raw = pd.DataFrame(rows).rename(columns=str.lower)
    raw["accuracy"] = raw["accuracy"].astype(float) / 100
    return Table(
        f"{digest.slug}-other-works",
        f"Beside other works ({printed.others_from})",
        digest.what,
        pd.DataFrame(rows),
        pd.concat([pd.DataFrame([run_columns(digest)] * len(raw)), raw], axis=1),
        (
            f"Accuracy in per cent. Rows of other works and of the paper as {printed.others_from} of the paper prints "
            "them; none of them was run here. [n] is the paper's reference.",
        ),
    )


def _other_row(work: OtherWork) -> dict[str, str]:
    return {
        "Work": f"{work.authors} [{work.number}]",
        "Signals": work.signals,
        "Method": work.method,
        "Accuracy": f"{work.accuracy:.2f}",
    }


def _our_rows(digest: Digest, printed: PrintedTable) -> list[dict[str, str]]:
    rows = []
    modalities = digest.run.config.modalities
    for model in digest.models:
        if model not in printed.rows or not model.startswith(("transformer", "crossmod")):
            continue
        signals, method = model_parts(model, modalities)
        signals = ", ".join(signals.split(" + "))
        mean = digest.summaries[digest.trained(model)].mean["accuracy"]
        rows.append({"Work": "this run", "Signals": signals, "Method": method, "Accuracy": percent(mean)})
        accuracy = printed.rows[model].scores["accuracy"][0]
        rows.append({"Work": "the paper", "Signals": signals, "Method": method, "Accuracy": f"{accuracy:.2f}"})
    return rows
