"""What it takes to read one wearable at its own pace: processor, and how long its bytes take to become samples."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

import msgspec
import numpy as np

from edgepain.firmware_bridge import device_kind
from edgepain.firmware_bridge.bitalino import pack
from edgepain.firmware_bridge.edgeframe import DEVICE_STREAM, Frame, FrameType, encode
from edgepain.firmware_bridge.hello import Hello, StreamHello, encode_hello
from edgepain.firmware_bridge.shimmer import encode_packets
from edgepain.signal import Samples

# What a reader gets at once from a serial line: the kernel hands on what came since it looked.
PIECE_S = 0.02


class StreamRow(msgspec.Struct, frozen=True):
    """One wearable at its own pace, read every 20 ms. processor_percent: of one core. byte_to_sample_us: from a read to
    its samples in units, median and p99."""

    device: str
    wire_kb_s: float
    processor_percent: float
    byte_to_sample_us: float
    byte_to_sample_p99_us: float


def benchmark_streams(seconds: float = 20.0) -> tuple[StreamRow, ...]:
    """Feed the driver of each device with so many seconds of what it sends. Raises ValueError where no samples come."""
    return tuple(_row(*case, seconds) for case in _cases())


Wire = Callable[[float, float], bytes]


def _cases() -> Iterator[tuple[str, str, Mapping[str, str], bytes, Wire]]:
    """(name, kind, its options, what it says first, what it sends from one moment to another)."""
    hello = Hello("band", "1", 1, 0, (StreamHello("eda", "uS", 4.0), StreamHello("bvp", "a.u.", 64.0)))
    said = encode(Frame(FrameType.HELLO, DEVICE_STREAM, 0, 0, encode_hello(hello)))
    yield "edgeframe, EDA 4 Hz and BVP 64 Hz", "edgeframe", {}, said, _edgeframe
    yield "BITalino, EDA and ECG at 1000 Hz", "bitalino", {}, b"BITalino_v5.2\n", _bitalino
    inquired = b"\xff\x02" + (256).to_bytes(2, "little") + bytes(4) + bytes([2, 1, 0x12, 0x1C])
    yield "Shimmer3, GSR and PPG at 128 Hz", "shimmer3", {}, inquired, _shimmer
    yield "text lines, three numbers at 128 Hz", "lines", {"rate_hz": "128"}, b"Starting\r\n", _lines


def _row(name: str, kind: str, options: Mapping[str, str], said: bytes, wire: Wire, seconds: float) -> StreamRow:
    driver = device_kind(kind).driver(options)
    driver.feed(said, 0.0)
    moments = np.arange(0.0, seconds, PIECE_S)
    pieces = [wire(float(at_s), float(at_s + PIECE_S)) for at_s in moments]
    taken, gave = [], 0
    worked_s = time.process_time()
    for at_s, piece in zip(moments, pieces, strict=True):
        begin = time.perf_counter()
        events = driver.feed(piece, float(at_s) + PIECE_S)
        if any(isinstance(event, Samples) for event in events):
            taken.append(time.perf_counter() - begin)
            gave += 1
    worked_s = time.process_time() - worked_s
    if not gave:
        raise ValueError(f"{name}: sound bytes gave no samples")
    p50, p99 = np.percentile(taken, (50, 99)) * 1e6
    size = sum(map(len, pieces))
    return StreamRow(name, size / seconds / 1e3, 100 * worked_s / seconds, float(p50), float(p99))


def _numbers(begin_s: float, end_s: float, rate_hz: float) -> range:
    """Which samples of that rate are taken from one moment on, before another."""
    return range(int(np.ceil(begin_s * rate_hz - 1e-6)), int(np.ceil(end_s * rate_hz - 1e-6)))


def _edgeframe(begin_s: float, end_s: float) -> bytes:
    wire = b""
    for stream, rate_hz, count in ((0, 4.0, 1), (1, 64.0, 5)):
        for seq in _numbers(begin_s, end_s, rate_hz / count):
            payload = np.full(count, seq % 100, "<i2").tobytes()
            first_us = int(seq * count / rate_hz * 1e6)
            wire += encode(Frame(FrameType.DATA, stream, seq & 0xFFFF, first_us, payload, 0, count))
    return wire


def _bitalino(begin_s: float, end_s: float) -> bytes:
    numbers = _numbers(begin_s, end_s, 1000.0)
    return pack(np.full((len(numbers), 2), 500, np.uint16), numbers.start)


def _shimmer(begin_s: float, end_s: float) -> bytes:
    numbers = np.array(_numbers(begin_s, end_s, 128.0), np.int64)
    return encode_packets(numbers * 256, np.full((numbers.size, 2), 1000)).tobytes() if numbers.size else b""


def _lines(begin_s: float, end_s: float) -> bytes:
    numbers = _numbers(begin_s, end_s, 128.0)
    return b"".join(b"%d,2.345678,%d\r\n" % (round(k / 128 * 1e3), 500 + k % 50) for k in numbers)
