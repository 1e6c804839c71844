"""Every error a user can meet, and the exit code it ends a command with.

    EdgepainError                 1  something was wrong; the message says what, where and what to do
    ├── MissingExtraError         1  an optional part is not installed (also an ImportError)
    ├── DataError                 3  a dataset, recording or label file cannot be used (also a ValueError)
    ├── ConfigError               2  a configuration or a combination of options is wrong (also a ValueError)
    ├── CheckpointError           3  a run folder or checkpoint does not fit (also a ValueError)
    ├── BundleError               4  a model bundle is damaged, too new, or not what it says it is
    │   └── BundleMismatchError   4  a sound bundle that does not fit this sensor
    ├── ClusterError              1  a Ray cluster cannot be used, or went away
    ├── VerificationError         5  an exported model or an engine does not answer like the original
    └── PortError                 6  a serial port cannot be opened, or is gone for good (also an OSError)

Messages are one line: what was wrong, where, and what to do.
"""

from __future__ import annotations


class EdgepainError(Exception):
    """Base of all errors shown to a user as one line."""

    exit_code = 1


class MissingExtraError(EdgepainError, ImportError):
    """An optional dependency is missing. The message carries the install command."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(f"{module} is not installed; install it with: pip install 'edgepain[{extra}]'")


class DataError(EdgepainError, ValueError):
    """A dataset, recording or label file cannot be used."""

    exit_code = 3


class ConfigError(EdgepainError, ValueError):
    """A configuration file or a combination of options is wrong."""

    exit_code = 2


class CheckpointError(EdgepainError, ValueError):
    """A run folder or a checkpoint does not fit what is asked of it."""

    exit_code = 3


class BundleError(EdgepainError):
    """A bundle is damaged, of a newer schema, or not what its manifest says."""

    exit_code = 4


class BundleMismatchError(BundleError):
    """The bundle is sound, but is for other signals than the sensor gives."""


class ClusterError(EdgepainError):
    """A Ray cluster cannot be used, or went away."""


class VerificationError(EdgepainError):
    """An exported graph or an engine answers differently from the reference."""

    exit_code = 5


class PortError(EdgepainError, OSError):
    """A serial port does not exist, is busy, is not permitted, or stayed away."""

    exit_code = 6
