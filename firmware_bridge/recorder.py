"""A log of what came over the wire, written so that a kill or a power cut loses at most its last second.

    file    MAGIC | u32 length | u32 CRC-32 of the JSON | JSON metadata | chunk | chunk | ...
    chunk   u32 marker | f64 arrival_s | u32 length | u32 CRC-32 of the bytes | u32 CRC-32 of these 20 | bytes

All little endian; arrival_s is the host's monotonic clock, and the metadata give the wall clock at the same
moment as a monotonic one. A chunk without bytes says that the line was opened (again) here.

Chunks are appended in one write each, so that a kill of this process loses nothing that was read, and forced to
the disk about once a second. The reader skips what is damaged, finds the next marker, and says how
much it left out.
"""

from __future__ import annotations

import json
import math
import os
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from zlib import crc32

from edgepain.errors import ConfigError, DataError

MAGIC = b"edgepain wire log 1\n"
SYNC_PERIOD_S = 1.0
MARKER = 0x4B4E4843
_MARKER_BYTES = struct.pack("<I", MARKER)
_META = struct.Struct("<II")
_CHUNK = struct.Struct("<IdII")
_CRC = struct.Struct("<I")
_CHUNK_HEADER = _CHUNK.size + _CRC.size


@dataclass(frozen=True)
class Chunk:
    """Bytes that were read at once. arrival_s: host monotonic clock. data: empty where the line was opened."""

    arrival_s: float
    data: bytes


@dataclass(frozen=True)
class WireRecording:
    """What a log holds. damaged_chunks, lost_bytes: stretches and bytes of the file that could not be used."""

    metadata: Mapping[str, Any]
    chunks: tuple[Chunk, ...]
    damaged_chunks: int
    lost_bytes: int


class WireRecorder:
    """Appends chunks to a new log; `open_recording` makes one. A context manager."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._synced_s = time.monotonic()

    def write(self, arrival_s: float, data: bytes) -> None:
        """Append bytes that came at `arrival_s`. Raises DataError where the disk does not take them."""
        head = _CHUNK.pack(MARKER, arrival_s, len(data), crc32(data))
        self._append(head + _CRC.pack(crc32(head)) + data)
        now = time.monotonic()
        if now - self._synced_s >= SYNC_PERIOD_S:
            os.fdatasync(self._fd)
            self._synced_s = now

    def close(self) -> None:
        """Force everything to the disk and close. May be called twice."""
        if self._fd >= 0:
            os.fdatasync(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise DataError(f"{self.path}: cannot record ({error.strerror}); free space or record elsewhere") from error

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
    recorder = WireRecorder(path, fd)
    recorder._append(MAGIC + _META.pack(len(text), crc32(text)) + text)
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
    metadata, at = _read_metadata(content)
    chunks: list[Chunk] = []
    damaged = lost = 0
    while at < len(content):
        chunk = _read_chunk(content, at)
        if chunk is not None:
            chunks.append(chunk)
            at += _CHUNK_HEADER + len(chunk.data)
            continue
        found = content.find(_MARKER_BYTES, at + 1)
        while found >= 0 and _read_chunk(content, found) is None:
            found = content.find(_MARKER_BYTES, found + 1)
        end = found if found >= 0 else len(content)
        damaged, lost, at = damaged + 1, lost + end - at, end
    return WireRecording(metadata, tuple(chunks), damaged, lost)


def _read_metadata(content: bytes) -> tuple[dict[str, Any], int]:
    at = len(MAGIC) + _META.size
    if len(content) < at:
        return {}, len(MAGIC)
    length, crc = _META.unpack_from(content, len(MAGIC))
    text = content[at : at + length]
    if crc32(text) != crc or len(text) != length:
        return {}, at
    try:
        metadata = json.loads(text)
    except ValueError:
        return {}, at + length
    return (metadata, at + length) if isinstance(metadata, dict) else ({}, at + length)


def _read_chunk(content: bytes, at: int) -> Chunk | None:
    if at + _CHUNK_HEADER > len(content):
        return None
    marker, arrival_s, length, crc = _CHUNK.unpack_from(content, at)
    (head_crc,) = _CRC.unpack_from(content, at + _CHUNK.size)
    sound = marker == MARKER and head_crc == crc32(content[at : at + _CHUNK.size]) and math.isfinite(arrival_s)
    if not sound:
        return None
    data = content[at + _CHUNK_HEADER : at + _CHUNK_HEADER + length]
    return Chunk(arrival_s, data) if len(data) == length and crc32(data) == crc else None
