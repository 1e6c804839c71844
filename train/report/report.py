"""Write the report of one or several runs: a page, tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from edgepain.errors import ConfigError
from edgepain.train.explain import Run
from edgepain.train.report.answer_pictures import confusions, reliabilities, rocs
from edgepain.train.report.comparison import beside_table, other_works_table
from edgepain.train.report.conditions import conditions_table, joint_table
from edgepain.train.report.curve_pictures import curves
from edgepain.train.report.differences import differences_table
from edgepain.train.report.drawing import Picture
from edgepain.train.report.explained import explained
from edgepain.train.report.facts import facts, stages_table, warnings
from edgepain.train.report.fold_pictures import bars, runs_accuracy, subjects, violins
from edgepain.train.report.page import Joint, Section, html
from edgepain.train.report.results import main_table, pooled_table, subject_table
from edgepain.train.report.source import Digest, ReportableRun, digests
from edgepain.train.report.table import Table

PAGE = "report.html"
_OURS = {"tables": (".csv", ".md", ".tex"), "figures": (".svg",)}
_PARTS: tuple[Callable[[Digest], Table | Picture | None], ...] = (
    main_table,
    beside_table,
    bars,
    violins,
    pooled_table,
    differences_table,
    conditions_table,
    confusions,
    rocs,
    reliabilities,
    subjects,
    subject_table,
    other_works_table,
    stages_table,
    curves,
)
# Of each run: the digest and its parts.
STEPS = 2 + len(_PARTS)


def write_report(
    runs: Sequence[ReportableRun],
    out: Path,
    progress: Callable[[str], None] = lambda what: None,
    explain: Sequence[Run] = (),
) -> Path:
    """Write report.html, tables/ (CSV, Markdown, LaTeX) and figures/ (SVG) into the folder `out`; returns the page.

    A report that lies there already is replaced. `progress` is told of each of the STEPS of every run. explain: the
    same runs again, with their networks, where the report is to show what these look at.

    Raises DataError for a run without answers, ConfigError where `out` cannot be written or holds something else.
    """
    _prepare(out)
    found = []
    for one in digests(runs):
        progress(f"{one.label}: scored")
        found.append(one)
    sections = [_section(d, run, progress) for d, run in zip_longest(found, explain)]
    joint = Joint(joint_table(found), runs_accuracy(found)) if len(found) > 1 else None
    title = f"Report: {', '.join(_title(d) for d in found)}"
    everything = [part for section in sections for part in section.parts]
    everything += [joint.table, joint.picture] if joint else []
    try:
        _clear(out)
        for part in everything:
            _write_part(out, part)
        (out / PAGE).write_text(html(title, joint, sections), encoding="utf-8")
    except OSError as error:
        raise _unwritable(out, error) from error
    return out / PAGE


def _title(d: Digest) -> str:
    return f"{d.label} (synthetic)" if d.run.synthetic else d.label


def _section(one: Digest, run: Run | None, progress: Callable[[str], None]) -> Section:
    parts, remarks = list(_parts(one, progress)), warnings(one)
    progress(f"{one.label}: explained")
    if run:
        shown = explained(one, run)
        parts += shown.pictures
        remarks = [*remarks, *([shown.why_not] if shown.why_not else [])]
    return Section(one.slug, one.label, remarks, facts(one), tuple(parts))


def _parts(one: Digest, progress: Callable[[str], None]) -> Iterator[Table | Picture]:
    for make in _PARTS:
        progress(f"{one.label}: {make.__name__.replace('_', ' ')}")
        part = make(one)
        if part is not None:
            yield part


def _prepare(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        foreign = next(out.iterdir(), None) is not None and not (out / PAGE).is_file()
    except OSError as error:
        raise _unwritable(out, error) from error
    if foreign:
        raise ConfigError(f"{out} is not empty and holds no report; choose another --out")


def _clear(out: Path) -> None:
    """Remove what an earlier report left, so that no table of old numbers lies beside new ones."""
    (out / PAGE).unlink(missing_ok=True)
    for folder, endings in _OURS.items():
        (out / folder).mkdir(exist_ok=True)
        for path in (out / folder).iterdir():
            if path.suffix in endings:
                path.unlink()


def _write_part(out: Path, part: Table | Picture) -> None:
    if isinstance(part, Picture):
        (out / "figures" / f"{part.name}.svg").write_bytes(part.svg)
        return
    for ending, text in ((".md", part.markdown()), (".csv", part.csv()), (".tex", part.latex())):
        (out / "tables" / f"{part.name}{ending}").write_text(text, encoding="utf-8")


def _unwritable(out: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{out} cannot be written ({error.strerror}); choose another --out or make room")
