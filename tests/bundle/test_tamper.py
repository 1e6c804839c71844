"""Every region of a bundle changed once: refused each time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgepain.bundle import MANIFEST, SIGNATURE, Bundle, open_bundle
from edgepain.errors import BundleError

# Of the files whose bytes are too many to change one by one.
REGIONS = 64


def opens(root: Path, trusted_key: Path | None = None) -> bool:
    """Whether it opens; anything but a BundleError of one line fails the test."""
    complaint = ""
    try:
        open_bundle(root, trusted_key=trusted_key)
    except BundleError as error:
        complaint = str(error)
    assert not complaint or (str(root) in complaint and "\n" not in complaint)
    return not complaint


@contextmanager
def changed(path: Path, content: bytes) -> Iterator[None]:
    """The file with other contents, for so long."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]


@pytest.mark.parametrize("name", [MANIFEST, SIGNATURE])
def test_every_field_of_what_is_said_of_the_files(signed_copy: Path, name: str) -> None:
    """Every third byte: of each name and each value several, of all that lies between some."""
    path = signed_copy / name
    data = path.read_bytes()
    unnoticed = []
    for at in range(0, len(data), 3):
        with changed(path, flipped(data, at)):
            if opens(signed_copy):
                unnoticed.append(at)
    assert unnoticed == []


def test_every_region_of_every_file(signed_copy: Path) -> None:
    for name in open_bundle(signed_copy).manifest.files:
        path = signed_copy / name
        data = path.read_bytes()
        places = {0, 1, len(data) // 2, len(data) - 2, len(data) - 1}
        places |= {(2 * i + 1) * len(data) // (2 * REGIONS) for i in range(REGIONS)}
        for at in sorted(places):
            with changed(path, flipped(data, at)):
                assert not opens(signed_copy), (name, at)


def test_every_file_cut_longer_empty_or_gone(signed_copy: Path, public_key: Path) -> None:
    for path in sorted(signed_copy.iterdir()):
        data = path.read_bytes()
        for content in (data[:-1], data[1:], data[: len(data) // 2], b"", data + b"\0", data + b"\n", b" " + data):
            with changed(path, content):
                assert not opens(signed_copy), (path.name, len(content))
        path.unlink()
        # Without a signature it is a sound bundle still; only a required key tells.
        assert opens(signed_copy) == (path.name == SIGNATURE)
        assert not opens(signed_copy, public_key)
        path.write_bytes(data)
    assert opens(signed_copy, public_key)


def test_every_two_files_in_each_others_place(signed_copy: Path) -> None:
    for one, other in itertools.combinations(sorted(signed_copy.iterdir()), 2):
        first, second = one.read_bytes(), other.read_bytes()
        with changed(one, second), changed(other, first):
            assert not opens(signed_copy), (one.name, other.name)


def _flip(place: Callable[[int], int]) -> Callable[[bytes], bytes]:
    return lambda data: flipped(data, place(len(data)))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (MANIFEST, _flip(lambda size: size // 3)),
        (SIGNATURE, _flip(lambda size: size // 2)),
        ("model.int8.onnx", _flip(lambda size: size // 2)),
        ("golden.npz", _flip(lambda size: size - 1)),
        ("calibration.npz", lambda data: data[:-1]),
        ("model.onnx", lambda data: data + b"\0"),
    ],
)
def test_through_the_command(edgepain, signed_copy: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    path = signed_copy / name
    path.write_bytes(change(path.read_bytes()))
    done = edgepain("run", "--port", "/dev/nothing", "--model", signed_copy)
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert str(path) in line
    assert done.stdout == ""


def test_untouched_it_opens(edgepain, exported: Bundle, signed_copy: Path, public_key: Path) -> None:
    """Or the tests above would say nothing."""
    assert opens(exported.root)
    assert opens(signed_copy, public_key)
    done = edgepain("run", "--port", "/dev/nothing", "--model", signed_copy, "--trusted-key", public_key)
    assert done.returncode == 6
