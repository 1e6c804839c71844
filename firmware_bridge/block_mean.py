"""Averaging a fast channel down, over gaps and pieces of any size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt


class BlockMean:
    """Means of `size` samples at a time, numbered by sample number // size.

    A block that a gap has bitten is the mean of what is there of it.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._block = -1
        self._sum = 0.0
        self._count = 0

    def push(self, first: int, values: npt.NDArray[np.float64]) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
        """Add consecutive samples, number `first` being the first; (number, means) of the blocks that are over.

        Numbers must increase from call to call.
        """
        if self._count and self._block != first // self.size:
            yield self._block, np.array([self._sum / self._count])
            self._count = 0
        begin, end = first // self.size, (first + values.size - 1) // self.size
        starts = np.maximum(np.arange(begin, end + 1) * self.size - first, 0)
        sums = np.add.reduceat(values, starts)
        counts = np.diff(starts, append=values.size)
        if self._count:
            sums[0] += self._sum
            counts[0] += self._count
        done = sums.size if (first + values.size) % self.size == 0 else sums.size - 1
        if done:
            yield begin, sums[:done] / counts[:done]
        self._block, self._sum, self._count = end, 0.0, 0
        if done < sums.size:
            self._sum, self._count = float(sums[-1]), int(counts[-1])
