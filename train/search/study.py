"""Trials of one stage in one fold: an Optuna study that several processes, also killed ones, work on."""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import msgspec

from edgepain.errors import CheckpointError, ConfigError, MissingExtraError
from edgepain.train.config import StageConfig
from edgepain.train.files import make_folder, one_after_the_other, try_lock
from edgepain.train.search.journal import open_journal
from edgepain.train.search.plan import Range

try:
    import optuna
    from optuna.trial import FrozenTrial, TrialState
except ImportError:
    raise MissingExtraError("optuna", "search") from None

RATE, DROPOUT = "learning_rate", "dropout"
# So many trials are drawn at random, and finished, before the sampler and the pruner judge by them.
STARTUP_TRIALS = 5
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
ALIVE = (*FINISHED, TrialState.RUNNING)


class StudySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every trial of a study has in common.

    base: the stage's settings in the search; its learning rate and dropout are the first trial. inner: folds by
    subject. upstream: settings of the blocks before it. data: fingerprint of the run.
    """

    stage: str
    rates: Range
    dropouts: Range
    base: StageConfig
    inner: int
    upstream: dict[str, StageConfig]
    data: str

    def differences(self, other: StudySettings) -> str:
        """What differs, this one's first; empty for the same settings."""
        ours, theirs = self._in_words(), other._in_words()
        names = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
        return "; ".join(f"{name} {ours.get(name, 'none')}, not {theirs.get(name, 'none')}" for name in names)

    def _in_words(self) -> dict[str, str]:
        words = {"learning rates": str(self.rates), "dropouts": str(self.dropouts), "inner folds": str(self.inner)}
        words |= {name: str(value) for name, value in msgspec.structs.asdict(self.base).items()}
        for stage, config in self.upstream.items():
            words |= {f"{stage}'s {name}": str(value) for name, value in msgspec.structs.asdict(config).items()}
        return {**words, "fingerprint of the run": self.data, "stage": self.stage}


class Trial:
    """A trial that this process works on. folder: its checkpoints, which a retry of it finds again."""

    def __init__(self, study: optuna.Study, trial: optuna.Trial, folder: Path, lock: TextIO, keep: bool) -> None:
        self.folder = folder
        self.learning_rate: float = trial.params[RATE]
        self.dropout: float = trial.params[DROPOUT]
        self._study, self._trial, self._lock, self._keep = study, trial, lock, keep

    def report(self, inner: int, score: float) -> bool:
        """Note the mean score up to this inner fold; whether the trial is too bad to go on."""
        self._trial.report(score, inner)
        return not self._keep and self._trial.should_prune()

    def finish(self, score: float | None) -> None:
        """Note the score, None where it was not worth or not possible to go on."""
        if score is None:
            self._study.tell(self._trial, state=TrialState.PRUNED)
        else:
            self._study.tell(self._trial, score)
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Let go of the trial: where it is not finished, somebody else takes it up."""
        self._lock.close()


class StageStudy:
    """The study of a stage. folder: `search` of the fold. seed: of the fold.

    Raises ConfigError where the study on disk was made with other settings, unless `force` sets it aside, and
    CheckpointError where its file is damaged or cannot be written.
    """

    def __init__(self, folder: Path, settings: StudySettings, seed: int, force: bool = False) -> None:
        self._folder = folder
        self._settings = settings
        self._seed = seed
        make_folder(folder)
        with self._alone():
            self._study = self._open(force)

    @property
    def path(self) -> Path:
        """The study's file."""
        return self._folder / f"{self._settings.stage}.journal"

    def ask(self, trials: int) -> Trial | None:
        """The next trial; None where so many are finished or under way.

        The configured settings are the first. A trial whose process was killed is tried again.
        """
        with self._alone():
            for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if not self._under_way(trial):
                    self._study.tell(trial.number, state=TrialState.FAIL)
            known = self._study.get_trials(deepcopy=False)
            alive = [trial for trial in known if trial.state in ALIVE]
            if len(alive) >= trials:
                return None
            wanted = [self._default, *(t.params for t in known if t.state == TrialState.FAIL and len(t.params) == 2)]
            again = next((params for params in wanted if params not in [t.params for t in alive]), None)
            if again and not any(trial.state == TrialState.WAITING for trial in known):
                self._study.enqueue_trial(again)
            asked = self._ask(len(alive))
            folder = self._trial_folder(asked.params)
            make_folder(folder)
            lock = try_lock(folder / ".lock")
            assert lock is not None, "only one process at a time asks"
            return Trial(self._study, asked, folder, lock, keep=asked.params == self._default)

    def finished(self) -> int:
        """How many trials are finished, pruned ones among them."""
        return len(self._study.get_trials(deepcopy=False, states=FINISHED))

    def running_epochs(self) -> int:
        """How many epochs of trials under way, or killed, are on disk."""
        epochs = 0
        for path in self._folder.glob(f"trials/{self._settings.stage}-*/*/epochs.csv"):
            try:
                epochs += len(path.read_bytes().splitlines()) - 1
            except FileNotFoundError:  # Its trial has just ended.
                continue
        return epochs

    def best(self) -> FrozenTrial | None:
        """The trial with the highest score, of equal ones the earliest; None where none ran to its end."""
        complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return max(complete, key=lambda trial: (trial.value, -trial.number), default=None)

    def default_score(self) -> float | None:
        """Score of the configured settings; None where they are not tried yet, or their loss is no number."""
        complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return next((trial.value for trial in complete if trial.params == self._default), None)

    @property
    def _default(self) -> dict[str, float]:
        return {RATE: self._settings.base.learning_rate, DROPOUT: self._settings.base.dropout}

    def _ask(self, count: int) -> optuna.Trial:
        # By the number of trials and not by this process: a search that was stopped draws what one that was not does.
        digest = hashlib.sha256(f"{self._seed}/{self._settings.stage}/{count}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
        with warnings.catch_warnings():
            # The configured settings are tried also where they are outside of the ranges.
            warnings.filterwarnings("ignore", "Fixed parameter", UserWarning)
            trial = self._study.ask()
            trial.suggest_float(RATE, self._settings.rates.low, self._settings.rates.high, log=True)
            trial.suggest_float(DROPOUT, self._settings.dropouts.low, self._settings.dropouts.high)
        return trial

    def _under_way(self, trial: FrozenTrial) -> bool:
        if len(trial.params) < 2:
            return False
        folder = self._trial_folder(trial.params)
        if not folder.is_dir():
            return False
        lock = try_lock(folder / ".lock")
        if lock:
            lock.close()
        return lock is None

    def _trial_folder(self, params: dict[str, float]) -> Path:
        digest = hashlib.sha256(f"{params[RATE]!r} {params[DROPOUT]!r}".encode()).hexdigest()[:12]
        return self._folder / "trials" / f"{self._settings.stage}-{digest}"

    def _open(self, force: bool) -> optuna.Study:
        found = self._stored()
        differences = found.differences(self._settings) if found else ""
        if differences and not self._load().get_trials(deepcopy=False):
            self.path.unlink()
            differences = ""
        if differences and not force:
            raise ConfigError(
                f"{self.path} was searched with other settings ({differences}); ask for the same again, or start anew "
                "with --force, which keeps this file under another name"
            )
        if differences:
            self._set_aside()
        study = self._load()
        if "settings" not in study.user_attrs:
            study.set_user_attr("settings", msgspec.to_builtins(self._settings))
        return study

    def _stored(self) -> StudySettings | None:
        """The settings of the study on disk."""
        if not self.path.is_file():
            return None
        stored = self._load().user_attrs.get("settings")
        try:
            return msgspec.convert(stored, StudySettings) if stored is not None else None
        except msgspec.ValidationError as error:
            raise CheckpointError(f"{self.path} is damaged or of another version ({error}); move it away") from error

    def _load(self) -> optuna.Study:
        return open_journal(
            self.path,
            self._settings.stage,
            optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS),
        )

    def _set_aside(self) -> None:
        number = 1
        while (old := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        self.path.rename(old)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with one_after_the_other(self._folder / ".lock"):
            yield


def forget_trials(folder: Path, stages: Sequence[str]) -> None:
    """Remove checkpoints of trials that nobody goes on with."""
    for stage in stages:
        for path in folder.glob(f"trials/{stage}-*"):
            shutil.rmtree(path, ignore_errors=True)
