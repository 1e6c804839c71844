"""A few seconds of a wearable: what it is, how fast, what is lost, how evenly it comes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing

import numpy as np

from edgepain.doctor.check import Check, fails, not_checked, ok, warning
from edgepain.errors import EdgepainError
from edgepain.firmware_bridge import DeviceSource
from edgepain.signal import DeviceInfo, LinkChange, LinkState, LinkStats, Samples

PATIENCE_S = 10.0
# Of 5 s in pieces of up to 0.1 s, a rate is known to some percent.
_RATE_OFF = 0.05
_LATE_S = 0.5
_LOST = 0.001


def listen(port: str, device: str, options: Mapping[str, str], baud: int | None, seconds: float) -> Iterator[Check]:
    """Read `port` for so many seconds after its first sample, or 10 s without one."""
    try:
        source = DeviceSource(port, device=device, options=options, baud=baud)
    except EdgepainError as error:
        yield fails(f"{port}: device", str(error), "see above; then try again")
        return
    with closing(source):
        heard = _Heard(source)
        heard.wait(seconds)
        yield from heard.checks(port)


class _Heard:
    """What came."""

    def __init__(self, source: DeviceSource) -> None:
        self._source = source
        self._info: DeviceInfo | None = None
        self._samples: list[Samples] = []
        self._link: list[LinkChange] = []
        self._began_s = 0.0

    def wait(self, seconds: float) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            for event in self._source.recv(0.1):
                if isinstance(event, DeviceInfo):
                    self._info = event
                elif isinstance(event, Samples):
                    if not self._samples:
                        end_s = time.monotonic() + seconds
                    self._samples.append(event)
                elif isinstance(event, LinkChange):
                    self._link.append(event)

    def checks(self, port: str) -> Iterator[Check]:
        stats = self._source.stats()
        how = self._link[0].detail if self._link else port
        if self._info is None or not self._samples:
            detail = next(
                (change.detail for change in reversed(self._link) if change.state is not LinkState.CONNECTED), how
            )
            todo = "name the device with --device and its settings with --device-option (edgepain devices)"
            yield fails(f"{port}: device", f"no sample within {PATIENCE_S:g} s: {detail}", todo)
            return
        yield ok(f"{port}: device", f"{self._info.name}, firmware {self._info.firmware or 'unknown'} ({how})")
        for stream in self._info.streams:
            yield self._rate(port, stream.modality.value, stream.rate_hz)
        yield self._losses(port, stats)
        yield self._jitter(port)

    def _rate(self, port: str, modality: str, rate_hz: float) -> Check:
        """By arrivals: the samples after the first piece, in the time from that to the last."""
        name = f"{port}: {modality} rate"
        pieces = [each for each in self._samples if each.modality.value == modality]
        spans_s = pieces[-1].arrival_s - pieces[0].arrival_s if pieces else 0.0
        if spans_s <= 0:
            return warning(name, "too little came to tell", "look whether its sensor is plugged in")
        found_hz = sum(piece.values.size for piece in pieces[1:]) / spans_s
        found = f"{found_hz:.1f} Hz, of {rate_hz:g} Hz that it says"
        if abs(found_hz / rate_hz - 1) > _RATE_OFF + 1 / max(rate_hz * spans_s, 1):
            return warning(name, found, "the line or this machine is too slow for it, or its clock is off")
        return ok(name, found)

    def _losses(self, port: str, stats: LinkStats) -> Check:
        name = f"{port}: losses"
        least = "at least " if stats.lost_is_minimum else ""
        damaged = stats.crc_errors + stats.malformed
        found = f"{stats.frames} frames, {least}{stats.frames_lost} lost, {damaged} damaged"
        if stats.frames_lost + damaged > _LOST * stats.frames + 2:
            return warning(
                name, found, "a shorter cable, a nearer radio, a free USB port; see the other programs above"
            )
        return ok(name, found)

    def _jitter(self, port: str) -> Check:
        name = f"{port}: arrivals"
        arrivals_s = np.unique([each.arrival_s for each in self._samples])
        if arrivals_s.size < 3:
            return not_checked(name, "too little came to tell")
        p50, p99, most = np.percentile(np.diff(arrivals_s), (50, 99, 100)) * 1e3
        found = f"every {p50:.0f} ms, p99 {p99:.0f} ms, at most {most:.0f} ms apart"
        if most > _LATE_S * 1e3:
            return warning(name, found, "a radio that stalls, or a machine that is busy: decisions come so much later")
        return ok(name, found)
