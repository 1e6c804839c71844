"""How fast bytes of wearables are decoded, beside plain loops over the bytes in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import msgspec
import numpy as np

from edgepain.benchmarks import byte_loops
from edgepain.benchmarks.bridge_streams import StreamRow, benchmark_streams
from edgepain.benchmarks.clock_error import ClockRow, clock_rows
from edgepain.benchmarks.machine import Machine, this_machine
from edgepain.firmware_bridge import device_kind
from edgepain.firmware_bridge.bitalino import FRAME_BYTES, BitalinoDecoder, pack
from edgepain.firmware_bridge.edgeframe import Frame, FrameDecoder, FrameType, encode
from edgepain.firmware_bridge.lines import LineSplitter
from edgepain.firmware_bridge.shimmer import ShimmerDecoder, encode_packets
from edgepain.firmware_bridge.sketches import LinesOptions, open_sketch
from edgepain.signal import Samples

# Read at once: what a replay hands over, and what a serial port holds at most.
LARGE, SMALL = 65_536, 4096
LOOP_BYTES = 200_000


class BridgeRow(msgspec.Struct, frozen=True):
    """One decoder. Megabytes of wire a second of processor time, in reads of 64 KiB and of 4 KiB; the loop's beside.

    frames: that both found in the same bytes.
    """

    decoder: str
    large_mb_s: float
    small_mb_s: float
    loop_mb_s: float
    frames: int

    @property
    def times(self) -> float:
        """How often the loop's speed, in large reads."""
        return self.large_mb_s / self.loop_mb_s


class BridgeReport(msgspec.Struct, frozen=True):
    """What was measured on which machine, and the latency from a frame's last byte to its samples (5 ms of it).

    clocks: errors of host times over synthetic links. streams: each device at its own pace.
    """

    machine: Machine
    rows: tuple[BridgeRow, ...]
    byte_to_sample_us: float
    clocks: tuple[ClockRow, ...]
    streams: tuple[StreamRow, ...]


def benchmark_bridge(megabytes: float = 8.0, rounds: int = 3) -> BridgeReport:
    """Measure every decoder on `megabytes` of random samples, the best of `rounds`, on one core.

    Raises ValueError where a decoder and its loop find different frames.
    """
    rows = tuple(_row(*case, rounds) for case in _cases(int(megabytes * 1e6)))
    return BridgeReport(this_machine(), rows, _byte_to_sample_us(), clock_rows(), benchmark_streams())


Count = Callable[[bytes, int], int]


def _cases(size: int) -> Iterator[tuple[str, bytes, int, Count, Callable[[bytes], int]]]:
    """(name, wire, bytes that hold whole frames for the loop, decoder, loop); both give how many frames they found."""
    wire = _edgeframe(size)
    whole = wire.index(b"\0", LOOP_BYTES) + 1
    yield "edgeframe", wire, whole, _count_edgeframe, lambda data: len(byte_loops.edgeframe_frames(data))
    for channels in (4, 6):
        frame = FRAME_BYTES[channels - 1]

        def count(data: bytes, read: int, channels: int = channels) -> int:
            decoder = BitalinoDecoder(channels)
            return sum(len(block.analog) for piece in _pieces(data, read) for block in decoder.feed(piece))

        def loop(data: bytes, frame: int = frame) -> int:
            return len(byte_loops.bitalino_frames(data, frame))

        whole = LOOP_BYTES // frame * frame
        yield f"BITalino, {channels} channels", _bitalino(size, channels), whole, count, loop
    packet = 4 + 2 * 2 + 2
    whole = LOOP_BYTES // packet * packet
    yield (
        "Shimmer3, GSR and PPG",
        _shimmer(size // packet),
        whole,
        _count_shimmer,
        lambda data: len(byte_loops.shimmer_packets(data, packet)),
    )
    wire = _lines(size)
    whole = wire.index(b"\n", LOOP_BYTES) + 1
    yield "text lines, three numbers", wire, whole, _count_lines, lambda data: len(byte_loops.text_lines(data))


def _count_shimmer(data: bytes, read: int) -> int:
    decoder = ShimmerDecoder(2, 256)
    return sum(len(block.ticks) for piece in _pieces(data, read) for block in decoder.feed(piece))


def _count_lines(data: bytes, read: int) -> int:
    splitter, sketch = LineSplitter(), open_sketch(LinesOptions())
    return sum(sketch.read(line) is not None for piece in _pieces(data, read) for line in splitter.feed(piece))


def _count_edgeframe(data: bytes, read: int) -> int:
    decoder = FrameDecoder()
    return sum(len(decoder.feed(piece)) for piece in _pieces(data, read))


def _row(name: str, wire: bytes, whole: int, count: Count, loop: Callable[[bytes], int], rounds: int) -> BridgeRow:
    found, by_loop = count(wire[:whole], LARGE), loop(wire[:whole])
    if found != by_loop:
        raise ValueError(f"{name}: the decoder found {found} frames, the loop {by_loop}")
    large_mb_s = len(wire) / 1e6 / _fastest_s(lambda: count(wire, LARGE), rounds)
    small_mb_s = len(wire) / 1e6 / _fastest_s(lambda: count(wire, SMALL), rounds)
    return BridgeRow(name, large_mb_s, small_mb_s, whole / 1e6 / _fastest_s(lambda: loop(wire[:whole]), rounds), found)


def _fastest_s(work: Callable[[], object], rounds: int) -> float:
    """Processor time, so that other programs on the machine do not count."""
    taken = []
    for _ in range(rounds):
        begin = time.process_time()
        work()
        taken.append(time.process_time() - begin)
    return min(taken)


def _byte_to_sample_us() -> float:
    """Median time from 5 ms of BITalino frames (5 of 4 bytes) to samples in units."""
    driver = device_kind("bitalino").driver({})
    driver.feed(b"BITalino_v5.2\n", 0.0)
    wire = _bitalino(20_000, 2)
    taken = []
    for k, piece in enumerate(_pieces(wire, 20)):
        begin = time.perf_counter()
        events = driver.feed(piece, k * 0.005)
        taken.append(time.perf_counter() - begin)
        if not any(isinstance(event, Samples) for event in events):
            raise ValueError("sound frames gave no samples")
    return float(np.median(taken)) * 1e6


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def _bitalino(size: int, channels: int) -> bytes:
    most = np.array([1024] * 4 + [64] * 2)[:channels]
    count = size // FRAME_BYTES[channels - 1]
    return pack(np.random.default_rng(0).integers(0, most, (count, channels)).astype(np.uint16))


def _lines(size: int) -> bytes:
    """Time in ms, EDA in µS, a pulse wave; the first line is cut, as on attach."""
    random, count = np.random.default_rng(0), size // 22
    eda, bvp = random.uniform(0, 20, count), random.integers(0, 1024, count)
    rows = zip(range(count), eda.tolist(), bvp.tolist(), strict=True)
    return b"ting\r\n" + b"".join(b"%d,%.6f,%d\r\n" % (1000 + 8 * k, eda_us, wave) for k, eda_us, wave in rows)


def _shimmer(count: int) -> bytes:
    raw = np.random.default_rng(0).integers(0, 2**16, (count, 2)).astype(np.uint16)
    return encode_packets(np.arange(count) * 256, raw).tobytes()


def _edgeframe(size: int) -> bytes:
    """80 ms of 512 Hz int16 a frame, as a device for ECG sends it."""
    random, wire, count = np.random.default_rng(0), bytearray(), 0
    while len(wire) < size:
        payload = random.integers(-(2**15) + 1, 2**15, 41).astype("<i2").tobytes()
        wire += encode(Frame(FrameType.DATA, 0, count & 0xFFFF, count * 80_078 & 0xFFFFFFFF, payload, 0, 41))
        count += 1
    return bytes(wire)
