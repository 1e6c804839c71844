"""Keys and signed bundles."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepain.bundle import Bundle, make_keys, read_private_key, sign_bundle

Edgepain = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key; its public key lies beside it as .pub."""
    path = tmp_path_factory.mktemp("keys") / "maker.key"
    make_keys(path)
    return path


@pytest.fixture(scope="session")
def public_key(key: Path) -> Path:
    return key.with_name(f"{key.name}.pub")


@pytest.fixture(scope="session")
def other_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "other.key"
    make_keys(path)
    return path


@pytest.fixture(scope="session")
def signed(exported: Bundle, key: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A signed bundle, to be read only."""
    root = shutil.copytree(exported.root, tmp_path_factory.mktemp("signed") / "people")
    return sign_bundle(root, read_private_key(key))


@pytest.fixture
def signed_copy(signed: Bundle, tmp_path: Path) -> Path:
    """The directory of a signed bundle that a test may damage."""
    return shutil.copytree(signed.root, tmp_path / "people")


@pytest.fixture(scope="session")
def edgepain() -> Edgepain:
    """Run a command; it must not end in a traceback."""

    def run(*arguments: object, columns: int = 80) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgepain", *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": str(columns)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run
