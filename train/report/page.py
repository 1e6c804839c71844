"""The report as one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version

from jinja2 import Environment, StrictUndefined

from edgepain.train.report.drawing import Picture
from edgepain.train.report.table import Table


@dataclass(frozen=True)
class Section:
    """One run: warnings, what was run on what, and tables and pictures in order."""

    slug: str
    label: str
    warnings: Sequence[str]
    facts: Sequence[tuple[str, str]]
    parts: Sequence[Table | Picture]


@dataclass(frozen=True)
class Joint:
    """All runs side by side."""

    table: Table
    picture: Picture


def html(title: str, joint: Joint | None, sections: Sequence[Section]) -> str:
    """The page. Every text in it is escaped."""
    here = resources.files("edgepain.train.report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.globals["zip"] = zip
    template = environment.from_string((here / "page.html.jinja").read_text(encoding="utf-8"))
    return template.render(
        title=title,
        version=version("edgepain"),
        css=(here / "page.css").read_text(encoding="utf-8"),
        joint=joint,
        sections=sections,
    )
