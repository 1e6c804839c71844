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
_NUMBER = re.compile(r"[−+\[]?[0-9][-0-9.,e+−±/ \]]*")
_PAGE_ROWS = 40
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
        """A `table` as wide as the text, or a `longtable`; needs the packages booktabs, graphicx and longtable."""
        caption = _latex(" ".join((self.title + ".", _sentence(self.what), *self.notes)))
        columns = "".join("l" if self.is_text(name) else "r" for name in self.shown.columns)
        cells = self.shown.map(_latex).rename(columns=_latex)
        label = f"tab:{self.name}"
        if self.long:
            body = cells.to_latex(
                index=False, escape=False, column_format=columns, longtable=True, caption=caption, label=label
            )
            return f"{{\\scriptsize\n\\setlength{{\\tabcolsep}}{{2pt}}\n{body}}}\n"
        body = cells.to_latex(index=False, escape=False, column_format=columns)
        fitted = f"\\resizebox{{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}}{{!}}{{%\n{body}}}\n"
        return f"\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n\\label{{{label}}}\n{fitted}\\end{{table}}\n"

    @property
    def long(self) -> bool:
        """Whether it has more rows than a screen or a printed page."""
        return len(self.shown) > _PAGE_ROWS

    def css_class(self, column: str) -> str:
        """Classes of a column's cells in the page."""
        return " ".join(["text"] * self.is_text(column) + ["muted"] * (column in self.muted)) or "number"

    def is_text(self, column: str) -> bool:
        """Whether a column is set flush left: there is no number in it."""
        return not any(_NUMBER.fullmatch(cell) for cell in self.shown[column])


def _sentence(text: str) -> str:
    return text if text.endswith(".") else text + "."


def _markdown(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", text)


def _latex(text: str) -> str:
    return text.translate(_LATEX)
