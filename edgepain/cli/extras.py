"""Is the optional part of the installation there that a command needs?"""

from __future__ import annotations

import importlib.util

from edgepain.errors import MissingExtraError


def require(extra: str, *modules: str) -> None:
    """Raise MissingExtraError where one of the modules that come with `extra` is not installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(module, extra)
