"""Protocols: who is held out in which fold, and that nobody is ever on both sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import BaseCrossValidator, cross_val_score

from edgepain.errors import ConfigError
from edgepain.train.protocol import splits, splitter
from edgepain.train.split import LeakError, Split

people = st.lists(st.text("abc123-", min_size=1, max_size=6), min_size=2, max_size=30, unique=True).map(sorted)
seeds = st.integers(0, 2**32 - 1)


@st.composite
def protocols(draw: st.DrawFn, among: Sequence[str] = ("loso", "k-fold", "holdout")) -> tuple[list[str], str, str, int]:
    """Subjects, protocol, hold-out rule and seed."""
    subjects = draw(people)
    protocol = draw(st.sampled_from(among))
    if protocol == "k-fold":
        protocol = f"{draw(st.integers(2, len(subjects)))}-fold"
    rules = st.one_of(
        st.integers(1, len(subjects) - 1).map(str),
        st.integers(1, 50).map(lambda share: f"{share}%"),
        st.lists(st.sampled_from(subjects), min_size=1, max_size=len(subjects) - 1, unique=True).map(
            lambda names: ",".join(names) + ","
        ),
        st.just("official"),
    )
    return subjects, protocol, draw(rules), draw(seeds)


def folds(subjects: Sequence[str], protocol: str, rule: str, seed: int) -> tuple[Split, ...]:
    official = {"official": [subjects[0], "not on disk"]}
    return splits(splitter(protocol, subjects, rule, official, seed), subjects)


@given(protocols())
def test_every_fold_parts_all_subjects(drawn: tuple[list[str], str, str, int]) -> None:
    subjects = drawn[0]
    for split in folds(*drawn):
        assert not set(split.train) & set(split.held_out)
        assert sorted(split.train + split.held_out) == subjects


@given(protocols(("loso", "k-fold")))
def test_every_subject_is_held_out_once(drawn: tuple[list[str], str, str, int]) -> None:
    subjects, protocol, _, _ = drawn
    found = folds(*drawn)
    assert sorted(name for split in found for name in split.held_out) == subjects
    assert len(found) == (len(subjects) if protocol == "loso" else int(protocol.removesuffix("-fold")))


@given(protocols())
def test_a_seed_gives_the_same_folds_again(drawn: tuple[list[str], str, str, int]) -> None:
    assert folds(*drawn) == folds(*drawn)


def test_seeds_change_drawn_folds_and_no_others() -> None:
    subjects = [f"S{number:02d}" for number in range(12)]
    for protocol, rule, kinds in (("3-fold", "", 5), ("holdout", "4", 5), ("loso", "", 1), ("holdout", "official", 1)):
        assert len({folds(subjects, protocol, rule, seed) for seed in range(5)}) == kinds, (protocol, rule)


@given(protocols(), st.integers(1, 5), seeds)
@settings(max_examples=30)
def test_splitters_serve_scikit_learn(drawn: tuple[list[str], str, str, int], windows: int, order: int) -> None:
    subjects, protocol, rule, seed = drawn
    groups = np.random.default_rng(order).permutation(np.repeat(subjects, windows))
    validator = splitter(protocol, subjects, rule, {"official": [subjects[0]]}, seed)
    labels = np.arange(groups.size) % 2
    scores = cross_val_score(DummyClassifier(), np.zeros((groups.size, 1)), labels, groups=groups, cv=validator)
    assert len(scores) == validator.get_n_splits(groups=groups) == len(splits(validator, subjects))
    for train, held_out in validator.split(labels, groups=groups):
        assert not set(groups[train]) & set(groups[held_out])


class Leaky(BaseCrossValidator):  # type: ignore[misc]
    """Holds a subject out and trains on it."""

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        return 1

    def split(self, X: Any, y: object = None, groups: object = None) -> Iterator[tuple[Any, Any]]:
        yield np.arange(len(X)), np.arange(1)


def test_an_overlap_is_a_leak() -> None:
    with pytest.raises(LeakError, match="subject a is in training and held out; a split must be by subject"):
        splits(Leaky(), ["a", "b"])


@pytest.mark.parametrize(
    ("protocol", "subjects", "message"),
    [
        ("lopo", 4, "no protocol is called 'lopo'; there are loso, holdout, and K-fold such as 10-fold"),
        ("10-folds", 40, "no protocol is called"),
        ("٣-fold", 4, "no protocol is called"),
        ("1-fold", 4, "cannot make 1 folds of 4 subjects; choose 2-fold to 4-fold"),
        ("5-fold", 4, "cannot make 5 folds of 4 subjects; choose 2-fold to 4-fold"),
        ("loso", 1, "a subject-wise split needs at least two subjects, there is 1"),
    ],
)
def test_a_protocol_that_does_not_fit(protocol: str, subjects: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        splitter(protocol, [f"S{number}" for number in range(subjects)], "20%", {}, 0)


def test_groups_must_be_given() -> None:
    with pytest.raises(ValueError, match="'groups' parameter should not be None"):
        next(splitter("holdout", ["a", "b"], "1", {}, 0).split(np.zeros(2)))
