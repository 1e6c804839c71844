"""Zips of a bundle: they open like the directory, and hostile ones leave nothing behind, not even a traceback."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepain.bundle import MANIFEST, Bundle, open_bundle, pack, read_private_key, sign_bundle
from edgepain.bundle.archive import MAX_ENTRIES, unpack
from edgepain.engine import open_engine
from edgepain.errors import BundleError, ConfigError, EdgepainError


@pytest.fixture(scope="session")
def zipped(exported: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zipped") / "small.zip"
    pack(exported.root, path)
    return path


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where bundles are unpacked; empty after every test."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def plain(path: Path, entries: dict[str, bytes], change: Callable[[zipfile.ZipInfo], None] = lambda info: None) -> Path:
    """A zip of a manifest, which need not be one, and these entries, each changed before it is written."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, "{}")
        for name, data in entries.items():
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            change(info)
            archive.writestr(info, data)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        open_bundle(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_a_zip_opens_like_its_directory(zipped: Path, exported: Bundle, scratch: Path) -> None:
    bundle = open_bundle(zipped)
    assert bundle.manifest == exported.manifest
    assert str(bundle) == str(zipped)
    windows = exported.golden().windows
    assert (open_engine(bundle).predict(windows) == open_engine(exported).predict(windows)).all()
    (folder,) = scratch.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    del bundle
    assert not folder.exists()


def test_what_is_unpacked_is_gone_when_the_process_ends(zipped: Path, scratch: Path) -> None:
    for ending in ("", "raise KeyboardInterrupt", "sys.exit(3)"):
        code = f"import sys; from edgepain.bundle import open_bundle; b = open_bundle({str(zipped)!r}); {ending}"
        subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ, "TMPDIR": str(scratch)}, stderr=-3)
        assert list(scratch.iterdir()) == []


def test_the_same_bundle_gives_the_same_zip(zipped: Path, bundle_copy: Bundle, tmp_path: Path) -> None:
    for file in bundle_copy.root.iterdir():
        os.utime(file, (0, 0))
    pack(bundle_copy.root, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == zipped.read_bytes()


def test_a_signature_goes_along(signed: Bundle, public_key: Path, tmp_path: Path) -> None:
    pack(signed.root, tmp_path / "b.zip")
    assert open_bundle(tmp_path / "b.zip", trusted_key=public_key).trusted


def test_a_zip_is_signed_too(zipped: Path, key: Path, public_key: Path, tmp_path: Path) -> None:
    path = shutil.copy(zipped, tmp_path / "b.zip")
    sign_bundle(path, read_private_key(key))
    assert open_bundle(path, trusted_key=public_key).trusted


def test_a_file_that_is_there_is_kept(exported: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="replace it with --force"):
        pack(exported.root, path)
    assert path.read_text() == "precious"
    pack(exported.root, path, replace=True)
    with pytest.raises(ConfigError, match="not called"):
        pack(exported.root, tmp_path / "b.tar")
    with pytest.raises(EdgepainError, match="cannot be written"):
        pack(exported.root, tmp_path / "no" / "b.zip")


def test_zips_of_other_programs_open(exported: Bundle, tmp_path: Path) -> None:
    path = Path(shutil.make_archive(str(tmp_path / "made"), "zip", exported.root))
    assert open_bundle(path).manifest == exported.manifest


@pytest.mark.parametrize(
    "name",
    [
        "../outside", "/etc/cron.d/x", "a/../../outside", "..", "./x", "a//b", "C:/x", "C:x", "a\\..\\..\\x",
        "\\\\host\\x", "~/x",
        "a\0b", "a\nb", "\x1b[2J", "caf\u00e9", "\u202egpj", "-rf", ".hidden", "n" * 300, "a/" * 150 + "b", " x",
    ],
)  # fmt: skip
def test_names_that_are_no_plain_path_are_refused(tmp_path: Path, name: str) -> None:
    assert "no path inside a bundle" in refusal(plain(tmp_path / "b.zip", {name: b"x"}))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.zip", "scratch"]


def _link(info: zipfile.ZipInfo) -> None:
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16


def _device(info: zipfile.ZipInfo) -> None:
    info.external_attr = (stat.S_IFBLK | 0o666) << 16


def _bzip2(info: zipfile.ZipInfo) -> None:
    info.compress_type = zipfile.ZIP_BZIP2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [(_link, "is a link or no file"), (_device, "is a link or no file"), (_bzip2, "not compressed by deflate")],
)
def test_entries_that_are_no_plain_files_are_refused(
    tmp_path: Path, change: Callable[[zipfile.ZipInfo], None], complaint: str
) -> None:
    assert complaint in refusal(plain(tmp_path / "b.zip", {"model.onnx": b"/etc/passwd"}, change))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    path = plain(tmp_path / "b.zip", {"model.onnx": b"a"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model.onnx", b"b")
    assert "two entries" in refusal(path)
    assert "two entries" in refusal(plain(tmp_path / "c.zip", {"MODEL.onnx": b"a", "model.ONNX": b"b"}))


def test_encrypted_entries_are_refused(tmp_path: Path) -> None:
    path = plain(tmp_path / "b.zip", {"model.onnx": b"a"})
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\1\2")
    data[at + 8] |= 1
    path.write_bytes(data)
    assert "is encrypted" in refusal(path)


def test_what_is_more_than_a_zip_is_refused(zipped: Path, tmp_path: Path) -> None:
    data = zipped.read_bytes()
    path = tmp_path / "b.zip"
    for content in (b"#!/bin/sh\n" + data, data + b"x", data + data, data[:-1], b"", b"PK\5\6", data[:30]):
        path.write_bytes(content)
        refusal(path)
    shutil.copy(zipped, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"hello"
    assert "no bundle" in refusal(path) or "comment" in refusal(path)


def test_a_zip_of_the_folder_instead_of_its_files_is_refused(exported: Bundle, tmp_path: Path) -> None:
    made = shutil.make_archive(str(tmp_path / "b"), "zip", exported.root.parent, exported.root.name)
    assert "has no manifest.json at its top" in refusal(Path(made))


def test_engines_in_a_zip_are_refused(exported: Bundle, tmp_path: Path) -> None:
    pack(exported.root, tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "a") as archive:
        archive.writestr("engines/a.plan", b"code")
    assert "engines is not listed in the manifest" in refusal(tmp_path / "b.zip")


def test_a_bomb_is_not_unpacked_to_its_end(tmp_path: Path) -> None:
    path = plain(tmp_path / "b.zip", {"model.onnx": bytes(300 << 20)})
    assert path.stat().st_size < 1 << 20
    assert "unpacks to more than" in refusal(path)


def test_a_bomb_that_lies_about_its_size_is_not_unpacked_to_its_end(tmp_path: Path) -> None:
    path = plain(tmp_path / "b.zip", {"model.onnx": bytes(300 << 20)})
    data = bytearray(path.read_bytes())
    for signature, at in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<L", data, data.rindex(signature) + at, 10)
    path.write_bytes(data)
    assert "is damaged or no zip" in refusal(path)


def test_entries_over_each_other_are_refused(tmp_path: Path) -> None:
    """As bombs do it that do not need deflate's ratio: every name is the same bytes."""
    path = plain(tmp_path / "b.zip", {"a": b"x" * 1000, "b": b"x" * 1000})
    data = bytearray(path.read_bytes())
    first, last = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1), data.rindex(b"PK\1\2")
    data[last + 42 : last + 46] = data[first + 42 : first + 46]
    path.write_bytes(data)
    assert "lies over another entry" in refusal(path)


def test_more_entries_than_a_bundle_has_are_refused(tmp_path: Path) -> None:
    path = plain(tmp_path / "b.zip", {f"f{i}": b"" for i in range(MAX_ENTRIES)})
    assert f"more than the {MAX_ENTRIES}" in refusal(path)


def test_zip64_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(65536):
            archive.writestr(zipfile.ZipInfo(f"f{i}"), b"")
    assert "zip64" in refusal(path)


def test_a_full_disk_under_the_unpacked_files_is_one_line(zipped: Path, edgepain: Any, tmp_path: Path) -> None:
    """Files may only grow to 100 kB in this process."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "from edgepain.cli.main import main; main()"
    )
    command = [sys.executable, "-c", code, "inspect", str(zipped)]
    folder = tmp_path / "small"
    folder.mkdir()
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert "cannot be unpacked" in line
    assert list(folder.iterdir()) == []


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mangled_zips_open_to_the_same_bundle_or_not_at_all(
    zipped: Path, exported: Bundle, tmp_path: Path, data: st.DataObject
) -> None:
    good = zipped.read_bytes()
    # The directory at the end, and headers, are where a zip says things.
    places = [i for i in range(len(good) - 4) if good[i : i + 2] == b"PK"]
    near = data.draw(st.sampled_from(places)) + data.draw(st.integers(0, 60))
    at = min(near, len(good) - 1)
    mangled = good[:at] + data.draw(st.binary(max_size=6)) + good[at + data.draw(st.integers(0, 6)) :]
    path = tmp_path / "mangled.zip"
    path.write_bytes(mangled)
    try:
        manifest = open_bundle(path).manifest
    except BundleError:
        return
    assert manifest == exported.manifest


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.lists(
        st.tuples(
            st.one_of(
                st.sampled_from(["manifest.json", "../x", "/tmp/x", "a", "a/b", "a/b/../../../x", "a\\b", "A"]),
                st.text(min_size=1, max_size=12),
            ),
            st.binary(max_size=64),
            st.sampled_from([0, stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO]),
        ),
        max_size=5,
    )
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_zips_write_inside_their_folder_or_nowhere(
    tmp_path: Path, entries: list[tuple[str, bytes, int]]
) -> None:
    path = tmp_path / "hostile.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, contents, kind in entries:
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.external_attr = (kind | 0o644) << 16
            try:
                archive.writestr(info, contents)
            except (UnicodeEncodeError, ValueError):
                return  # No zip can say this.
    with tempfile.TemporaryDirectory(dir=tmp_path) as box:
        target = Path(box) / "inner" / "target"
        target.mkdir(parents=True)
        with suppress(BundleError):
            unpack(path, target)
        assert [p.name for p in Path(box).iterdir()] == ["inner"]
        assert [p.name for p in (Path(box) / "inner").iterdir()] == ["target"]
        assert not any(p.is_symlink() for p in target.rglob("*"))
        total = sum(p.stat().st_size for p in target.rglob("*") if p.is_file())
        assert total <= sum(len(contents) for _, contents, _ in entries)
