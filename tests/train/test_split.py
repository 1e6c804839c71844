"""Who is held out: every rule, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepain.errors import ConfigError
from edgepain.train.split import LeakError, Split, hold_out

SUBJECTS = tuple(f"S{i:02d}" for i in range(10))
OFFICIAL = {"validation": ("S01", "S07", "not on disk")}


@pytest.mark.parametrize(("rule", "count"), [("1", 1), ("3", 3), ("9", 9), ("20%", 2), ("1%", 1), ("90%", 9)])
def test_numbers_and_shares_are_drawn(rule: str, count: int) -> None:
    split = hold_out(SUBJECTS, rule, {}, seed=0)
    assert len(split.held_out) == count
    assert sorted(split.train + split.held_out) == list(SUBJECTS)


def test_the_seed_decides_who_is_drawn() -> None:
    draws = {hold_out(SUBJECTS, "3", {}, seed).held_out for seed in range(8)}
    assert len(draws) > 1
    assert hold_out(SUBJECTS, "3", {}, 5) == hold_out(SUBJECTS, "3", {}, 5)


def test_official_list_and_ids() -> None:
    assert hold_out(SUBJECTS, "validation", OFFICIAL, 0).held_out == ("S01", "S07")
    assert hold_out(SUBJECTS, "S05, S02", OFFICIAL, 0).held_out == ("S02", "S05")
    numbers = ("1", "2", "3")
    assert hold_out(numbers, "2,", {}, 0).held_out == ("2",)
    assert hold_out(numbers, "1,3", {}, 0).held_out == ("1", "3")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("0", "cannot hold out 0 of 10 subjects; choose 1 to 9"),
        ("10", "cannot hold out 10 of 10 subjects"),
        ("0%", "choose 1% to 99%"),
        ("100%", "choose 1% to 99%"),
        ("S99", r"no such subject .*; give a number, ids or one of the lists validation"),
        ("-1", "no such subject"),
        ("2.5%", "no such subject"),
        ("9" * 5000, "no such subject"),
        ("", "no subject to judge on"),
        (",".join(SUBJECTS), "no subject to train on"),
    ],
)
def test_what_cannot_be_held_out_is_refused(rule: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        hold_out(SUBJECTS, rule, OFFICIAL, 0)


def test_an_official_list_of_others_leaves_nobody() -> None:
    with pytest.raises(ConfigError, match="no subject to judge on"):
        hold_out(SUBJECTS, "test", {"test": ("X",)}, 0)


def test_one_subject_cannot_be_split() -> None:
    with pytest.raises(ConfigError, match="at least two subjects, there is 1"):
        hold_out(("A",), "1", {}, 0)


def test_overlap_is_a_leak() -> None:
    with pytest.raises(LeakError, match="subject B is in training and held out"):
        Split(("A", "B"), ("B", "C"))


@given(st.lists(st.text("ab,1%", min_size=1), unique=True, max_size=6), st.text("ab,19% "), st.integers(0, 2**32 - 1))
def test_every_subject_is_on_exactly_one_side(subjects: list[str], rule: str, seed: int) -> None:
    try:
        split = hold_out(subjects, rule, {"b": ("a",)}, seed)
    except ConfigError:
        return
    assert sorted(split.train + split.held_out) == sorted(subjects)
    assert split.train
    assert split.held_out
