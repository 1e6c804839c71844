"""A bundle as one zip file: packed the same every time, and unpacked only where nothing about it is strange.

What a zip says of itself is not believed. Refused before anything is read from it: a comment, something before or after
the entries, zip64, encryption, links and devices, compression other than deflate, two entries of one name, entries that
overlap, and every name that is no plain path inside the bundle. What comes out is counted while it comes.
"""

from __future__ import annotations

import os
import stat
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import BinaryIO

from edgepain.bundle.names import MANIFEST, is_inside
from edgepain.errors import BundleError, ConfigError, EdgepainError

MAX_ENTRIES = 256
MAX_TOTAL_BYTES = 1 << 29
# Deflate reaches a thousandfold; weights and windows hardly shrink at all.
MAX_RATIO = 50
_RATIO_FLOOR_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 16
_END = struct.Struct("<4s4H2LH")
_END_ZIP64_LOCATOR_BYTES = 20
_HEADER_BYTES = 30
_ENCRYPTED = 0x1 | 0x40 | 0x2000


def unpack(archive: Path, folder: Path) -> None:
    """Write the files of `archive` to the empty directory `folder`. Raises BundleError where it is not plain."""
    try:
        with archive.open("rb") as file:
            directory_at = _require_plain_end(file, archive)
            with zipfile.ZipFile(file) as opened:
                entries = _checked(opened.infolist(), directory_at, archive)
                left = min(MAX_TOTAL_BYTES, _RATIO_FLOOR_BYTES + MAX_RATIO * os.fstat(file.fileno()).st_size)
                for info in entries:
                    left = _extract(opened, info, folder, left, archive)
    except BundleError:
        raise
    except OSError as error:
        raise BundleError(
            f"{archive} cannot be unpacked to {folder} ({error.strerror}); make room there or copy it again"
        ) from error
    except Exception as error:  # The readers of zip and deflate raise a dozen kinds for damaged files.
        raise BundleError(f"{archive} is damaged or no zip ({type(error).__name__}); copy it again") from error


def pack(root: Path, out: Path, *, replace: bool = False) -> None:
    """Write the files of a checked bundle to `out`, which appears only when it is whole.

    The same bundle gives the same bytes every time.
    Raises ConfigError where `out` is there already, unless it is to be replaced, or is not called .zip; EdgepainError
    where it cannot be written.
    """
    if out.suffix != ".zip":
        raise ConfigError(f"{out} is not called .zip; choose another name")
    if out.exists() and not (replace and out.is_file()):
        raise ConfigError(f"{out} exists already; choose another name or replace it with --force")
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    scratch = None
    try:
        with tempfile.NamedTemporaryFile(prefix=f".{out.name}-", dir=out.parent, delete=False) as file:
            scratch = Path(file.name)
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for name in sorted(names, key=lambda name: name != MANIFEST):
                    info = zipfile.ZipInfo(name)
                    info.external_attr = (stat.S_IFREG | 0o644) << 16
                    archive.writestr(info, (root / name).read_bytes(), zipfile.ZIP_DEFLATED)
        scratch.chmod(0o644)
        scratch.replace(out)
    except OSError as error:
        raise EdgepainError(f"{out} cannot be written ({error.strerror}); make room or choose another name") from error
    finally:
        if scratch is not None:
            scratch.unlink(missing_ok=True)


def _require_plain_end(file: BinaryIO, archive: Path) -> int:
    """Where the directory of the zip begins, whose end record must be the file's last bytes."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - _END.size - _END_ZIP64_LOCATOR_BYTES, 0))
    tail = file.read()
    if len(tail) < _END.size or not tail[-_END.size :].startswith(b"PK\5\6"):
        raise BundleError(f"{archive} is no bundle: neither a directory nor a plain zip of one; {_PACK}")
    _, disk, first_disk, here, count, directory_bytes, directory_at, comment = _END.unpack(tail[-_END.size :])
    if tail.startswith(b"PK\6\7") or disk or first_disk or here != count or comment or 0xFFFF in (here, count):
        raise BundleError(f"{archive} is no plain zip (zip64, a comment, or several parts); {_PACK}")
    if directory_at + directory_bytes + _END.size != size:
        raise BundleError(f"{archive} holds something besides a zip; {_PACK}")
    if count > MAX_ENTRIES or directory_bytes > MAX_ENTRIES * 512:
        raise BundleError(f"{archive} has {count} entries, more than the {MAX_ENTRIES} that are read; {_PACK}")
    return int(directory_at)


def _checked(entries: list[zipfile.ZipInfo], directory_at: int, archive: Path) -> list[zipfile.ZipInfo]:
    """The files among the entries, in their order in the archive, when all entries are as `pack` writes them."""
    seen: set[str] = set()
    free_from = 0
    files = sorted(entries, key=lambda info: info.header_offset)
    for info in files:
        name = info.filename.removesuffix("/") if info.is_dir() else info.filename
        if info.orig_filename != info.filename or not is_inside(name):
            raise BundleError(f"{archive} has an entry {info.orig_filename!r}, no path inside a bundle; {_PACK}")
        if name.casefold() in seen:
            raise BundleError(f"{archive} has two entries {name}; {_PACK}")
        seen.add(name.casefold())
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG):
            raise BundleError(f"{name} in {archive} is a link or no file; {_PACK}")
        if info.flag_bits & _ENCRYPTED:
            raise BundleError(f"{name} in {archive} is encrypted; {_PACK}")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BundleError(f"{name} in {archive} is not compressed by deflate; {_PACK}")
        begin = info.header_offset
        if begin < free_from:
            raise BundleError(f"{name} in {archive} lies over another entry; {_PACK}")
        free_from = begin + _HEADER_BYTES + len(info.orig_filename) + info.compress_size
    if free_from > directory_at or (files and files[0].header_offset):
        raise BundleError(f"{archive} holds something besides a zip; {_PACK}")
    if MANIFEST not in seen:
        raise BundleError(f"{archive} has no {MANIFEST} at its top; {_PACK}")
    return [info for info in files if not info.is_dir()]


def _extract(opened: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path, left: int, archive: Path) -> int:
    """Write one file; returns how many of the `left` bytes are left."""
    path = folder / info.filename
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(info) as source, path.open("xb") as target:
        while block := source.read(_BLOCK_BYTES):
            left -= len(block)
            if left < 0:
                raise BundleError(
                    f"{archive} unpacks to more than {MAX_RATIO} times its size or "
                    f"{MAX_TOTAL_BYTES >> 20} MiB and was not read on; {_PACK}"
                )
            target.write(block)
    return left


_PACK = "get the bundle again, or pack it with: edgepain pack BUNDLE FILE.zip"
