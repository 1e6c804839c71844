"""The driver of a Shimmer3 GSR+: sets it up, starts it, and turns its packets into units.

It says at what rate and which channels it measures in its answer to the inquiry; packets before that are of an
earlier session and are not read.
"""

from __future__ import annotations

import re
from itertools import permutations
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from edgepain.firmware_bridge.assembler import RESTART_GAP_S
from edgepain.firmware_bridge.clock import DeviceClock
from edgepain.firmware_bridge.driver import DeviceKind, DriverOptions
from edgepain.firmware_bridge.fixed_frames import LOCK_FRAMES, Flags
from edgepain.firmware_bridge.shimmer import (
    CLOCK_HZ,
    CRC_ON,
    FIRMWARE_QUESTION,
    GSR,
    INQUIRY,
    INT_A12,
    INT_A13,
    POWER_ON,
    REFUSED,
    START,
    STOP,
    Packets,
    ShimmerDecoder,
    range_command,
    rate_command,
    sensors_command,
)
from edgepain.signal import DeviceInfo, LinkStats, Modality, Samples, StreamInfo

STOP_S = 0.5
ANSWER_S = 1.0
SILENCE_S = 2.0
# After an automatic change of range the firmware repeats the old sample for so long.
RANGE_CHANGE_S = 0.08
# ADC values below it say nothing in the highest range.
LEAST_OF_RANGE_3 = 683
_TAIL = 64
_FIRMWARE = re.compile(rb"\xff\x2f..(..)(.)(.)", re.DOTALL)
_PPG_CHANNELS = {"A13": INT_A13, "A12": INT_A12}

_Positive = Annotated[float, msgspec.Meta(gt=0, lt=1e9)]


class ShimmerOptions(DriverOptions, frozen=True):
    """rate_hz: the nearest that divides 32768. gsr_range: 0 to 3, 4 for automatic. ppg: its pin, or none.

    crc: firmware before 0.13.7 has none. rf0_kohm … rf3_kohm: feedback resistor of each range. adc_v: full scale.
    """

    rate_hz: Annotated[float, msgspec.Meta(ge=1, le=2048)] = 128.0
    gsr_range: Literal[0, 1, 2, 3, 4] = 4
    ppg: Literal["A13", "A12", "none"] = "A13"
    crc: bool = True
    adc_v: _Positive = 3.0
    rf0_kohm: _Positive = 40.2
    rf1_kohm: _Positive = 287.0
    rf2_kohm: _Positive = 1000.0
    rf3_kohm: _Positive = 3300.0

    @property
    def divider(self) -> int:
        """Ticks of the device's clock between two packets."""
        return round(CLOCK_HZ / self.rate_hz)

    @property
    def channels(self) -> tuple[int, ...]:
        """Ids that are asked for, GSR first. The device answers in an order of its own."""
        return (GSR,) if self.ppg == "none" else (GSR, _PPG_CHANNELS[self.ppg])


def eda_us(raw: npt.NDArray[np.uint16], options: ShimmerOptions) -> npt.NDArray[np.float64]:
    """EDA in µS of GSR values: range in bits 15:14, ADC in 11:0. In the highest range ADC below 683 says nothing."""
    counts, ranges = (raw & 0xFFF).astype(np.float64), raw >> 14
    volts = np.where(ranges == 3, np.maximum(counts, LEAST_OF_RANGE_3), counts) * options.adc_v / 4095
    resistors = np.array([options.rf0_kohm, options.rf1_kohm, options.rf2_kohm, options.rf3_kohm])
    values: npt.NDArray[np.float64] = 1000.0 * (volts / 0.5 - 1.0) / resistors[ranges]
    return values


def ppg_mv(raw: npt.NDArray[np.uint16], options: ShimmerOptions) -> npt.NDArray[np.float64]:
    """PPG in mV at the ADC."""
    values: npt.NDArray[np.float64] = (raw & 0xFFF) * options.adc_v * 1000.0 / 4095
    return values


def _at_an_end(raw: npt.NDArray[np.uint16], modality: Modality) -> Flags:
    """Which raw values are at an end of the ADC, or of what a range can tell."""
    counts = raw & 0xFFF
    ends: Flags = (counts == 0) | (counts == 0xFFF)
    if modality is Modality.EDA:
        ends |= (raw >> 14 == 3) & (counts < LEAST_OF_RANGE_3)
    return ends


class ShimmerDriver:
    """One Shimmer3 GSR+; see `Driver`."""

    def __init__(self, options: ShimmerOptions) -> None:
        self.clock = DeviceClock()
        self._options = options
        self._channels = options.channels
        self._order = self._channels
        self._answer = _inquiry_answer(options)
        self._script = [STOP, FIRMWARE_QUESTION, rate_command(options.divider), sensors_command(self._channels)]
        self._script += [range_command(options.gsr_range), POWER_ON, *([CRC_ON] if options.crc else []), INQUIRY, START]
        self._decoder = ShimmerDecoder(len(self._channels), options.divider, options.crc)
        self._introduced = False
        self._firmware = ""
        self._tail = b""
        self._bytes_read = self._bytes_unframed = 0
        self._starts = 0
        self._zero: int | None = None
        self._base_s = self._end_s = self._arrival_s = 0.0
        self._range: int | None = None
        self._range_until = self._range_switches = self._clipped = 0
        self._step, self._acknowledged = 0, False
        self._crc_refused = False
        self._next_s = self._deadline_s = float("-inf")

    @property
    def introduced(self) -> bool:
        """Whether it has answered the inquiry since the line was opened."""
        return self._introduced

    @property
    def frames(self) -> int:
        """Sound packets so far."""
        return self._decoder.counters.frames

    def feed(self, data: bytes, arrival_s: float) -> list[DeviceInfo | Samples]:
        """What `data`, read at `arrival_s`, completes. Nothing before the device has said what it measures."""
        self._bytes_read += len(data)
        self._acknowledged |= b"\xff" in data
        self._crc_refused |= REFUSED in data and self._asked == CRC_ON
        self._tail += data
        for told in list(_FIRMWARE.finditer(self._tail))[-1:]:
            self._firmware = f"{int.from_bytes(told[1], 'little')}.{told[2][0]}.{told[3][0]}"
        events: list[DeviceInfo | Samples] = []
        for answer in list(self._answer.finditer(self._tail))[-1:]:
            self._order = tuple(answer[1])
            events.append(self._introduce(arrival_s))
            data = self._tail[answer.end() :]
            self._tail = data
        self._tail = self._tail[-_TAIL:]
        before = self.frames
        blocks = self._decoder.feed(data) if self._introduced else []
        for block in blocks:
            events += self._block(block, arrival_s)
        self._bytes_unframed = 0 if self.frames > before else self._bytes_unframed + len(data)
        if blocks:
            self._arrival_s = arrival_s
            self._deadline_s = arrival_s + self._patience_s
            self.clock.update(self._end_s, arrival_s)
        return events

    def cut(self) -> None:
        """The line was cut: the device has to be set up again."""
        self._introduced = self._crc_refused = False
        self._tail = b""
        self._bytes_unframed = 0
        self._step, self._next_s = 0, float("-inf")

    def request(self, now_s: float) -> bytes:
        """One command, when the last one was acknowledged; from the beginning where that took a second.

        A device that falls silent is set up anew.
        """
        if self._step == len(self._script):
            if now_s < self._deadline_s:
                return b""
            self._step = 0
        # What acknowledges the stop cannot be told from data that was under way.
        elif now_s < self._next_s and not (self._acknowledged and self._step > 1):
            return b""
        elif self._step > 1 and not self._acknowledged:
            self._crc_refused = self._asked == CRC_ON
            self._step = 0
        command = self._script[self._step]
        self._step += 1
        self._acknowledged = False
        self._next_s = now_s + (STOP_S if self._step == 1 else ANSWER_S)
        self._deadline_s = now_s + self._patience_s
        return command

    def deaf(self) -> None:
        """Commands that were not taken are begun again in a while."""
        self._step = 0

    def farewell(self) -> bytes:
        """Stop."""
        return STOP

    def complaint(self) -> str:
        """Why bytes arrive and nothing comes of them."""
        if self._crc_refused:
            return (
                f"firmware {self._firmware or 'unknown'} did not take the command for CRC, as none before 0.13.7 does: "
                "try --device-option crc=false"
            )
        if not self._introduced and self._bytes_unframed:
            return (
                f"{self._bytes_unframed} bytes arrive but no answer to an inquiry: not a Shimmer3, or not set as asked"
            )
        if self._bytes_unframed > LOCK_FRAMES * _TAIL:
            return (
                f"{self._bytes_unframed} bytes arrive but no valid packet: try --device-option crc=false (old firmware)"
            )
        return ""

    def stats(self, reconnects: int) -> LinkStats:
        """Totals so far."""
        wire = self._decoder.counters
        return LinkStats(
            bytes_read=self._bytes_read,
            frames=wire.frames,
            frames_lost=wire.lost,
            crc_errors=wire.crc_errors,
            repeated=wire.repeated,
            reconnects=reconnects,
            restarts=max(self._starts - 1, 0),
            out_of_order=wire.out_of_order,
            clipped=self._clipped,
            range_switches=self._range_switches,
        )

    @property
    def _asked(self) -> bytes:
        """The last command sent; what the script ends with where it is about to begin."""
        return self._script[self._step - 1]

    @property
    def _patience_s(self) -> float:
        return SILENCE_S + (LOCK_FRAMES + 1) * self._options.divider / CLOCK_HZ

    def _introduce(self, arrival_s: float) -> DeviceInfo:
        if self._zero is not None:
            self._base_s = self._end_s + max(arrival_s - self._arrival_s, RESTART_GAP_S)
        self._introduced, self._crc_refused = True, False
        self._starts += 1
        self._decoder.restart()
        self._zero, self._range, self._range_until = None, None, 0
        self.clock.reset()
        rate_hz = CLOCK_HZ / self._options.divider
        modalities = (Modality.EDA, Modality.BVP)[: len(self._channels)]
        streams = tuple(StreamInfo(modality, modality.unit, rate_hz) for modality in modalities)
        return DeviceInfo("Shimmer3 GSR+", self._firmware, self._starts, streams)

    def _block(self, block: Packets, arrival_s: float) -> list[Samples]:
        if self._zero is None:
            self._zero = int(block.ticks[0])
        times_s = self._base_s + (block.ticks - self._zero) / CLOCK_HZ
        rate_hz = CLOCK_HZ / self._options.divider
        self._end_s = float(times_s[-1]) + 1 / rate_hz
        columns = {channel: block.raw[:, place] for place, channel in enumerate(self._order)}
        gsr = columns.pop(GSR)
        measured = [(Modality.EDA, gsr, eda_us(gsr, self._options))]
        measured += [(Modality.BVP, ppg, ppg_mv(ppg, self._options)) for ppg in columns.values()]
        changed = self._range_changed(block.ticks, gsr)
        clipped = [_at_an_end(raw, modality) for modality, raw, _ in measured]
        self._clipped += int(np.any(clipped, axis=0).sum())
        return [
            Samples(
                modality,
                times_s,
                values.astype(np.float32),
                rate_hz,
                arrival_s,
                clipped=bool(ends.any()),
                range_changed=changed and modality is Modality.EDA,
            )
            for (modality, _, values), ends in zip(measured, clipped, strict=True)
        ]

    def _range_changed(self, ticks: npt.NDArray[np.int64], gsr: npt.NDArray[np.uint16]) -> bool:
        """Whether any of the samples `gsr` at `ticks` was taken within 80 ms of a change of range."""
        ranges = (gsr >> 14).astype(np.int64)
        before = int(ranges[0]) if self._range is None else self._range
        self._range = int(ranges[-1])
        changes = np.flatnonzero(np.diff(ranges, prepend=before))
        self._range_switches += changes.size
        still = bool(ticks[0] < self._range_until)
        if changes.size:
            self._range_until = int(ticks[changes[-1]]) + round(RANGE_CHANGE_S * CLOCK_HZ)
        return still or changes.size > 0


def _inquiry_answer(options: ShimmerOptions) -> re.Pattern[bytes]:
    """FF 02 div cfg[4] n buf ch[n], all as asked for; group 1: the ids, in any order."""
    count = re.escape(bytes([len(options.channels)]))
    orders = b"|".join(re.escape(bytes(order)) for order in permutations(options.channels))
    divider = re.escape(options.divider.to_bytes(2, "little"))
    return re.compile(b"\xff\x02" + divider + b".{4}" + count + b".(" + orders + b")", re.DOTALL)


KIND = DeviceKind(
    name="shimmer3",
    summary="Shimmer3 GSR+ with LogAndStream firmware, over Bluetooth (rfcomm)",
    signals="eda in uS; bvp in a.u. (mV at the ADC) where a PPG probe is plugged in",
    rates="32768 Hz divided by a whole number; the same for both",
    wiring="GSR electrodes on the middle phalanges of two fingers; PPG probe in the expansion jack (A13)",
    baud=115_200,
    options=ShimmerOptions,
    open=ShimmerDriver,
)
