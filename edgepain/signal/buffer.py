"""A one-dimensional array that grows at the end and forgets at the front in amortised constant time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class GrowingArray:
    """Append at the end, drop from the front, look at the whole as one contiguous view."""

    def __init__(self, dtype: npt.DTypeLike, capacity: int = 256) -> None:
        self._data = np.empty(capacity, dtype)
        self._begin = 0
        self._end = 0

    def __len__(self) -> int:
        return self._end - self._begin

    @property
    def view(self) -> npt.NDArray[Any]:
        """The current content [n]; valid until the next `append`."""
        return self._data[self._begin : self._end]

    def append(self, values: npt.ArrayLike) -> None:
        """Add values [k] at the end."""
        new = np.asarray(values, self._data.dtype)
        if self._end + new.size > self._data.size:
            kept = self.view
            size = max(2 * (kept.size + new.size), 256)
            data = np.empty(size, self._data.dtype)
            data[: kept.size] = kept
            self._data, self._begin, self._end = data, 0, kept.size
        self._data[self._end : self._end + new.size] = new
        self._end += new.size

    def drop(self, count: int) -> None:
        """Forget the first `count` values (all of them if there are fewer)."""
        self._begin = min(self._begin + max(count, 0), self._end)
