"""What is fuzzed: a sound stream of every device, and a second decoder that knows what was sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgepain.firmware_bridge.bitalino import BitalinoDecoder, pack
from edgepain.firmware_bridge.edgeframe import Frame, FrameDecoder, FrameType, encode
from edgepain.firmware_bridge.hello import Hello, StreamHello, encode_hello
from edgepain.firmware_bridge.lines import LineSplitter
from edgepain.firmware_bridge.messages import Channel, Chunk, Described, Message, Offset, Stream, Unpacker
from edgepain.firmware_bridge.messages import pack as pack_message
from edgepain.firmware_bridge.shimmer import GSR, INT_A13, ShimmerDecoder, encode_packets
from edgepain.firmware_bridge.sketches import LinesOptions, open_sketch

_Keys = npt.NDArray[np.uint64]
_SECONDS = 1200
_DIVIDER = 256
_SEEDS, _SEED_BYTES = 24, 2500
# The harness takes numbers from an input's end: these mean "bytes as they are", again and again.
_PLAIN = b"\xff" * 24


class Witness(Protocol):
    """Decodes by itself and compares with what was sent. accepted, wrong: frames.

    by_chance: how many wrong ones the check value lets pass, at the most; None where there is no check value.
    """

    accepted: int
    wrong: int

    @property
    def by_chance(self) -> float | None: ...

    def feed(self, data: bytes) -> None:
        """See these bytes too."""
        ...

    def cut(self) -> None:
        """The line was opened again, and the device greeted anew."""
        ...


@dataclass(frozen=True)
class Target:
    """options: of the driver. greeting: what a device answers before it sends `wire`, of `frames` frames in all."""

    device: str
    check: str
    options: Mapping[str, str]
    greeting: bytes
    wire: bytes
    frames: int
    witness: Callable[[], Witness]


def fuzz_target(device: str) -> Target:
    """What is needed to fuzz a device of this package. Raises KeyError for others."""
    return TARGETS[device]()


def write_seeds(target: Target, folder: Path) -> None:
    """Files with pieces of the stream of `target`, as inputs for `fuzz_harness`."""
    step = len(target.wire) // _SEEDS
    for k in range(_SEEDS):
        (folder / f"seed{k}").write_bytes(target.wire[k * step : k * step + _SEED_BYTES] + _PLAIN)


class _EdgeframeWitness:
    def __init__(self, sent: frozenset[Frame]) -> None:
        self.accepted = self.wrong = 0
        self._sent = sent
        self._decoder = FrameDecoder()

    @property
    def by_chance(self) -> float:
        return self._decoder.counters.crc_errors / 2**32

    def feed(self, data: bytes) -> None:
        frames = self._decoder.feed(data)
        self.accepted += len(frames)
        self.wrong += sum(frame not in self._sent for frame in frames)

    def cut(self) -> None:
        self._decoder.reset()


def _edgeframe() -> Target:
    """ECG at 256 Hz and EDA at 8 Hz, 20 minutes."""
    random = np.random.default_rng(1)
    streams = (StreamHello("ecg", "mV", 256.0, "i2", 0.001), StreamHello("eda", "uS", 8.0, "f4"))
    frames = []
    for k in range(_SECONDS * 8):
        t_us = k * 125_000
        if k % 8 == 0:
            hello = encode_hello(Hello("fuzzed", "1", 7, t_us, streams))
            frames += [Frame(FrameType.HELLO, 255, 0, t_us, hello), Frame(FrameType.STATUS, 255, k, t_us, bytes(8))]
        ecg = random.integers(-(2**15), 2**15, 32).astype("<i2").tobytes()
        eda = random.uniform(0, 30, 1).astype("<f4").tobytes()
        frames.append(Frame(FrameType.DATA, 0, k & 0xFFFF, t_us, ecg, int(random.integers(16)), 32))
        frames.append(Frame(FrameType.DATA, 1, k & 0xFFFF, t_us, eda, 0, 1))
    wire, sent = b"".join(map(encode, frames)), frozenset(frames)
    return Target("edgeframe", "CRC-32", {}, b"", wire, len(frames), lambda: _EdgeframeWitness(sent))


class _BitalinoWitness:
    def __init__(self, sent: _Keys) -> None:
        self.accepted = self.wrong = 0
        self._sent = sent
        self._decoder = BitalinoDecoder(3)

    @property
    def by_chance(self) -> float:
        # One damaged frame in 16; and three bytes' places in a row that look like frames which follow on.
        counters = self._decoder.counters
        return counters.crc_errors / 2**4 + 3 * counters.skipped_bytes / 2**20

    def feed(self, data: bytes) -> None:
        for block in self._decoder.feed(data):
            self.accepted += len(block.analog)
            self.wrong += _strangers(_keys(*block.analog.T, block.digital), self._sent)

    def cut(self) -> None:
        self._decoder.restart()


def _bitalino() -> Target:
    """Three ports at 1000 Hz, random samples, 160 s."""
    samples = np.random.default_rng(2).integers(0, 1024, (160_000, 3)).astype(np.uint16)
    sent = np.unique(_keys(*samples.T, np.zeros(len(samples), np.uint8)))
    return Target(
        "bitalino",
        "CRC-4",
        {"bvp": "A1", "eda_rate_hz": "1000"},
        b"BITalino_v5.2\n",
        pack(samples),
        len(samples),
        lambda: _BitalinoWitness(sent),
    )


class _ShimmerWitness:
    def __init__(self, sent: _Keys) -> None:
        self.accepted = self.wrong = 0
        self._sent = sent
        self._decoder = ShimmerDecoder(2, _DIVIDER)

    @property
    def by_chance(self) -> float:
        return self._decoder.counters.crc_errors / 2**16

    def feed(self, data: bytes) -> None:
        for block in self._decoder.feed(data):
            self.accepted += len(block.ticks)
            self.wrong += _strangers(_keys(*block.raw.T, block.ticks), self._sent)

    def cut(self) -> None:
        self._decoder.restart()


def _shimmer() -> Target:
    """GSR and PPG at 128 Hz, random samples: 512 s, once around the device's clock."""
    ticks = np.arange(2**24 // _DIVIDER) * _DIVIDER
    raw = np.random.default_rng(3).integers(0, 2**16, (ticks.size, 2)).astype(np.uint16)
    sent = np.unique(_keys(*raw.T, ticks))
    answer = b"\xff\x02" + _DIVIDER.to_bytes(2, "little") + bytes(4) + bytes([2, 1, GSR, INT_A13])
    wire = encode_packets(ticks, raw).tobytes()
    return Target("shimmer3", "CRC-16", {}, answer, wire, ticks.size, lambda: _ShimmerWitness(sent))


class _LinesWitness:
    by_chance = None

    def __init__(self, sent: frozenset[bytes]) -> None:
        self.accepted = self.wrong = 0
        self._sent = sent
        self._read = open_sketch(LinesOptions()).read
        self._splitter = LineSplitter()

    def feed(self, data: bytes) -> None:
        for line in self._splitter.feed(data):
            if self._read(line) is not None:
                self.accepted += 1
                self.wrong += line not in self._sent

    def cut(self) -> None:
        self._splitter.restart()


def _lines() -> Target:
    """`time_ms,eda_us,bvp` at 64 Hz, 20 minutes."""
    random = np.random.default_rng(4)
    eda, bvp = random.uniform(0, 30, _SECONDS * 64), random.integers(0, 1024, _SECONDS * 64)
    lines = [b"%d,%.3f,%d" % (k * 1000 // 64, eda[k], bvp[k]) for k in range(_SECONDS * 64)]
    sent = frozenset(lines)
    return Target("lines", "none", {}, b"\n", b"\r\n".join([*lines, b""]), len(lines), lambda: _LinesWitness(sent))


class _StreamsWitness:
    def __init__(self, sent: frozenset[Message]) -> None:
        self.accepted = self.wrong = 0
        self._sent = sent
        self._unpacker = Unpacker()

    @property
    def by_chance(self) -> float:
        return self._unpacker.crc_errors / 2**32

    def feed(self, data: bytes) -> None:
        for message in self._unpacker.feed(data):
            self.accepted += 1
            self.wrong += message not in self._sent

    def cut(self) -> None:
        self._unpacker.restart()


def _lsl() -> Target:
    """EDA at 16 Hz and BVP at 64 Hz as two streams, in chunks of a second, and offsets of their clocks: 20 minutes."""
    random = np.random.default_rng(5)
    streams = (
        Stream("EDA", "EDA", 16.0, (Channel("", "", "uS"),)),
        Stream("BVP", "BVP", 64.0, (Channel("nSeq"), Channel("BVP"))),
    )
    described = Described("fuzzed", "1", "lab", streams)
    messages: list[Message] = []
    for second in range(_SECONDS):
        messages += [Offset(index, 5.0 + second * 1e-6) for index in range(2)] if second % 5 == 0 else []
        for index, stream in enumerate(streams):
            count = int(stream.rate_hz)
            stamps_s = 1000.0 + second + np.arange(count) / stream.rate_hz
            values = random.normal(size=(count, len(stream.channels))).astype("<f4")
            messages.append(Chunk(index, stamps_s.tobytes(), values.tobytes(), "<f4"))
    sent = frozenset([described, *messages])
    wire = b"".join(map(pack_message, messages))
    return Target("lsl", "CRC-32", {}, pack_message(described), wire, len(messages), lambda: _StreamsWitness(sent))


def _keys(*columns: npt.NDArray[Any]) -> _Keys:
    """One number for each row: 16 bits of every column, 24 of the last one."""
    keys: _Keys = columns[-1].astype(np.uint64) & np.uint64(0xFFFFFF)
    for column in columns[:-1]:
        keys = keys << np.uint64(16) | column.astype(np.uint64)
    return keys


def _strangers(keys: _Keys, sent: _Keys) -> int:
    """How many of `keys` are not in `sent`, which ascends."""
    at = np.minimum(np.searchsorted(sent, keys), sent.size - 1)
    return int(np.count_nonzero(sent[at] != keys))


TARGETS: Mapping[str, Callable[[], Target]] = {
    "edgeframe": _edgeframe,
    "bitalino": _bitalino,
    "shimmer3": _shimmer,
    "lines": _lines,
    "lsl": _lsl,
}
