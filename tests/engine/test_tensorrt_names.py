"""Every TensorRT name in the code is in one table, and every name of the table is in the versions that it claims."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import edgepain.engine.tensorrt
from edgepain.engine.tensorrt.library import BEYOND, OLDEST, parse_version, require_version
from edgepain.engine.tensorrt.names import NAMES, exists_in, require_names
from edgepain.errors import EdgepainError

FOLDER = Path(edgepain.engine.tensorrt.__file__).parent
# What holds an object of which class; nothing else in these modules may be called so.
ROLES = {
    "builder": "Builder",
    "cache": "ITimingCache",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "complaint": "ParserError",
    "engine": "ICudaEngine",
    "inspector": "EngineInspector",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "runtime": "Runtime",
}
MODULES = ("builder.py", "runner.py")


@pytest.fixture(scope="module")
def surfaces(shared_data: Path) -> dict[str, Any]:
    """Version → the surface of its Python API."""
    folder = shared_data / "tensorrt_api"
    if not folder.is_dir():
        pytest.skip("the lists of TensorRT's names are not beside the repository")
    read = (json.loads(path.read_text()) for path in folder.glob("*.json"))
    return {each["version"]: each["surface"] for each in read}


def members(surface: dict[str, Any], name: str) -> set[str]:
    entry = surface.get(name)
    return {*entry.get("attrs", ()), *entry.get("enum", ())} if isinstance(entry, dict) else set()


def test_every_name_is_in_the_versions_that_it_claims(surfaces: dict[str, Any]) -> None:
    claimed = {v: s for v, s in surfaces.items() if OLDEST <= parse_version(v) < BEYOND}
    assert {parse_version(v)[0] for v in claimed} == {8, 10, 11}
    for version, surface in claimed.items():
        for name, wanted in NAMES.items():
            for member in wanted:
                there = member in members(surface, name)
                assert there == exists_in(name, member, parse_version(version)), (version, name, member)


def used() -> Iterator[tuple[str, str, str]]:
    """Module, class and member of every TensorRT name in the code; member is empty for the class alone."""
    for path in sorted(FOLDER.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Attribute) or node.attr.startswith("__"):
                continue
            base = node.value
            if isinstance(base, ast.Name) and base.id == "trt":
                yield path.name, node.attr, ""
            elif isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name) and base.value.id == "trt":
                yield path.name, base.attr, node.attr
            elif path.name in MODULES and isinstance(base, ast.Name) and base.id in ROLES:
                yield path.name, ROLES[base.id], node.attr


def test_every_name_in_the_code_is_in_the_table() -> None:
    found = set(used())
    assert len(found) > 30, "the walk over the code finds nothing any more"
    for module, name, member in found:
        assert name in NAMES, (module, name)
        assert not member or member in NAMES[name], (module, name, member)


def test_every_name_of_the_table_is_in_the_code() -> None:
    found = {(name, member) for _, name, member in used()}
    code = "".join(path.read_text() for path in FOLDER.glob("*.py") if path.name != "names.py")
    for name, wanted in NAMES.items():
        for member in wanted:
            # `log` is called by TensorRT; flags go by their names as strings.
            by_name = f'"{member}"' in code or f"def {member}(" in code
            assert (name, member) in found or by_name, (name, member)


def test_no_calibrator_no_integer_for_an_enum_and_no_nptype() -> None:
    for path in FOLDER.glob("*.py"):
        text = path.read_text()
        assert "Calibrator" not in text, path
        assert "nptype" not in text, path
        assert "import torch" not in text, path


def test_a_name_that_is_missing_is_told() -> None:
    classes = {name: SimpleNamespace(**dict.fromkeys(members)) for name, members in NAMES.items()}
    require_names(SimpleNamespace(**classes), (10, 3, 0))
    del classes["Builder"].create_network
    with pytest.raises(EdgepainError, match=r"TensorRT 10\.3\.0 lacks Builder\.create_network"):
        require_names(SimpleNamespace(**classes), (10, 3, 0))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("7.1.3.0", "too old"),
        ("8.4.1.5", "too old"),
        ("9.3.0.1", "not used: a release for data-centre"),
        ("10.2.0", "not used: its builder"),
        ("12.0.0.1", "newer than this edgepain knows"),
    ],
)
def test_versions_that_are_no_good(words: str, complaint: str) -> None:
    with pytest.raises(EdgepainError, match=complaint):
        require_version(parse_version(words), words)


@pytest.mark.parametrize("words", ["8.5.2.2", "8.6.2.3", "10.0.1", "10.3.0.26", "10.16.1.11", "11.4.0.106"])
def test_versions_that_are_good(words: str) -> None:
    require_version(parse_version(words), words)


def test_versions_are_read_whole() -> None:
    assert parse_version("10.3.0.26") == (10, 3, 0, 26)
    assert parse_version("10.0.0b6")[:2] == (10, 0)
    for words in ("", "ten", "8", "8.6; rm -rf", "1" * 50):
        with pytest.raises(EdgepainError, match="says that its version is"):
            parse_version(words)
