"""XDF 1.0, the format of Lab Streaming Layer: one stream a signal with the time of each sample, and one of markers.

    file    "XDF:" | chunk | chunk | ...
    chunk   length of what follows, behind the number of bytes it takes (1, 4 or 8) | u16 tag | content
    1       FileHeader: XML                          4   ClockOffset: u32 stream | f64 time | f64 offset
    2       StreamHeader: u32 stream | XML           5   Boundary: 16 bytes that are always the same
    3       Samples: u32 stream | count, as length   6   StreamFooter: u32 stream | XML
            | of each: 08 | f64 time | values (a text: length, as above | UTF-8)

All little endian. Specification: the wiki of github.com/sccn/xdf. Times are Unix seconds, already those of the
computer: the one ClockOffset of each stream is 0. Gaps and restarts are times without samples, and each stream says
that it may have some (`can_drop_samples`), so that readers do not smooth them away. A missing value is NaN.
"""

from __future__ import annotations

import struct
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree as xml

import numpy as np
import numpy.typing as npt

from edgepain.firmware_bridge.logged import LoggedSession
from edgepain.signal import Modality

MAGIC = b"XDF:"
_FILE_HEADER, _STREAM_HEADER, _SAMPLES, _CLOCK_OFFSET, _BOUNDARY, _STREAM_FOOTER = range(1, 7)
_BOUNDARY_BYTES = bytes.fromhex("43a546dccbf5410fb30ed5467383cbe4")
_SAMPLE = np.dtype([("has_time", "u1"), ("time_s", "<f8"), ("value", "<f4")])
# Samples of one chunk; a boundary follows each.
_BLOCK = 10_000
_TYPES = {Modality.EDA: "EDA", Modality.ECG: "ECG", Modality.BVP: "PPG"}


def write(session: LoggedSession, path: Path) -> None:
    """Write `path`. Raises OSError."""
    with path.open("wb") as file:
        begun = datetime.fromtimestamp(session.begin_unix_s, timezone.utc).isoformat()
        file.write(MAGIC)
        _chunk(file, _FILE_HEADER, _xml({"version": "1.0", "datetime": begun}))
        for number, modality in enumerate(session.modalities, 1):
            _signal(file, session, number, modality)
        _markers(file, session, len(session.modalities) + 1)


def _signal(file: BinaryIO, session: LoggedSession, number: int, modality: Modality) -> None:
    parts = [segment for segment in session.segments if modality in segment.signals]
    times_s = np.concatenate([session.times_s(segment, modality) for segment in parts]) + session.begin_unix_s
    values = np.concatenate([segment.signals[modality].values for segment in parts])
    rate_hz = parts[-1].signals[modality].rate_hz
    head = {
        "name": f"edgepain {modality}",
        "type": _TYPES.get(modality, str(modality).upper()),
        "channel_count": "1",
        "nominal_srate": repr(rate_hz),
        "channel_format": "float32",
        "source_id": session.path.name,
        "desc": {
            "channels": {"channel": {"label": str(modality), "unit": modality.unit, "type": str(modality).upper()}},
            "synchronization": {"can_drop_samples": "true"},
            "edgepain": _facts(session),
        },
    }
    samples = np.empty(values.size, _SAMPLE)
    samples["has_time"], samples["time_s"], samples["value"] = 8, times_s, values
    blocks = [samples[begin : begin + _BLOCK] for begin in range(0, samples.size, _BLOCK)]
    _stream(file, number, head, [(len(block), block.tobytes()) for block in blocks], times_s)


def _markers(file: BinaryIO, session: LoggedSession, number: int) -> None:
    head = {
        "name": "edgepain markers",
        "type": "Markers",
        "channel_count": "1",
        "nominal_srate": "0",
        "channel_format": "string",
        "source_id": session.path.name,
        "desc": {},
    }
    timed = sorted(((session.marker_s(m) + session.begin_unix_s, m) for m in session.markers), key=lambda pair: pair[0])
    content = b""
    for at_s, marker in timed:
        text = marker.label if marker.value is None else f"{marker.label} {marker.value:g}"
        content += b"\x08" + struct.pack("<d", at_s) + _length(len(text.encode())) + text.encode()
    blocks = [(len(timed), content)] if timed else []
    _stream(file, number, head, blocks, np.array([at_s for at_s, _ in timed]))


def _stream(
    file: BinaryIO,
    number: int,
    head: dict[str, Any],
    blocks: list[tuple[int, bytes]],
    times_s: npt.NDArray[np.float64],
) -> None:
    stream = struct.pack("<I", number)
    _chunk(file, _STREAM_HEADER, stream + _xml(head))
    foot: dict[str, Any] = {"sample_count": str(times_s.size)}
    if times_s.size:
        _chunk(file, _CLOCK_OFFSET, stream + struct.pack("<dd", float(times_s[0]), 0.0))
        foot |= {"first_timestamp": repr(float(times_s[0])), "last_timestamp": repr(float(times_s[-1]))}
        foot["clock_offsets"] = {"offset": {"time": repr(float(times_s[0])), "value": "0"}}
    for count, content in blocks:
        _chunk(file, _SAMPLES, stream + _length(count) + content)
        _chunk(file, _BOUNDARY, _BOUNDARY_BYTES)
    _chunk(file, _STREAM_FOOTER, stream + _xml(foot))


def _chunk(file: BinaryIO, tag: int, content: bytes) -> None:
    file.write(_length(2 + len(content)) + struct.pack("<H", tag) + content)


def _length(count: int) -> bytes:
    if count < 2**8:
        return b"\x01" + bytes([count])
    return b"\x04" + struct.pack("<I", count) if count < 2**32 else b"\x08" + struct.pack("<Q", count)


def _facts(session: LoggedSession) -> dict[str, Any]:
    """What is to be known, as text; of each segment under `segment`."""
    facts = session.facts()
    told: dict[str, Any] = {name: str(value) for name, value in facts.items() if isinstance(value, str | int | float)}
    told["segments"] = {
        f"segment_{number}": {name: str(value) for name, value in segment.items()}
        for number, segment in enumerate(facts["segments"], 1)
    }
    return told


def _xml(content: dict[str, Any]) -> bytes:
    root = xml.Element("info")
    _fill(root, content)
    return b'<?xml version="1.0"?>' + xml.tostring(root, encoding="unicode").encode()


def _fill(element: xml.Element, content: dict[str, Any]) -> None:
    for name, value in content.items():
        child = xml.SubElement(element, name)
        if isinstance(value, dict):
            _fill(child, value)
        else:
            child.text = "".join(letter for letter in str(value) if letter.isprintable())
