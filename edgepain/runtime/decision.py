"""One decision: what the network says of one window, how far that can be trusted, or why it says nothing."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from enum import Enum

import msgspec


class Abstention(str, Enum):
    """Why there is no decision on a window."""

    CALIBRATING = "calibrating"
    NO_DATA = "no_data"
    GAPS = "gaps"
    NO_CONTACT = "no_contact"
    FLAT = "flat"
    OUT_OF_RANGE = "out_of_range"

    def __str__(self) -> str:
        return self.value


class SignalState(msgspec.Struct, frozen=True):
    """One modality in one window.

    quality: ok, gaps, no_contact or flat. valid_fraction: share of the window backed by real samples.
    gap_s: seconds of the window that are not.
    history_s: seconds of valid signal that the scaling rests on. flags: what the device said of samples in
    the window (overrun, lead_off, clipped, range_changed).
    """

    quality: str
    valid_fraction: float
    gap_s: float
    history_s: float
    flags: tuple[str, ...] = ()


class Decision(msgspec.Struct, frozen=True, tag_field="type", tag="decision"):
    """What is said of the window from start_s to end_s (session time, the device's clock).

    host_time: UTC. label and probabilities are None where `abstain` says why there is none; `reason` is for a person.
    latency_ms: from the arrival of the window's last sample to this decision. inference_ms: the engine alone.
    frames_lost: on the wire since the decision before. sensor_latency_ms: from the moment that sample was taken, by the
    device's clock as the host knows it (`Source.host_s`): with what it waited on its way, and without the delay that
    every sample has on it. Latencies are None in a replay. without: modalities that the label does not rest on, because
    their signal cannot be used in this window (`signals` and `reason` say why), for a network that can do without.
    """

    index: int
    start_s: float
    end_s: float
    host_time: str
    label: str | None
    probabilities: dict[str, float] | None
    abstain: Abstention | None
    reason: str
    signals: dict[str, SignalState]
    latency_ms: float | None
    inference_ms: float | None
    frames_lost: int
    sensor_latency_ms: float | None = None
    without: tuple[str, ...] = ()


def utc(ago_s: float = 0.0) -> str:
    """The wall clock `ago_s` ago, in UTC, as ISO 8601 with milliseconds."""
    return datetime.fromtimestamp(time.time() - ago_s, timezone.utc).isoformat(timespec="milliseconds")
