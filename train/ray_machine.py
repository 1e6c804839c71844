"""What is done on a machine of a Ray cluster.

Sent there as code, not by name, so that it can say that edgepain is missing there: nothing of edgepain may be
imported at the top of this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def problem(folder: str, token: str, versions: Mapping[str, str]) -> str:
    """Why this machine cannot work on a run, and what to do; empty where it can.

    folder: of the run. token: name of a file in it that was made a moment ago, so that a copy of the folder does not
    have it. versions: of the packages that numbers depend on, on the machine that asks.
    """
    import importlib.metadata

    for name, version in versions.items():
        try:
            here = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return f"{name} is not installed; install {name} {version} there, as here"
        if here != version:
            return f"{name} is {here}, not {version}; install the same version there"
    try:
        import edgepain.train.workers  # noqa: F401
    except ImportError as error:
        return f"edgepain cannot be imported ({error}); install edgepain {versions['edgepain']} there, as here"
    try:
        if (Path(folder) / token).is_file():
            return ""
    except OSError as error:
        return f"{folder} cannot be read there ({error}); check the folder's rights"
    return f"{folder} is not the same folder there; put the run on a path that every machine shares"


def carry_out(
    folder: str, token: str, versions: Mapping[str, str], fold: str, method: str, threads: int, keep_features: bool
) -> str:
    """Do a task of a run; the error, or empty. A machine that came late is looked at here."""
    if wrong := problem(folder, token, versions):
        import socket

        return f"machine {socket.gethostname()}: {wrong}"
    from edgepain.train.run import Task
    from edgepain.train.workers import in_process

    return in_process(Path(folder), Task(fold, method), threads, keep_features)
