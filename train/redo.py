"""Forget trained stages, so that they are trained again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from edgepain.errors import ConfigError
from edgepain.train.fold import Fold
from edgepain.train.run import NETWORK, Run
from edgepain.train.staged import FINAL, stage_configs


def forget_stages(run: Run, names: Sequence[str], folds: Sequence[Fold] | None = None) -> None:
    """Remove these stages and those that need them from every fold, or these, and what the network said there.

    Raises ConfigError for a name that is no stage.
    """
    forgotten = with_dependents(run, names)
    for fold in run.folds if folds is None else folds:
        # The answers go first: with them, the fold would count as finished.
        fold.answers_path(NETWORK).unlink(missing_ok=True)
        for name in forgotten:
            shutil.rmtree(fold.folder / "stages" / name, ignore_errors=True)


def with_dependents(run: Run, names: Sequence[str]) -> set[str]:
    """These stages and those that need them. Raises ConfigError for a name that is no stage."""
    stages = stage_configs(run.config.modalities, run.config.train)
    found = set[str]()
    for name in names:
        if name not in stages:
            raise ConfigError(f"no stage is called {name!r}; there are {', '.join(stages)}")
        kind, _, modality = name.partition(".")
        found |= {name, FINAL}
        if kind in ("fcn", "alstm"):
            found.add(f"transformer.{modality}")
    return found
