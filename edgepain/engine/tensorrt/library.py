"""NVIDIA's `tensorrt`: imported only after the driver was asked, and refused where its version is no good."""

from __future__ import annotations

import importlib
import re
from typing import Any

from edgepain.engine.tensorrt.driver import Driver
from edgepain.engine.tensorrt.names import Version, require_names
from edgepain.errors import EdgepainError

OLDEST: Version = (8, 5)
# Names of 11.4 are the newest that were seen; what a 12 may lack nobody knows.
BEYOND: Version = (12, 0)
BANNED: dict[Version, str] = {
    (9,): "a release for data-centre language models that no Jetson ever had",
    (10, 2): "its builder looks for a library under a wrong name and fails",
}


def load_tensorrt(driver: Driver) -> tuple[Any, str]:
    """The module and its version. Needs a driver: without a GPU, TensorRT 8.6 ends the process when it is used.

    Raises EdgepainError where it is absent, cannot be loaded, is older than 8.5, newer than 11, or banned.
    """
    del driver  # Proof that there is one.
    try:
        trt = importlib.import_module("tensorrt")
    except ModuleNotFoundError as error:
        raise EdgepainError(
            f"{error.name} is not there for this Python; on a Jetson it comes with JetPack: make the environment with "
            "--system-site-packages and JetPack's own Python (docs/deploy/jetson.md)"
        ) from error
    except (ImportError, OSError) as error:  # A library that it links against is missing or another one.
        reason = " ".join(str(error).split())
        raise EdgepainError(
            f"tensorrt cannot be loaded ({reason}); install the CUDA libraries that it names"
        ) from error
    words = str(getattr(trt, "__version__", ""))
    version = parse_version(words)
    require_version(version, words)
    require_names(trt, version)
    return trt, words


def parse_version(words: str) -> Version:
    """`10.3.0.26` → (10, 3, 0, 26). Raises EdgepainError for what is no version."""
    if not re.fullmatch(r"\d{1,4}(\.\d{1,6}){1,4}([.+-]?[A-Za-z][\w.+-]*)?", words):
        raise EdgepainError(f"tensorrt says that its version is {words[:40]!r}; install it again")
    return tuple(int(part) for part in re.findall(r"(?:^|\.)(\d+)", words))


def require_version(version: Version, words: str) -> None:
    """Raise EdgepainError for a version that is too old, too new or banned."""
    if version < OLDEST:
        raise EdgepainError(f"TensorRT {words} is too old, 8.5 is the oldest that works; install JetPack 5.1 or newer")
    if version >= BEYOND:
        raise EdgepainError(f"TensorRT {words} is newer than this edgepain knows (up to 11); install a newer edgepain")
    for banned, reason in BANNED.items():
        if version[: len(banned)] == banned:
            raise EdgepainError(f"TensorRT {words} is not used: {reason}; install 8.6, or 10.3 or newer")
