"""Runs made of drawn answers: everything that a report reads, without a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgepain.bundle import Scaling
from edgepain.signal import Modality
from edgepain.train.answers import Answers
from edgepain.train.config import FoldConfig, RunConfig, load_config
from edgepain.train.stage import EpochMetrics

# How far apart the classes are for a model, in standard deviations.
SKILL = {
    "fcn.eda": 1.6,
    "alstm.eda": 2.0,
    "transformer.eda": 2.2,
    "fcn.ecg": 0.5,
    "alstm.ecg": 0.6,
    "transformer.ecg": 0.7,
    "random-forest": 1.8,
    "crossmod": 2.4,
    "crossmod+temperature": 2.4,
}
ENVIRONMENT = {
    "python": "3.11.7",
    "system": "Linux-6.1",
    "machine": "x86_64",
    "threads": 1,
    "packages": {"edgepain": "0.1.0", "torch": "2.13.0"},
}


@dataclass(frozen=True)
class DrawnRun:
    """Answers that are as good as SKILL says, spread over people. folds: held-out people of each fold."""

    folder: Path
    config: RunConfig
    labels: tuple[str, ...] = ("BL1", "PA4")
    synthetic: bool = False
    protocol: str = "10-fold by subject, 20 subjects, each held out once; last epoch"
    models: tuple[str, ...] = tuple(SKILL)
    scalings: tuple[Scaling, ...] = ("subject", "causal")
    windows: int = 20
    not_done: tuple[str, ...] = ()
    one_class: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=lambda: ENVIRONMENT)

    @property
    def scaling(self) -> Scaling:
        return self.config.train.scaling

    def answers(self) -> list[Answers]:
        found = []
        for fold in self.config.folds:
            for scaling in self.scalings:
                for model in self.models:
                    found.append(self._said(fold, model, scaling, ""))
                    if model == "crossmod":
                        found += [self._said(fold, model, scaling, str(m)) for m in self.config.modalities]
        return found

    def unfinished(self) -> list[str]:
        return list(self.not_done)

    def curves(self) -> dict[str, dict[str, list[EpochMetrics]]]:
        if not self.config.network:
            return {}
        random = np.random.default_rng(1)
        names = [f"{k}.{m}" for m in self.config.modalities for k in ("fcn", "alstm", "transformer")] + ["crossmod"]
        return {
            fold.name: {
                name: [
                    EpochMetrics(
                        e, 1e-3, 0.3 + 0.4 * np.exp(-e / 20) + 0.02 * random.normal(), 0.9 - 0.4 * np.exp(-e / 20)
                    )
                    for e in range(40)
                ]
                for name in names
            }
            for fold in self.config.folds
        }

    def _said(self, fold: FoldConfig, model: str, scaling: Scaling, missing: str) -> Answers:
        classes = len(self.labels)
        parts = []
        for subject in fold.held_out:
            person = np.random.default_rng(sum(map(ord, subject)))
            ease = person.normal(1.0, 0.35)
            labels = (
                np.zeros(self.windows, np.int64) if subject in self.one_class else np.arange(self.windows) % classes
            )
            draw = np.random.default_rng([fold.seed, sum(map(ord, subject + model.split("+")[0] + scaling + missing))])
            skill = SKILL.get(model, 1.0) * ease * (0.9 if scaling == "causal" else 1.0) * (0.5 if missing else 1.0)
            logits = draw.normal(0, 1, (self.windows, classes))
            logits[np.arange(self.windows), labels] += skill
            logits *= 1.2 if model.endswith("+temperature") else 2.5
            exp = np.exp(logits - logits.max(axis=1, keepdims=True))
            parts.append((labels, np.repeat(subject, self.windows), exp / exp.sum(axis=1, keepdims=True)))
        labels, subjects, probabilities = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        first = self.config.subjects.index(fold.held_out[0]) * self.windows
        rows = np.arange(first, first + labels.size)
        return Answers(
            model, fold.name, fold.seed, scaling, missing, 3, rows, labels, subjects, probabilities.astype(np.float32)
        )


@pytest.fixture(scope="session")
def drawn_run() -> Callable[..., DrawnRun]:
    """Make a run: BioVid in 10 folds of 2 people unless told otherwise."""

    def make(folder: Path, **changes: Any) -> DrawnRun:
        people = changes.pop("people", 20)
        subjects = changes.pop("subjects", tuple(f"S{i:02d}" for i in range(1, people + 1)))
        seeds = changes.pop("seeds", (0,))
        per_fold = changes.pop("per_fold", 2)
        of_run = {
            name: changes.pop(name) for name in DrawnRun.__dataclass_fields__ if name in changes and name != "config"
        }
        of_train = {name: changes.pop(name) for name in ("scaling", "modality_dropout", "window") if name in changes}
        redraw = changes.pop("redraw", False)
        folds = tuple(
            FoldConfig(f"seed{seed}-fold{i // per_fold:03d}", seed, order[i : i + per_fold])
            for seed in seeds
            for order in [subjects[seed:] + subjects[:seed] if redraw else subjects]
            for i in range(0, len(subjects), per_fold)
        )
        defaults: dict[str, Any] = {
            "dataset": "biovid",
            "root": "/data",
            "options": {},
            "modalities": (Modality.EDA, Modality.ECG),
            "subjects": subjects,
            "protocol": changes.pop("kind", f"{len(subjects) // per_fold}-fold"),
            "holdout_rule": "20%",
            "epoch_choice": "last",
            "seeds": seeds,
            "folds": folds,
            "peers": ("random-forest",),
            "network": True,
            "train": msgspec.structs.replace(load_config("paper"), **of_train),
        }
        return DrawnRun(folder, RunConfig(**(defaults | changes)), **of_run)

    return make
