"""How commands show shares, and say why there are none."""

from __future__ import annotations

from collections.abc import Sequence


def percent(share: float | None, unit: str = "") -> str:
    """A share as a percentage of two decimals, `n/a` where there is none."""
    return "n/a" if share is None else f"{100 * share:.2f}{unit}"


def describe_missing(missing: Sequence[int], labels: Sequence[str]) -> str:
    """Why there is no share where the classes of these indices have no window."""
    names = " or ".join(repr(labels[index]) for index in missing)
    return f"no usable window of class {names}: not comparable"
