"""Which processor this is, in words: a time that was measured on another one says nothing."""

from __future__ import annotations

import platform
from pathlib import Path


def processor_name(proc: Path = Path("/proc")) -> str:
    """The board where a device tree names it (Raspberry Pi, Jetson), else the model that /proc/cpuinfo names.

    proc: where the kernel's files lie.
    """
    board = _text(proc / "device-tree" / "model").strip("\0 \n")
    return (
        board or colon_fields(_text(proc / "cpuinfo")).get("model name") or platform.processor() or platform.machine()
    )


def colon_fields(text: str) -> dict[str, str]:
    """`name : value` lines; the first of a name counts."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
