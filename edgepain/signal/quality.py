"""Whether a stretch of one signal can be trusted, in one verdict that training and live use share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from edgepain.signal.modality import Modality

MIN_VALID_FRACTION = 0.8


class QualityCode(str, Enum):
    """What is the matter with a signal, `ok` if nothing is."""

    OK = "ok"
    GAPS = "gaps"
    NO_CONTACT = "no_contact"
    FLAT = "flat"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Quality:
    """Verdict for one modality of one window. valid_fraction: share of points backed by real samples."""

    code: QualityCode
    valid_fraction: float

    @property
    def ok(self) -> bool:
        """True where a decision may rest on this signal."""
        return self.code is QualityCode.OK


def in_contact(modality: Modality, values: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """For each value whether it is finite and possible with the electrode on skin."""
    low, high = modality.contact_range
    with np.errstate(invalid="ignore"):
        contact: npt.NDArray[np.bool_] = np.isfinite(values) & (values >= low) & (values <= high)
    return contact


def assess(modality: Modality, values: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> Quality:
    """Judge one channel of a window: values [S] in the modality's unit, valid [S] False inside gaps."""
    valid_fraction = float(np.mean(valid)) if valid.size else 0.0
    if valid_fraction < MIN_VALID_FRACTION:
        return Quality(QualityCode.GAPS, valid_fraction)
    real = values[valid]
    if np.mean(in_contact(modality, real)) < MIN_VALID_FRACTION:
        return Quality(QualityCode.NO_CONTACT, valid_fraction)
    if real.min() == real.max():
        return Quality(QualityCode.FLAT, valid_fraction)
    return Quality(QualityCode.OK, valid_fraction)
