"""Tests between models against values worked by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from edgepain.train.significance import compare, holm, signed_rank


def test_signed_rank_by_hand() -> None:
    nothing = np.zeros(6)
    # All six in one direction: one of 2⁶ signs, on either side.
    assert signed_rank(np.arange(1.0, 7.0) / 10, nothing) == (pytest.approx(2 / 64), "")
    # The smallest in the other direction: rank sum 1 or 0, that is 2 of 64.
    assert signed_rank(np.array([-0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), nothing)[0] == pytest.approx(4 / 64)
    # Ten folds in one direction give what the paper prints as 0.00195.
    assert signed_rank(np.arange(1.0, 11.0), np.zeros(10))[0] == pytest.approx(2 / 1024)


def test_pairs_without_a_difference_are_dropped() -> None:
    first = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.1 + 0.2])
    second = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.7, 0.3])
    assert signed_rank(first, second)[0] == pytest.approx(2 / 64)


@pytest.mark.parametrize("pairs", [7, 20, 60])
def test_ties_give_a_p_and_no_warning(pairs: int) -> None:
    p, reason = signed_rank(np.tile([0.1, 0.2], pairs)[:pairs], np.zeros(pairs))
    assert p is not None
    assert 0 < p < 0.05
    assert reason == ""


@pytest.mark.parametrize(
    ("first", "reason"),
    [([0.5] * 10, "no pair differs"), ([0.1, 0.2, 0.3, 0.4, 0.9], "5 of 5 pairs differ; 6 are needed")],
)
def test_no_p_has_a_reason(first: list[float], reason: str) -> None:
    assert signed_rank(np.array(first), np.full(len(first), 0.5)) == (None, reason)


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.03, 0.04, 0.5: times 4, 3, 2, 1 is 0.04, 0.09, 0.08, 0.5; a later one is never smaller.
    assert holm([0.04, 0.01, 0.5, 0.03]) == pytest.approx([0.09, 0.04, 0.5, 0.09])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_comparisons_are_paired_by_unit_and_corrected_as_a_family() -> None:
    units = [f"f{i}" for i in range(10)]
    values = {
        "good": pd.Series(np.arange(10) / 10 + 0.2, units),
        "bad": pd.Series(np.arange(10) / 100, units).iloc[::-1],
        "some": pd.Series(np.arange(7) / 100, units[:7]),
        "none": pd.Series([], dtype=float),
    }
    pairs = [("good", "bad"), ("good", "good"), ("good", "some"), ("good", "none")]
    found = compare("F1 of folds", pairs, lambda name: values[name])
    assert [c.pairs for c in found] == [10, 10, 7, 0]
    assert found[0].difference == pytest.approx(np.mean(np.arange(10) * 0.09 + 0.2))
    assert [c.p for c in found] == [pytest.approx(2 / 1024), None, pytest.approx(2 / 128), None]
    # A family of two: those without p are not in it.
    assert [c.p_holm for c in found] == [pytest.approx(4 * 2 / 1024), None, pytest.approx(3 * 2 / 128), None]
    assert [c.reason for c in found] == ["", "no pair differs", "", "no pair"]
