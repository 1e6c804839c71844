"""Export to a zip, and with a signature."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepain.bundle import make_keys, open_bundle, read_private_key
from edgepain.errors import ConfigError, VerificationError
from edgepain.export import Limits, export_run


def test_a_signed_zip(small_run, tmp_path: Path) -> None:
    make_keys(tmp_path / "k")
    out = tmp_path / "out" / "people.zip"
    export_run(small_run(), out, precisions=("fp32",), signing_key=read_private_key(tmp_path / "k"))
    assert [p.name for p in out.parent.iterdir()] == ["people.zip"]
    bundle = open_bundle(out, trusted_key=tmp_path / "k.pub")
    assert bundle.manifest.name == "people"
    before = out.read_bytes()
    with pytest.raises(ConfigError, match="--force"):
        export_run(small_run(), out, precisions=("fp32",))
    with pytest.raises(VerificationError):
        export_run(small_run(), out, precisions=("fp32",), limits=Limits(0), force=True)
    assert out.read_bytes() == before
    export_run(small_run(), out, precisions=("fp32",), force=True)
    assert open_bundle(out).signature is None
    assert [p.name for p in out.parent.iterdir()] == ["people.zip"]


def test_a_signed_directory(small_run, tmp_path: Path) -> None:
    make_keys(tmp_path / "k")
    out = tmp_path / "people"
    export_run(small_run(), out, precisions=("fp32",), signing_key=read_private_key(tmp_path / "k"))
    assert open_bundle(out, trusted_key=tmp_path / "k.pub").trusted


def test_a_directory_called_zip_is_no_place_for_one(small_run, tmp_path: Path) -> None:
    (tmp_path / "b.zip").mkdir()
    with pytest.raises(ConfigError, match="is no bundle"):
        export_run(small_run(), tmp_path / "b.zip", force=True)
