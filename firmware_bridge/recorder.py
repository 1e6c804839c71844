"""A log of what came over the wire, written so that a kill or a power cut loses at most its last second.

    file    MAGIC | u32 length | u32 CRC-32 of the JSON | JSON metadata | chunk | chunk | ...
    chunk   4 bytes tag | f64 at_s | u32 length | u32 CRC-32 of the bytes | u32 CRC-32 of these 20 | bytes

All little endian; at_s is the host's monotonic clock, and the metadata give the wall clock at the same moment as a
monotonic one. Tag CHNK: bytes that were read at once at at_s; none where the line was opened (again). Tag DESC: the
metadata once more, at each opening of the line, for where those at the head are damaged. Tag MARK: a `Marker` of at_s
as JSON.

Chunks are appended in one write each, so that a kill of this process loses nothing that was read, and forced to
the disk about once a second. The reader skips what is damaged, finds the next tag, and says how much it left out.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias
from zlib import crc32

import msgspec

from edgepain.errors import ConfigError, DataError
from edgepain.signal import Marker

MAGIC = b"edgepain wire log 1\n"
SYNC_PERIOD_S = 1.0
_BYTES, _MARKER, _DESCRIPTION = b"CHNK", b"MARK", b"DESC"
_TAGS = re.compile(b"CHNK|MARK|DESC")
_META = struct.Struct("<II")
_CHUNK = struct.Struct("<4sdII")
_CRC = struct.Struct("<I")
_CHUNK_HEADER = _CHUNK.size + _CRC.size


@dataclass(frozen=True)
class Chunk:
    """Bytes that were read at once. arrival_s: host monotonic clock. data: empty where the line was opened."""

    arrival_s: float
    data: bytes


@dataclass(frozen=True)
class Description:
    """The metadata of a log, repeated. at_s: host monotonic clock."""

    at_s: float
    metadata: Mapping[str, Any]


_Entry: TypeAlias = Chunk | Marker | Description


@dataclass(frozen=True)
class Damage:
    """A stretch of a log that cannot be used. after_s, before_s: when what stands before and after it came, host
    monotonic clock; None where nothing does."""

    lost_bytes: int
    after_s: float | None
    before_s: float | None


@dataclass(frozen=True)
class WireRecording:
    """What a log holds. metadata: empty where all copies of it are damaged. content: the whole file, chunks from
    `begin` on."""

    metadata: Mapping[str, Any]
    damage: tuple[Damage, ...]
    content: bytes
    begin: int

    @property
    def damaged_chunks(self) -> int:
        """Stretches of the file that cannot be used."""
        return len(self.damage)

    @property
    def lost_bytes(self) -> int:
        """Bytes of the file that cannot be used."""
        return sum(stretch.lost_bytes for stretch in self.damage)

    def __iter__(self) -> Iterator[Chunk | Marker]:
        """Everything that is sound, in the order in which it was written."""
        return (entry for entry, _ in _entries(self.content, self.begin) if isinstance(entry, Chunk | Marker))

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """What was read, without the markers."""
        return tuple(entry for entry in self if isinstance(entry, Chunk))


class WireRecorder:
    """Appends chunks to a new log; `open_recording` makes one. A context manager."""

    def __init__(self, path: Path, fd: int, description: bytes) -> None:
        self.path = path
        self._fd = fd
        self._description = description
        self._synced_s = time.monotonic()
        self._unsynced = False

    def write(self, arrival_s: float, data: bytes) -> None:
        """Append bytes that came at `arrival_s`; none say that the line was opened, and the metadata are repeated.

        Raises DataError where the disk does not take them.
        """
        self._append(_chunk(_BYTES, arrival_s, data))
        if not data:
            self._append(_chunk(_DESCRIPTION, arrival_s, self._description))
        self.sync_when_due()

    def note(self, marker: Marker) -> None:
        """Append a marker and force it to the disk: it cannot be had again. Raises DataError where that fails."""
        self._append(_chunk(_MARKER, marker.at_s, msgspec.json.encode(marker)))
        self._sync()

    def sync_when_due(self) -> None:
        """Force what was written to the disk, about once a second. To be called while nothing comes, too.

        Raises DataError where the disk does not take it.
        """
        if self._unsynced and time.monotonic() - self._synced_s >= SYNC_PERIOD_S:
            self._sync()

    def close(self) -> None:
        """Force everything to the disk and close. May be called twice. Raises DataError where the disk fails."""
        if self._fd >= 0:
            try:
                self._sync()
            finally:
                os.close(self._fd)
                self._fd = -1

    def _sync(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise self._refused(error) from error
        self._synced_s, self._unsynced = time.monotonic(), False

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        self._unsynced = True
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> DataError:
        return DataError(f"{self.path}: cannot record ({error.strerror}); free space or record elsewhere")

    def __enter__(self) -> WireRecorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_recording(path: Path | str, metadata: Mapping[str, Any] | None = None) -> WireRecorder:
    """Begin a new log at `path`; `metadata` must be JSON. Wall clock and monotonic clock are added to it.

    Raises ConfigError where `path` exists already, DataError where it cannot be written.
    """
    path = Path(path)
    clocks = {"started_unix_s": time.time(), "started_monotonic_s": time.monotonic()}
    text = json.dumps({**(metadata or {}), **clocks}).encode()
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise ConfigError(f"{path}: exists already and is not overwritten; choose another name") from None
    except OSError as error:
        raise DataError(f"{path}: cannot record here ({error.strerror}); choose another folder") from error
    recorder = WireRecorder(path, fd, text)
    try:
        recorder._append(MAGIC + _META.pack(len(text), crc32(text)) + text)
    except DataError:
        # A log without its beginning is none, and would be in the way of the next of its name.
        os.close(fd)
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    return recorder


def read_recording(path: Path | str) -> WireRecording:
    """Every sound chunk of a log, whatever happened to its tail or its middle.

    Raises DataError where it cannot be read, or is no log of this kind at all.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the name") from error
    if not content.startswith(MAGIC):
        raise DataError(f"{path}: not a wire log of edgepain (or of a newer version); name one made with --record")
    metadata, begin = _read_metadata(content)
    if not metadata:
        copies = (entry.metadata for entry, _ in _entries(content, begin) if isinstance(entry, Description))
        metadata = next(copies, {})
    return WireRecording(metadata, tuple(_damage(content, begin)), content, begin)


def _chunk(tag: bytes, at_s: float, data: bytes) -> bytes:
    head = _CHUNK.pack(tag, at_s, len(data), crc32(data))
    return head + _CRC.pack(crc32(head)) + data


def _read_metadata(content: bytes) -> tuple[Mapping[str, Any], int]:
    at = len(MAGIC) + _META.size
    if len(content) < at:
        return {}, len(MAGIC)
    length, crc = _META.unpack_from(content, len(MAGIC))
    text = content[at : at + length]
    if crc32(text) != crc or len(text) != length:
        return {}, at
    return _described(text) or {}, at + length


def _described(text: bytes) -> Mapping[str, Any] | None:
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return metadata if isinstance(metadata, dict) else None


def _entries(content: bytes, at: int) -> Iterator[tuple[_Entry | None, int]]:
    """Everything from `at` on with its bytes: what is sound, and None for each stretch between that is not."""
    while at < len(content):
        entry, end = _read_entry(content, at)
        if entry is None:
            end = next((tag.start() for tag in _TAGS.finditer(content, at + 1) if _sound(content, tag)), len(content))
        yield entry, end - at
        at = end


def _damage(content: bytes, begin: int) -> Iterator[Damage]:
    before_s: float | None = None
    lost_bytes = 0
    for entry, size in _entries(content, begin):
        if entry is None:
            lost_bytes = size
            continue
        at_s = entry.arrival_s if isinstance(entry, Chunk) else entry.at_s
        if lost_bytes:
            yield Damage(lost_bytes, before_s, at_s)
        before_s, lost_bytes = at_s, 0
    if lost_bytes:
        yield Damage(lost_bytes, before_s, None)


def _sound(content: bytes, tag: re.Match[bytes]) -> bool:
    return _read_entry(content, tag.start())[0] is not None


def _read_entry(content: bytes, at: int) -> tuple[_Entry | None, int]:
    """What stands at `at` and where it ends; None where nothing sound does."""
    data_at = at + _CHUNK_HEADER
    if data_at > len(content):
        return None, at
    tag, at_s, length, crc = _CHUNK.unpack_from(content, at)
    (head_crc,) = _CRC.unpack_from(content, at + _CHUNK.size)
    if head_crc != crc32(content[at : at + _CHUNK.size]) or not math.isfinite(at_s):
        return None, at
    end = data_at + length
    data = content[data_at:end]
    if len(data) != length or crc32(data) != crc:
        return None, at
    return _decoded(tag, at_s, data), end


def _decoded(tag: bytes, at_s: float, data: bytes) -> _Entry | None:
    if tag == _BYTES:
        return Chunk(at_s, data)
    if tag == _DESCRIPTION:
        metadata = _described(data)
        return None if metadata is None else Description(at_s, metadata)
    if tag != _MARKER:
        return None
    try:
        return msgspec.json.decode(data, type=Marker)
    except msgspec.DecodeError:
        return None
