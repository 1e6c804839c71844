"""Forget trained stages, so that they are trained again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from edgepain.errors import ConfigError
from edgepain.train.run import NETWORK, Run
from edgepain.train.staged import FINAL, stage_configs


def forget_stages(run: Run, names: Sequence[str]) -> None:
    """Remove these stages and those that need them from every fold, and what the network said there.

    Raises ConfigError for a name that is no stage.
    """
    stages = stage_configs(run.config.modalities, run.config.train)
    forgotten = set[str]()
    for name in names:
        if name not in stages:
            raise ConfigError(f"no stage is called {name!r}; there are {', '.join(stages)}")
        kind, _, modality = name.partition(".")
        forgotten |= {name, FINAL}
        if kind in ("fcn", "alstm"):
            forgotten.add(f"transformer.{modality}")
    for fold in run.folds:
        # The answers go first: with them, the fold would count as finished.
        fold.answers_path(NETWORK).unlink(missing_ok=True)
        for name in forgotten:
            shutil.rmtree(fold.folder / "stages" / name, ignore_errors=True)
