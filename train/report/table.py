"""A table as people read it and as programs do, and the files it is written to."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        # Signs that not every LaTeX engine sets.
        "±": r"$\pm$",
        "−": "$-$",
        "Δ": r"$\Delta$",
        "×": r"$\times$",
        "≥": r"$\geq$",
        "…": r"\ldots{}",
        "�": "?",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "[": "{[}",
        "]": "{]}",
    }
)
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#&~$!])")


@dataclass(frozen=True)
class Table:
    """shown: every cell as text. raw: the same in plain numbers, shares between 0 and 1, with tidy columns.

    what: run, data and protocol, the head of the table. notes: what a reader must know beside it. muted: columns
    of figures that are not ours.
    """

    name: str
    title: str
    what: str
    shown: pd.DataFrame
    raw: pd.DataFrame
    notes: tuple[str, ...] = ()
    muted: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Heading, notes and a pipe table, with everything in it that Markdown would read escaped."""
        cells = self.shown.map(_markdown).rename(columns=_markdown)
        numeric = ["left" if self.is_text(name) else "right" for name in self.shown.columns]
        table = cells.to_markdown(index=False, tablefmt="pipe", disable_numparse=True, colalign=numeric)
        notes = "".join(f"\n{_markdown(note)}\n" for note in self.notes)
        return f"## {_markdown(self.title)}\n\n{_markdown(self.what)}\n\n{table}\n{notes}"

    def csv(self) -> str:
        """The raw numbers, one line a row."""
        return str(self.raw.to_csv(index=False, lineterminator="\n"))

    def latex(self) -> str:
        """A `table` environment; needs the package booktabs."""
        caption = _latex(" ".join((self.title + ".", _sentence(self.what), *self.notes)))
        columns = "".join("l" if self.is_text(name) else "r" for name in self.shown.columns)
        cells = self.shown.map(_latex).rename(columns=_latex)
        body = str(cells.to_latex(index=False, escape=False, column_format=columns))
        return (
            f"\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n\\label{{tab:{self.name}}}\n{body}\\end{{table}}\n"
        )

    def css_class(self, column: str) -> str:
        """Classes of a column's cells in the page."""
        return " ".join(["text"] * self.is_text(column) + ["muted"] * (column in self.muted)) or "number"

    def is_text(self, column: str) -> bool:
        """Whether a column is set flush left: nothing in it begins with a number."""
        return not any(re.match(r"[−+\[]?[0-9]", cell) for cell in self.shown[column])


def _sentence(text: str) -> str:
    return text if text.endswith(".") else text + "."


def _markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _latex(text: str) -> str:
    return text.translate(_LATEX)
