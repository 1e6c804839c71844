"""Decisions and clean signals as streams of the Lab Streaming Layer.

Stamps are the times at which things were measured, on LSL's clock of this machine: as the device's clock tells (see
`Source.host_s`), or, before that is known, as the earliest arrivals do.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from edgepain.lsl import load_lsl, monotonic_offset_s
from edgepain.runtime.decision import Decision
from edgepain.runtime.lsl_scope import outlet
from edgepain.runtime.session import OutputTotals, Summary
from edgepain.signal import DeviceInfo, LinkChange, Marker, Modality, Samples
from edgepain.signal.grid import GridSignal
from edgepain.signal.offset import SteadyOffset

# The words of XDF's recommendations for metadata.
_UNITS = {"uS": "microsiemens", "mV": "millivolts", "a.u.": "arbitrary", "uV": "microvolts", "%": "percent"}
DECISION_COLUMNS = ("decision", "abstain", "json")


class LslOut:
    """An output of a session; see `Output`. All streams are there from the start.

    name: what their names begin with. labels: of the bundle. period_s: of the grid that windows have. everywhere:
    whether other machines may see the streams. host_s: of the source, see `Source`.

    Streams: `NAME-decisions` (texts: label, why there is none, the whole decision as JSON), `NAME-probabilities`
    (float32, a column a label, NaN where there is no decision), both stamped with the end of their window; and for each
    modality `NAME-eda` and so on: float32 on the grid, NaN where there is no signal of skin.

    Raises MissingExtraError, ConfigError where the streams cannot be kept on this machine.
    """

    name = "lsl"

    def __init__(
        self,
        name: str,
        labels: Sequence[str],
        modalities: Sequence[Modality],
        period_s: float,
        host_s: Callable[[float], float | None],
        *,
        everywhere: bool = False,
    ) -> None:
        self._lsl = lsl = load_lsl()
        self._labels = labels
        self._period_s = period_s
        self._host_s = host_s
        self._to_lsl_s = -monotonic_offset_s()
        self._earliest_s = float("inf")
        self._offset = SteadyOffset()
        self._sent = 0
        irregular = lsl.IRREGULAR_RATE
        self._decisions = outlet(
            _info(name, "decisions", "Markers", [(c, "", "") for c in DECISION_COLUMNS], irregular, lsl.cf_string),
            everywhere,
        )
        self._probabilities = outlet(
            _info(name, "probabilities", "Probabilities", [(label, "", "") for label in labels], irregular),
            everywhere,
        )
        self._signals = {
            m: (GridSignal(m, period_s), outlet(_signal_info(name, m, 1.0 / period_s), everywhere)) for m in modalities
        }

    def samples(self, samples: Samples) -> None:
        """Publish the points that these samples complete."""
        if samples.modality not in self._signals or not samples.times_s.size:
            return
        latest_s = float(samples.times_s[-1])
        self._earliest_s = min(self._earliest_s, samples.arrival_s - latest_s)
        grid, stream = self._signals[samples.modality]
        values = np.full_like(samples.values, np.nan) if samples.lead_off else samples.values
        first, points = grid.push(samples.times_s, values, samples.rate_hz)
        if points.size:
            stamps_s = np.arange(first, first + points.size) * self._period_s + self._offset_s(latest_s)
            stream.push_chunk(points[:, np.newaxis], stamps_s.tolist())
            self._sent += points.size

    def decision(self, decision: Decision) -> None:
        """Publish a decision, or why there is none."""
        text = msgspec.json.encode(decision).decode()
        stamp_s = decision.end_s + self._offset_s(decision.end_s)
        shares = decision.probabilities or dict.fromkeys(self._labels, float("nan"))
        self._decisions.push_sample([decision.label or "", str(decision.abstain or ""), text], stamp_s)
        self._probabilities.push_sample([shares[label] for label in self._labels], stamp_s)
        self._sent += 2

    def device(self, device: DeviceInfo) -> None:
        """Nothing."""

    def link(self, change: LinkChange) -> None:
        """Nothing."""

    def marker(self, marker: Marker) -> None:
        """Nothing: whoever records LSL has its own."""

    def summary(self, summary: Summary) -> None:
        """Nothing."""

    def pulse(self) -> None:
        """Nothing waits."""

    def finish(self) -> OutputTotals:
        """What was published, whether anybody read it or not."""
        return OutputTotals(self._sent, 0, 0)

    def close(self) -> None:
        """End the streams."""
        self._signals.clear()
        self._decisions = self._probabilities = None

    def _offset_s(self, device_s: float) -> float:
        """From session time to LSL's clock."""
        host_s = self._host_s(device_s)
        measured_s = host_s - device_s if host_s is not None else self._earliest_s
        if not np.isfinite(measured_s):
            measured_s = time.monotonic() - device_s
        return self._offset.follow(measured_s, device_s) + self._to_lsl_s


def _signal_info(name: str, modality: Modality, rate_hz: float) -> Any:
    kind = str(modality).upper()
    return _info(name, str(modality), kind, [(str(modality), kind, _UNITS[modality.unit])], rate_hz)


def _info(
    name: str, part: str, kind: str, channels: Sequence[tuple[str, str, str]], rate_hz: float, form: int | None = None
) -> Any:
    """Description of a stream; each channel has label, type and unit."""
    lsl = load_lsl()
    source = f"edgepain {socket.gethostname()} {name} {part}"
    info = lsl.StreamInfo(f"{name}-{part}", kind, len(channels), rate_hz, form or lsl.cf_float32, source)
    described = info.desc().append_child("channels")
    for label, type_, unit in channels:
        channel = described.append_child("channel")
        channel.append_child_value("label", label)
        channel.append_child_value("type", type_)
        channel.append_child_value("unit", unit)
    info.desc().append_child_value("manufacturer", "edgepain")
    return info
