"""What a dataset reader gives: signals with their units and rates, and the labelled stretches in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgepain.errors import DataError
from edgepain.signal.modality import Modality


@dataclass(frozen=True)
class Signal:
    """One regularly sampled channel.

    values: [n] float32, in `modality.unit` unless `unit` says otherwise; NaN marks a missing sample.
    rate_hz: samples per second. start_s: time of the first sample, seconds on the recording's clock.
    """

    modality: Modality
    values: npt.NDArray[np.float32]
    rate_hz: float
    start_s: float = 0.0
    unit: str = ""

    def __post_init__(self) -> None:
        if self.values.ndim != 1 or self.values.dtype != np.float32:
            raise DataError(
                f"{self.modality} values must be one-dimensional float32, got "
                f"{self.values.dtype}{list(self.values.shape)}"
            )
        if not (np.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise DataError(f"{self.modality} rate must be a positive number of Hz, got {self.rate_hz}")
        if not self.unit:
            object.__setattr__(self, "unit", self.modality.unit)

    @property
    def times_s(self) -> npt.NDArray[np.float64]:
        """Sample times [n], seconds on the recording's clock."""
        return self.start_s + np.arange(self.values.size) / self.rate_hz

    @property
    def duration_s(self) -> float:
        """Number of samples divided by the rate."""
        return self.values.size / self.rate_hz


@dataclass(frozen=True)
class Event:
    """A stretch of a recording in which one label holds. Times are on the recording's clock."""

    name: str
    label: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Recording:
    """Signals of one person recorded at once, with their labelled events.

    subject: id that splits group by. name: unique within the subject.
    signals: any number of modalities, of any rates and starts. events: labelled stretches; what lies
    outside them is unlabelled, but still counts as history for causal scaling.
    """

    subject: str
    name: str
    signals: Mapping[Modality, Signal]
    events: tuple[Event, ...] = field(default=())

    @property
    def duration_s(self) -> float:
        """Time from 0 to the end of the longest signal."""
        return max((s.start_s + s.duration_s for s in self.signals.values()), default=0.0)
