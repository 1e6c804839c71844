"""Finding frames of one length in a stream that marks none: shared by BITalino and Shimmer3.

A frame is told by its own check (`_sound`) and by its count or time following on that of the frame before (`_follows`).
The decoder locks on three frames in a row for which both hold; from there it takes frames one by one, and whatever
does not follow on makes it lock anew, a byte at a time:

    before   the rest of a frame, text: skipped up to the lock
    inside   a flipped bit costs its frame; a lost or added byte that frame and, at worst, the two around it
    after    up to two frames after a damaged stretch wait for a third that proves them
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

Octets = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]
BlockT = TypeVar("BlockT")
UnsignedT = TypeVar("UnsignedT", np.uint8, np.uint16)

LOCK_FRAMES = 3
# Frames looked at in one go: few after a fault, so that a noisy line does not cost every look a long block.
_LEAST_BLOCK, _MOST_BLOCK = 32, 4096


@dataclass(slots=True)
class FixedFrameCounters:
    """Totals of a decoder. frames: sound ones. lost: by count or time, those that were damaged among them.

    crc_errors: stretches of a frame's length, after the first lock, that held no frame. repeated: frames that came
    twice. out_of_order: sound ones that were left out, as their time runs backwards. skipped_bytes: bytes in no frame,
    those before the first lock included.
    """

    frames: int = 0
    crc_errors: int = 0
    lost: int = 0
    repeated: int = 0
    out_of_order: int = 0
    skipped_bytes: int = 0


class FixedFrameDecoder(ABC, Generic[BlockT]):
    """Bytes in, in pieces of any size; blocks of sound frames out. Never raises; holds less than three frames."""

    def __init__(self, size: int) -> None:
        self.counters = FixedFrameCounters()
        self._size = size
        self._pending: Octets
        self._last: Octets | None
        self._last_place: int
        self._locked: bool
        self._fresh: bool
        self._skipped: int
        self._count: int
        self.restart()

    def restart(self) -> None:
        """Forget the line: the device was started anew. Counters stay."""
        self._pending = np.empty(0, np.uint8)
        self._last, self._last_place = None, 0
        self._locked = self._fresh = False
        self._skipped, self._count = 0, _LEAST_BLOCK

    def feed(self, data: bytes) -> list[BlockT]:
        """The frames that `data` completes."""
        buffer = np.concatenate((self._pending, np.frombuffer(data, np.uint8)))
        blocks: list[BlockT] = []
        at, count = 0, self._count
        while True:
            if not self._locked:
                skipped, found = self._find(buffer[at:], count)
                self._skip(skipped)
                at += skipped
                if not found:
                    if buffer.size - at < LOCK_FRAMES * self._size:
                        break
                    count = min(2 * count, _MOST_BLOCK)
                    continue
                self._locked = self._fresh = True
                self._skipped, count = 0, _LEAST_BLOCK
            there = min((buffer.size - at) // self._size, count)
            if not there:
                break
            taken = self._take(buffer[at : at + there * self._size].reshape(there, self._size), blocks)
            at += taken * self._size
            count = min(2 * count, _MOST_BLOCK)
        self._pending, self._count = buffer[at:].copy(), count
        return blocks

    @abstractmethod
    def _sound(self, frames: Octets) -> Flags:
        """[n]: which of the frames [n, size] pass their own check."""

    @abstractmethod
    def _places(self, frames: Octets) -> Places:
        """[n]: count or time of each of the frames [n, size], as it stands there."""

    @abstractmethod
    def _follows(self, steps: Places) -> Flags:
        """Which differences of two places are those of neighbours. Counts and times wrap."""

    @abstractmethod
    def _block(self, frames: Octets, places: Places, step: int | None) -> BlockT | None:
        """What sound frames hold; None where none is later than what came before.

        step: from the place before the first one; None where there is none before.
        """

    def _find(self, buffer: Octets, count: int) -> tuple[int, bool]:
        """Bytes before three frames in a row, and True; else how many begin none. Looks at `count` frames' length."""
        size = self._size
        offsets = min(buffer.size - LOCK_FRAMES * size + 1, count * size)
        if offsets <= 0:
            return 0, False
        span = buffer[: offsets + LOCK_FRAMES * size - 1]
        frames = np.lib.stride_tricks.sliding_window_view(span, size)
        sound, places = self._sound(frames), self._places(frames)
        fits = sound[:offsets].copy()
        for k in range(1, LOCK_FRAMES):
            fits &= sound[k * size :][:offsets]
            fits &= self._follows(places[k * size :][:offsets] - places[(k - 1) * size :][:offsets])
        first = int(fits.argmax())
        return (first, True) if fits[first] else (offsets, False)

    def _skip(self, count: int) -> None:
        self.counters.skipped_bytes += count
        if self._last is not None:
            before = -(-self._skipped // self._size)
            self._skipped += count
            self.counters.crc_errors += -(-self._skipped // self._size) - before

    def _take(self, frames: Octets, blocks: list[BlockT]) -> int:
        """Take the frames [n, size] that follow on; how many were used up. The first that does not loses the lock."""
        places = self._places(frames)
        follows = self._follows(np.diff(places, prepend=self._last_place))
        # The first one after a lock follows on nothing: the lock has proved it.
        follows[0] |= self._fresh
        good = self._sound(frames) & follows
        count = int(good.argmin()) if not good.all() else len(frames)
        if count:
            step = None if self._last is None else int(places[0]) - self._last_place
            if (block := self._block(frames[:count], places[:count], step)) is not None:
                blocks.append(block)
            self._last, self._last_place = frames[count - 1].copy(), int(places[count - 1])
            self._fresh = False
            self.counters.frames += count
        if count == len(frames):
            return count
        if self._last is not None and np.array_equal(frames[count], self._last):
            self.counters.repeated += 1
            return count + 1
        self._locked = False
        return count


def xor_of(tables: npt.NDArray[UnsignedT], frames: Octets) -> npt.NDArray[UnsignedT]:
    """[n]: what every byte of frames [n, size] has in its place's table [size, 256], xor-ed: a CRC of one length."""
    result: npt.NDArray[UnsignedT] = tables[0][frames[:, 0]]
    for k in range(1, len(tables)):
        result ^= tables[k][frames[:, k]]
    return result
