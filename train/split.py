"""Who trains and who is held out, always by subject."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sklearn.model_selection import GroupShuffleSplit

from edgepain.errors import ConfigError, EdgepainError

_NUMBER = re.compile(r"([0-9]{1,9})(%?)")


class LeakError(EdgepainError):
    """A subject stands on both sides of a split."""


@dataclass(frozen=True)
class Split:
    """Disjoint subject ids. Raises LeakError where they overlap, ConfigError where a side is empty."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]

    def __post_init__(self) -> None:
        if both := sorted(set(self.train) & set(self.held_out)):
            raise LeakError(f"subject {both[0]} is in training and held out; a split must be by subject")
        if not self.train or not self.held_out:
            side = "train" if not self.train else "judge"
            raise ConfigError(f"the split leaves no subject to {side} on; choose other held-out subjects")


def hold_out(subjects: Sequence[str], rule: str, official: Mapping[str, Sequence[str]], seed: int) -> Split:
    """Hold subjects out by `rule`: a share (`20%`) or number drawn by seed, the name of an official list, or ids.

    Ids are separated by commas; a lone number counts subjects, so an id that is one needs a comma (`7,`). An
    official list may name subjects that are not on disk; an id may not. Raises ConfigError where this cannot be.
    """
    if len(subjects) < 2:
        raise ConfigError(
            f"a subject-wise split needs at least two subjects, there is {len(subjects)}; add recordings of others"
        )
    if drawn := _NUMBER.fullmatch(rule):
        number = int(drawn[1])
        if drawn[2]:
            if not 1 <= number <= 99:
                raise ConfigError(f"cannot hold out {rule} of the subjects; choose 1% to 99%")
            number = max(1, round(len(subjects) * number / 100))
        return _drawn(subjects, number, seed)
    if rule in official:
        wanted = set(official[rule])
    else:
        wanted = {name.strip() for name in rule.split(",") if name.strip()}
        if unknown := sorted(wanted - set(subjects)):
            lists = f" or one of the lists {', '.join(official)}" if official else ""
            raise ConfigError(
                f"cannot hold out {unknown[0]!r}: no such subject with usable windows (edgepain data check says why), "
                f"there are {', '.join(sorted(subjects))}; give a number, ids{lists}"
            )
    return Split(tuple(s for s in subjects if s not in wanted), tuple(s for s in subjects if s in wanted))


def _drawn(subjects: Sequence[str], count: int, seed: int) -> Split:
    if not 1 <= count < len(subjects):
        raise ConfigError(f"cannot hold out {count} of {len(subjects)} subjects; choose 1 to {len(subjects) - 1}")
    splitter = GroupShuffleSplit(n_splits=1, test_size=count, random_state=seed)
    train, held_out = next(splitter.split(list(subjects), groups=list(subjects)))
    return Split(tuple(subjects[i] for i in train), tuple(subjects[i] for i in held_out))
