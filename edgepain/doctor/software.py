"""Python, packages and ONNX Runtime."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement

from edgepain.doctor.check import Check, fails, ok
from edgepain.errors import EdgepainError

OLDEST_PYTHON = (3, 10)


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
    for need in _requirements(""):
        found = _version(need.name)
        there.append(f"{need.name} {found}")
        if not _is_met(need):
            wrong.append(
                f"{need.name} {found or 'is missing'}" + (f" (needs {need.specifier})" if need.specifier else "")
            )
    if wrong:
        return fails("packages", ", ".join(wrong), "pip install --upgrade --force-reinstall edgepain")
    return ok("packages", ", ".join(["edgepain " + (_version("edgepain") or "?"), *there]))


def _extras() -> Check:
    """Which optional parts are installed; none of them is needed to read a wearable."""
    try:
        extras = set(metadata("edgepain").get_all("Provides-Extra") or []) - {"dev"}
    except PackageNotFoundError:
        extras = set()
    whole = {extra for extra in extras if _is_whole(extra)}
    missing = extras - whole
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


def _requirements(extra: str) -> list[Requirement]:
    """What an extra adds on this Python; with an empty name, what edgepain always needs."""
    try:
        needs = [Requirement(line) for line in requires("edgepain") or []]
    except PackageNotFoundError:
        return []
    always = [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    if not extra:
        return always
    return [need for need in needs if need not in always and need.marker and need.marker.evaluate({"extra": extra})]


def _is_whole(extra: str) -> bool:
    """Also of the extras that it takes in."""
    return all(
        all(map(_is_whole, need.extras)) if need.name == "edgepain" else _is_met(need) for need in _requirements(extra)
    )


def _is_met(need: Requirement) -> bool:
    found = _version(need.name)
    return bool(found) and need.specifier.contains(found, prereleases=True)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
