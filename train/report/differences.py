"""Is the main model better than the others, and a hybrid better than its blocks? Tested as in the paper's footnotes."""

from __future__ import annotations

import pandas as pd

from edgepain.train.report.beside import printed_table
from edgepain.train.report.results import run_columns
from edgepain.train.report.source import TEMPERED, Digest
from edgepain.train.report.table import Table
from edgepain.train.report.text import model_name, p_value, printable, signed
from edgepain.train.significance import MIN_PAIRS, Comparison, compare
from edgepain.train.statistics import over_seeds, subject_scores

FOLD_F1 = "F1 of folds"
SUBJECT_F1 = "F1 of subjects"
SUBJECT_ACCURACY = "accuracy of subjects"


def differences(digest: Digest) -> list[Comparison]:
    """All tests of a run; the tests on one kind of pairs are a family."""
    pairs = _pairs(digest)
    found: list[Comparison] = []
    protocol = digest.run.config.protocol
    if protocol != "holdout" and not digest.summaries[digest.trained(digest.main)].redrawn:
        found += compare(
            SUBJECT_F1 if protocol == "loso" else FOLD_F1,
            pairs,
            lambda model: over_seeds(digest.scores[digest.trained(model)])["f1"],
        )
    if protocol != "loso":
        accuracies = {m: subject_scores(digest.answers[digest.trained(m)])["accuracy"] for m in digest.models}
        found += compare(SUBJECT_ACCURACY, pairs, lambda model: accuracies[model])
    return found


def differences_table(digest: Digest) -> Table | None:
    """The tests as a table, None where there is but one model."""
    found = differences(digest)
    if not found:
        return None
    modalities = digest.run.config.modalities
    printed, _ = printed_table(digest.run)
    rows = []
    for c in found:
        row = {
            "First": model_name(c.first, modalities, short=True),
            "Second": model_name(c.second, modalities, short=True),
            "Pairs": f"{c.unit}, n = {c.pairs}",
            "First − second": signed(c.difference),
            "p": p_value(c.p) + (f" ({c.reason})" if c.reason else ""),
            "p (Holm)": p_value(c.p_holm),
        }
        if printed and printed.p_values:
            theirs = printed.p_values.get((c.first, c.second)) if c.unit != SUBJECT_ACCURACY else None
            row["p, paper"] = "" if theirs is None else p_value(theirs)
        rows.append(row)
    raw = pd.DataFrame([{**run_columns(digest), **vars(c)} for c in found])
    return Table(
        f"{digest.slug}-tests",
        "Differences between models",
        digest.what,
        pd.DataFrame(rows),
        raw.assign(**{name: raw[name].map(printable) for name in ("first", "second")}),
        _notes(digest),
        ("p, paper",) if "p, paper" in rows[0] else (),
    )


def _notes(digest: Digest) -> tuple[str, ...]:
    notes = [
        "Wilcoxon signed-rank test, two-sided; pairs without a difference are dropped; p exact up to 50 pairs without "
        "ties. p (Holm): corrected over all tests on the same kind of pairs. Difference: mean, in percentage points. "
        "FAT: FCN-ALSTM-Transformer.",
    ]
    protocol = digest.run.config.protocol
    main = digest.summaries[digest.trained(digest.main)]
    if protocol == "holdout":
        notes.append("One fold gives no pairs of folds: only subjects are compared.")
    elif main.redrawn:
        notes.append("Seeds have folds of their own, which share people: only subjects are compared.")
    elif protocol != "loso" and main.folds >= MIN_PAIRS:
        folds = main.folds
        notes.append(
            f"{folds} folds cannot give p below {2 / 2**folds:.2g}, however large the difference; subjects can. "
            "Subjects of one fold share a trained network, so their pairs are not independent of each other."
        )
    return tuple(notes)


def _pairs(digest: Digest) -> list[tuple[str, str]]:
    """Each hybrid against its blocks; the main model against every other. A temperature changes no answer."""
    models = digest.models
    blocks = [(f"transformer.{m}", f"{kind}.{m}") for m in digest.run.config.modalities for kind in ("fcn", "alstm")]
    found = [pair for pair in blocks if set(pair) <= set(models)]
    return found + [(digest.main, model) for model in models if model not in (digest.main, TEMPERED)]
