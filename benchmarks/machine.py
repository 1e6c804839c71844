"""What a latency was measured on, in words: without it a number says nothing."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from edgepain.engine.processor import colon_fields, processor_name

PACKAGES = ("edgepain", "numpy", "onnxruntime", "torch")


class Machine(msgspec.Struct, frozen=True):
    """This machine. What cannot be read is an empty string, 0 or None."""

    processor: str
    logical_cpus: int
    memory_gb: float
    governor: str
    int8_instructions: tuple[str, ...]
    load_average: float | None
    system: str
    python: str
    packages: dict[str, str]


def this_machine() -> Machine:
    """Read what Linux tells; elsewhere what the standard library knows."""
    cpu = colon_fields(_read("/proc/cpuinfo"))
    flags = (cpu.get("flags") or cpu.get("Features") or "").split()
    memory_kb = colon_fields(_read("/proc/meminfo")).get("MemTotal", "0 kB").split()[0]
    return Machine(
        processor=processor_name(),
        logical_cpus=os.cpu_count() or 0,
        memory_gb=round(int(memory_kb) / 2**20, 1),
        governor=_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip(),
        int8_instructions=tuple(f for f in ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm") if f in flags),
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        system=platform.platform(),
        python=platform.python_version(),
        packages={name: found for name in PACKAGES if (found := _version(name))},
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
