"""Which other files an ONNX graph refers to, found without the `onnx` package, which a device does not have.

A tensor may lie in another file (`external_data`). ONNX Runtime 1.20 to 1.23 follow such a reference to any file of the
machine, and end the process where it names a place in memory; so a graph is looked through before it is loaded.

An ONNX file is a protobuf message: fields, each a tag (number and wire type) and a value. Only fields that can hold a
tensor are entered, by the numbers of onnx.proto; all others are stepped over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from edgepain.bundle.manifest import FileFacts
from edgepain.bundle.names import is_inside
from edgepain.errors import BundleError

# Message → number of a field → message in it.
_INNER: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def require_own_files(name: str, data: bytes, files: Mapping[str, FileFacts], shown: str) -> None:
    """Raises BundleError where the graph `data`, the bundle's file `name`, refers to what is not in its files."""
    try:
        references = list(_references(memoryview(data)))
    except (ValueError, IndexError) as error:
        raise BundleError(f"{shown} is no ONNX graph; export the bundle again") from error
    for reference in references:
        location = reference.get("location", "")
        file = (PurePosixPath(name).parent / location).as_posix()
        if not is_inside(location) or file not in files:
            raise BundleError(f"{shown} keeps weights in {location!r}, no file of the bundle; export the bundle again")
        begin, length = reference.get("offset", ""), reference.get("length", "")
        if not (_is_count(begin) and _is_count(length) and int(begin) + int(length) <= files[file].bytes):
            raise BundleError(f"{shown} keeps weights beyond the end of {file}; export the bundle again")


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def _references(data: memoryview) -> Iterator[dict[str, str]]:
    """What each tensor with `external_data` says of it. Raises ValueError or IndexError for what is no protobuf."""
    waiting = [("model", data)]
    while waiting:
        kind, message = waiting.pop()
        entries = []
        for number, value in _fields(message):
            inner = _INNER[kind].get(number)
            if inner == "entry":
                entries.append(_entry(value))
            elif inner is not None:
                waiting.append((inner, value))
        if entries:
            reference = dict(entries)
            if len(reference) != len(entries):
                raise ValueError("an entry twice")
            yield reference


def _entry(message: memoryview) -> tuple[str, str]:
    texts = {number: str(value, "utf-8") for number, value in _fields(message)}
    return texts.get(1, ""), texts.get(2, "")


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and contents of every field that has a length."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire_type = tag >> 3, tag & 7
        if not 0 < tag < 1 << 32 or number == 0:
            raise ValueError("no tag")
        if wire_type == _VARINT:
            _, at = _varint(message, at)
        elif wire_type == _BYTES:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("cut short")
            yield number, message[at : at + length]
            at += length
        elif wire_type in (_FIXED32, _FIXED64):
            at += 4 if wire_type == _FIXED32 else 8
            if at > len(message):
                raise ValueError("cut short")
        else:
            raise ValueError("a wire type that ONNX does not use")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("no end of a number")
