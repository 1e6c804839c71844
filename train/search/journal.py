"""A study in a file of JSON lines. Nothing in it is executable: Optuna pickles only for Redis and for CMA-ES."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any, BinaryIO

from edgepain.errors import CheckpointError, EdgepainError, MissingExtraError

try:
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
except ImportError:
    raise MissingExtraError("optuna", "search") from None

# What Optuna would tell, the progress tells.
optuna.logging.set_verbosity(optuna.logging.ERROR)


class _Lock(JournalFileOpenLock):
    """A lock that the system releases when its process is killed; Optuna's own would stay for half a minute.

    What a kill or a full disk left of a line is cut off before the next one is written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self._file: BinaryIO | None = None

    def acquire(self) -> bool:
        self._file = self._path.open("rb+")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        content = self._file.read()
        if not content.endswith(b"\n"):
            self._file.truncate(content.rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        if self._file:
            self._file.close()


class _Backend(JournalFileBackend):
    """Says what to do where a line cannot be written."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        try:
            super().append_logs(logs)
        except OSError as error:
            raise CheckpointError(
                f"{self._file_path} cannot be written ({error.strerror}); make room or check its rights, then go on"
            ) from error


def open_journal(path: Path, name: str, pruner: optuna.pruners.BasePruner) -> optuna.Study:
    """The study of this name in the file, made where it is not there.

    Raises CheckpointError where the file is damaged or cannot be written.
    """
    try:
        storage = optuna.storages.JournalStorage(_Backend(str(path), _Lock(path)))
        if name in optuna.get_all_study_names(storage):
            return optuna.load_study(study_name=name, storage=storage, pruner=pruner)
        return optuna.create_study(storage=storage, study_name=name, direction="maximize", pruner=pruner)
    except EdgepainError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); check its rights") from error
    except Exception as error:  # Whatever a line that is no operation of Optuna's leads to.
        raise CheckpointError(
            f"{path} is damaged ({error!r}); put a copy back, or move it away to begin anew"
        ) from error
