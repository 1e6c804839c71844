"""Python, packages and ONNX Runtime."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from edgepain.doctor.check import Check, fails, ok
from edgepain.errors import EdgepainError

OLDEST_PYTHON = (3, 10)
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*(?:>=\s*([0-9.]+))?[^;]*(?:;(.*))?")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")


def software() -> Iterator[Check]:
    """All of it, in order."""
    yield _python()
    yield _packages()
    yield _extras()
    yield _onnxruntime()


def _python() -> Check:
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < OLDEST_PYTHON:
        return fails("Python", found, "install Python 3.10 or newer and make the environment anew")
    return ok("Python", found)


def _packages() -> Check:
    """Those that edgepain cannot do without."""
    wrong, there = [], []
    for name, least in _required(None):
        found = _version(name)
        there.append(f"{name} {found}")
        if not found or _older(found, least):
            wrong.append(f"{name} {found or 'is missing'}" + (f" (needs {least})" if least else ""))
    if wrong:
        return fails("packages", ", ".join(wrong), "pip install --upgrade --force-reinstall edgepain")
    return ok("packages", ", ".join(["edgepain " + (_version("edgepain") or "?"), *there]))


def _extras() -> Check:
    """Which optional parts are installed; none of them is needed to read a wearable."""
    extras: dict[str, list[str]] = {}
    for name, _, extra in _requirements():
        if extra and name != "edgepain":
            extras.setdefault(extra, []).append(name)
    extras.pop("dev", None)
    whole = [extra for extra, names in extras.items() if all(map(_version, names))]
    missing = [extra for extra in extras if extra not in whole]
    found = f"installed: {', '.join(sorted(whole)) or 'none'}; not installed: {', '.join(sorted(missing)) or 'none'}"
    return ok("extras", found)


def _onnxruntime() -> Check:
    """The packaged bundle answers its golden windows as it did where it was made."""
    from edgepain.bundle import demonstration_bundle, open_bundle
    from edgepain.engine.golden import check_golden
    from edgepain.engine.onnx import open_engine

    try:
        bundle = open_bundle(demonstration_bundle())
        off = {}
        for precision in (graph.precision for graph in bundle.manifest.graphs):
            off[precision] = check_golden(open_engine(bundle, precision, check=False), bundle, precision)
    except EdgepainError as error:
        return fails("ONNX Runtime", str(error), "pip install --force-reinstall onnxruntime edgepain")
    except ImportError as error:
        return fails("ONNX Runtime", f"cannot be loaded: {error}", "pip install --force-reinstall onnxruntime")
    told = ", ".join(f"{precision} off by {difference:.1g}" for precision, difference in off.items())
    found = f"{_version('onnxruntime')} answers the packaged bundle's golden windows ({told})"
    return ok("ONNX Runtime", found)


def _requirements() -> Iterator[tuple[str, str, str]]:
    """(package, least version, extra) of everything that edgepain names; extra empty for what it always needs."""
    try:
        lines = requires("edgepain") or []
    except PackageNotFoundError:
        return
    for line in lines:
        if (told := _REQUIREMENT.match(line)) is not None:
            extra = _EXTRA.search(told[3] or "")
            yield told[1], told[2] or "", extra[1] if extra else ""


def _required(extra: str | None) -> Iterator[tuple[str, str]]:
    return ((name, least) for name, least, of in _requirements() if of == (extra or ""))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _older(found: str, least: str) -> bool:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", text)[:3]]

    return numbers(found) < numbers(least)
