"""How names and numbers are written."""

from __future__ import annotations

import math
from collections.abc import Sequence

KINDS = {"fcn": "FCN", "alstm": "ALSTM", "transformer": "FCN-ALSTM-Transformer", "crossmod": "CrossMod-Transformer"}
_SHORT = {"transformer": "FAT", "crossmod": "CrossMod"}
NONE = "n/a"


def printable(text: str) -> str:
    """Text without characters that break a line, a page or a file: they become �."""
    return "".join(c if c.isprintable() else "�" for c in text)


def model_parts(model: str, modalities: Sequence[str]) -> tuple[str, str]:
    """Modality and name of a model as the paper's tables have them."""
    kind, _, modality = model.partition(".")
    if modality in modalities:
        return modality.upper(), KINDS.get(kind, printable(kind))
    base, plus, rest = model.partition("+")
    name = KINDS.get(base, printable(base)) + (f" + {printable(rest)}" if plus else "")
    return " + ".join(m.upper() for m in modalities), name


def model_name(model: str, modalities: Sequence[str], short: bool = False) -> str:
    """One model in one text; `short` for pictures, where FAT is FCN-ALSTM-Transformer."""
    modality, name = model_parts(model, modalities)
    for kind, abbreviation in _SHORT.items() if short else ():
        name = name.replace(KINDS[kind], abbreviation)
    return f"{modality} {name}" if model.partition(".")[2] in modalities else name


def percent(share: float | None, digits: int = 2) -> str:
    """A share as a percentage without the sign, n/a where there is none."""
    return NONE if share is None or math.isnan(share) else f"{100 * share:.{digits}f}"


def with_sd(mean: float, sd: float) -> str:
    """Mean ± SD of shares, per cent; the mean alone where there is no SD."""
    return percent(mean) if math.isnan(mean) or math.isnan(sd) else f"{percent(mean)} ± {percent(sd)}"


def interval(bounds: tuple[float, float] | None) -> str:
    """A confidence interval of shares, per cent."""
    return NONE if bounds is None else f"[{percent(bounds[0])}, {percent(bounds[1])}]"


def signed(difference: float | None) -> str:
    """A difference of shares in percentage points, with its sign."""
    if difference is None or math.isnan(difference):
        return NONE
    return f"{100 * difference:+.2f}".replace("-", "−")


def p_value(p: float | None) -> str:
    """A p value, exact where it is large enough to be read."""
    return NONE if p is None else f"{p:.4f}" if p >= 0.001 else f"{p:.1e}".replace("-", "−")


def count(number: float) -> str:
    """A whole number plainly, a mean over seeds with one decimal."""
    return f"{number:.0f}" if float(number).is_integer() else f"{number:.1f}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names separated by commas, cut where there are many."""
    shown = ", ".join(printable(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
