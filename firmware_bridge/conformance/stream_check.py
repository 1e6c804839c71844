"""The rules of DATA, for one stream of one boot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgepain.firmware_bridge.conformance.blocks import Block
from edgepain.firmware_bridge.conformance.findings import Ledger
from edgepain.firmware_bridge.edgeframe import MAX_PAYLOAD, Flags, Frame
from edgepain.firmware_bridge.hello import MISSING_I2, StreamHello
from edgepain.signal import Modality

KNOWN_FLAGS = int(Flags.OVERRUN | Flags.LEAD_OFF | Flags.CLIPPED | Flags.RANGE_CHANGED)
# How far t_us may be from where n samples put it: half a sample, or what a busy loop is late by.
MAX_STEP_ERROR_S = 0.002
MAX_RATE_ERROR = 1e-3
MIN_FRAME_S, MAX_FRAME_S = 0.04, 0.1
_CONSTANT_S = 2.0
_I2_LIMIT = 32767


@dataclass(slots=True)
class _Values:
    """Of all samples so far: how many, how many missing, and the range of the others."""

    count: int = 0
    missing: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    lead_off: bool = False


class StreamCheck:
    """Judges the DATA frames of one stream, in order.

    lost: frames missing by `seq` since the start of the check; first_gap: those of them before the second frame.
    """

    def __init__(self, index: int, hello: StreamHello, ledger: Ledger) -> None:
        self.hello = hello
        self.lost = 0
        self.frames = 0
        self._name = f"stream {index} ({hello.name})"
        self._ledger = ledger
        self._last: Frame | None = None
        self._steps = 0
        self._device_s = self._sampled_s = 0.0
        self._values = _Values()

    def take(self, block: Block, frame: Frame, damaged: bool) -> bool:
        """One frame; damaged: blocks were thrown away since the stream's last one. Whether its time can be believed."""
        self.frames += 1
        self._flags(block, frame)
        if not self._size(block, frame):
            return False
        self._length(block, frame)
        self._inspect(block, frame)
        believed = self._last is None or self._follows(block, self._last, frame, damaged)
        self._last = frame
        return believed

    def conclude(self) -> None:
        """What can only be said at the end: the rate, and the values as a whole."""
        if self._steps:
            self._rate()
        if self._values.count:
            self._values_as_a_whole()

    def _flags(self, block: Block, frame: Frame) -> None:
        if frame.flags & ~KNOWN_FLAGS:
            self._ledger.failed("flags", f"{self._name}: flags {frame.flags:#04x}", block.raw)
        else:
            self._ledger.passed("flags")

    def _size(self, block: Block, frame: Frame) -> bool:
        size = self.hello.sample_size
        if frame.count == 0 or frame.count * size != len(frame.payload):
            seen = f"{self._name}: n is {frame.count}, and {len(frame.payload)} bytes of {self.hello.sample_type}"
            self._ledger.failed("data-size", seen, block.raw)
            return False
        self._ledger.passed("data-size")
        return True

    def _length(self, block: Block, frame: Frame) -> None:
        length_s = frame.count / self.hello.rate_hz
        full = frame.count == MAX_PAYLOAD // self.hello.sample_size
        # A step of 1e-9: 4 samples at 40 Hz are 100 ms, whatever binary fractions say.
        too_long = length_s > MAX_FRAME_S + 1e-9 and frame.count > 1
        too_short = length_s < MIN_FRAME_S - 1e-9 and not full
        if too_long or too_short:
            seen = f"{self._name}: n is {frame.count} at {self.hello.rate_hz:g} Hz, {1e3 * length_s:.4g} ms"
            self._ledger.failed("frame-length", seen, block.raw)
        else:
            self._ledger.passed("frame-length")

    def _follows(self, block: Block, last: Frame, frame: Frame, damaged: bool) -> bool:
        ahead = (frame.seq - last.seq - 1) & 0xFFFF
        step_us = (frame.t_us - last.t_us) & 0xFFFFFFFF
        if ahead >= 0x8000:
            seen = f"{self._name}: seq {frame.seq} after {last.seq}"
            self._ledger.failed("seq", seen, block.raw)
        else:
            self.lost += ahead
            self._ledger.passed("seq")
            self._overrun(block, last, frame, ahead, damaged)
        if step_us == 0 or step_us >= 0x80000000:
            self._ledger.failed("time-order", f"{self._name}: t_us {frame.t_us} after {last.t_us}", block.raw)
            return False
        self._ledger.passed("time-order")
        if ahead == 0:
            self._step(block, last, step_us * 1e-6)
        return ahead < 0x8000

    def _overrun(self, block: Block, last: Frame, frame: Frame, lost: int, damaged: bool) -> None:
        flagged = bool(frame.flags & Flags.OVERRUN)
        if lost and not flagged and not damaged:
            seen = f"{self._name}: {lost} frames lost between seq {last.seq} and {frame.seq}, and no overrun flag"
            self._ledger.failed("overrun", seen, block.raw)
        elif flagged and not lost:
            seen = f"{self._name}: overrun flag at seq {frame.seq}, and {last.seq} came before it"
            self._ledger.failed("overrun", seen, block.raw)
        elif lost and flagged:
            self._ledger.passed("overrun", f"{lost} frames dropped and flagged")

    def _step(self, block: Block, last: Frame, step_s: float) -> None:
        expected_s = last.count / self.hello.rate_hz
        self._steps += 1
        self._device_s += step_s
        self._sampled_s += expected_s
        if abs(step_s - expected_s) > self._slack_s:
            seen = (
                f"{self._name}: t_us went on by {1e3 * step_s:.6g} ms over {last.count} samples at "
                f"{self.hello.rate_hz:g} Hz, which are {1e3 * expected_s:.6g} ms"
            )
            self._ledger.failed("time-step", seen, block.raw)
        else:
            self._ledger.passed("time-step")

    @property
    def _slack_s(self) -> float:
        return max(0.5 / self.hello.rate_hz, MAX_STEP_ERROR_S)

    def _rate(self) -> None:
        """Over all steps together: much finer than any one of them."""
        measured_hz = self.hello.rate_hz * self._sampled_s / self._device_s
        seen = f"{self._name}: {measured_hz:.6g} Hz measured, {self.hello.rate_hz:g} said"
        if abs(self._device_s - self._sampled_s) > MAX_RATE_ERROR * self._sampled_s + self._slack_s:
            self._ledger.failed("rate", seen)
        else:
            self._ledger.also_passed("rate", seen)

    def _inspect(self, block: Block, frame: Frame) -> None:
        raw = np.frombuffer(frame.payload, "<i2" if self.hello.sample_type == "i2" else "<f4")
        missing = raw == MISSING_I2 if self.hello.sample_type == "i2" else np.isnan(raw)
        there = raw[~missing].astype(np.float64)
        at_limit = np.abs(there) >= _I2_LIMIT if self.hello.sample_type == "i2" else np.isinf(there)
        if at_limit.any() and not frame.flags & Flags.CLIPPED:
            seen = f"{self._name}: {there[at_limit][0]:g} at seq {frame.seq}, and no clipped flag"
            self._ledger.failed("values", seen, block.raw)
        values = self._values
        values.count += raw.size
        values.missing += int(missing.sum())
        values.lead_off |= bool(frame.flags & Flags.LEAD_OFF)
        if there.size:
            values.low, values.high = min(values.low, float(there.min())), max(values.high, float(there.max()))

    def _values_as_a_whole(self) -> None:
        values = self._values
        if values.missing == values.count:
            self._ledger.failed("values", f"{self._name}: all {values.count} samples are marked as missing")
            return
        low, high = sorted(raw * self.hello.scale + self.hello.offset for raw in (values.low, values.high))
        seen = f"{self._name}: {low:.4g} to {high:.4g} {self.hello.unit}"
        if low == high and values.count > _CONSTANT_S * self.hello.rate_hz:
            self._ledger.noted("values", f"{self._name}: always {low:.4g} {self.hello.unit}; is the sensor connected?")
        elif self._out_of_contact(low, high) and not values.lead_off:
            self._ledger.noted("values", f"{seen}, which no skin gives, and no lead-off flag")
        elif values.missing > values.count / 2:
            self._ledger.noted("values", f"{self._name}: {values.missing} of {values.count} samples are missing")
        else:
            self._ledger.also_passed("values", seen)

    def _out_of_contact(self, low: float, high: float) -> bool:
        modality = self.hello.modality or Modality.BVP
        least, most = modality.contact_range
        return low < least or high > most
