"""What must hold of everything that a driver gives, whatever it was fed with."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from edgepain.signal import DeviceInfo, Modality, Samples


class Inspector:
    """Looks at the events of one driver, in order."""

    def __init__(self) -> None:
        self._last_s: dict[Modality, float] = {}

    def inspect(self, events: Iterable[DeviceInfo | Samples]) -> None:
        """Raises ValueError for samples that are none, or of a time before those of an earlier event."""
        for event in events:
            if isinstance(event, Samples):
                self._samples(event)
            elif not isinstance(event, DeviceInfo):
                raise ValueError(f"{event!r} is neither samples nor a device")

    def _samples(self, samples: Samples) -> None:
        times_s, values = samples.times_s, samples.values
        sound = times_s.shape == values.shape and times_s.size and values.dtype == np.float32
        if not (sound and np.isfinite(times_s).all() and (np.diff(times_s) > 0).all()):
            raise ValueError(f"samples of {samples.modality} that are none: {samples!r:.200}")
        if times_s[0] <= self._last_s.get(samples.modality, -np.inf):
            raise ValueError(f"{samples.modality} goes back to {times_s[0]} s")
        self._last_s[samples.modality] = float(times_s[0])
