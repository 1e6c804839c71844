"""Keep the memory that a training step frees, for the next step."""

from __future__ import annotations

import ctypes
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


@cache
def keep_freed_memory() -> None:
    """Tell glibc not to hand large freed blocks back to the system; elsewhere nothing happens.

    A step allocates the same tens of megabytes as the one before. Handed back, every page of them is cleared and
    mapped again: up to half the time of a step. The process stays as large as its largest step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
