"""Names of the files of a bundle, and which of them the manifest does not list."""

from __future__ import annotations

import re

MANIFEST = "manifest.json"
SIGNATURE = "signature.json"

_PART = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_NAME = re.compile(rf"{_PART}(/{_PART})*")
_MAX_LENGTH = 200


def is_inside(name: str) -> bool:
    """Whether `name` is a plain relative path: no `..`, no root, no drive, nothing that a file system may read anew."""
    return len(name) <= _MAX_LENGTH and _NAME.fullmatch(name) is not None


def may_be_listed(name: str) -> bool:
    """Whether the manifest may list a file of this name."""
    return is_inside(name) and name not in (MANIFEST, SIGNATURE)
