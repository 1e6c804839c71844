"""Evaluation protocols as scikit-learn cross-validators, grouped by subject.

    loso      leave one subject out: as many folds as subjects
    K-fold    K folds by subject, drawn by seed, e.g. 10-fold
    holdout   one fold, held out by a rule: see `edgepain.train.split.hold_out`

Any of them may be used outside of this package, as `cross_val_score(…, groups=table.subjects, cv=…)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import BaseCrossValidator, GroupKFold, LeaveOneGroupOut

from edgepain.errors import ConfigError
from edgepain.train.split import Split, hold_out

_K_FOLD = re.compile(r"([0-9]{1,6})-fold")


class HeldOutGroups(BaseCrossValidator):  # type: ignore[misc]
    """One split: the named groups are held out."""

    def __init__(self, held_out: Sequence[str]) -> None:
        self.held_out = tuple(held_out)

    def get_n_splits(self, X: object = None, y: object = None, groups: object = None) -> int:
        """Always 1."""
        return 1

    def _iter_test_masks(
        self, X: object = None, y: object = None, groups: npt.ArrayLike | None = None
    ) -> Iterator[npt.NDArray[np.bool_]]:
        if groups is None:
            raise ValueError("The 'groups' parameter should not be None.")
        yield np.isin(np.asarray(groups), self.held_out)


def splitter(
    protocol: str, subjects: Sequence[str], holdout: str, official: Mapping[str, Sequence[str]], seed: int
) -> BaseCrossValidator:
    """The cross-validator of a protocol for these subjects. Raises ConfigError where it does not fit them."""
    if len(subjects) < 2:
        raise ConfigError(
            f"a subject-wise split needs at least two subjects, there is {len(subjects)}; add recordings of others"
        )
    if protocol == "loso":
        return LeaveOneGroupOut()
    if protocol == "holdout":
        return HeldOutGroups(hold_out(subjects, holdout, official, seed).held_out)
    k_fold = _K_FOLD.fullmatch(protocol)
    if k_fold is None:
        raise ConfigError(f"no protocol is called {protocol!r}; there are loso, holdout, and K-fold such as 10-fold")
    folds = int(k_fold[1])
    if not 2 <= folds <= len(subjects):
        raise ConfigError(
            f"cannot make {folds} folds of {len(subjects)} subjects; choose 2-fold to {len(subjects)}-fold"
        )
    return GroupKFold(folds, shuffle=True, random_state=seed)


def splits(cross_validator: BaseCrossValidator, subjects: Sequence[str]) -> tuple[Split, ...]:
    """Every fold of a cross-validator, by subject. Raises LeakError for one whose subjects overlap."""
    ids: npt.NDArray[Any] = np.asarray(subjects)
    return tuple(
        Split(tuple(ids[train].tolist()), tuple(ids[held_out].tolist()))
        for train, held_out in cross_validator.split(ids, groups=ids)
    )


def in_words(protocol: str, holdout: str, folds: int, subjects: int) -> str:
    """The protocol for the head of a table."""
    if protocol == "loso":
        return f"leave one subject out ({subjects} folds)"
    if protocol == "holdout":
        return f"hold-out by subject ({holdout})"
    return f"{folds}-fold by subject"
