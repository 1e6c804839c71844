"""The driver of a Shimmer3, GSR+ or ECG: sets it up, starts it, and turns its packets into units.

It says at what rate and which channels it measures in its answer to the inquiry; packets before that are of an
earlier session and are not read.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgepain.firmware_bridge.arrears import Arrears
from edgepain.firmware_bridge.assembler import RESTART_GAP_S
from edgepain.firmware_bridge.clock import DeviceClock
from edgepain.firmware_bridge.driver import DeviceKind
from edgepain.firmware_bridge.fixed_frames import LOCK_FRAMES
from edgepain.firmware_bridge.shimmer import CLOCK_HZ, GSR, STOP, Packets, ShimmerDecoder
from edgepain.firmware_bridge.shimmer_dialogue import TAIL, Inquired, ShimmerDialogue
from edgepain.firmware_bridge.shimmer_units import (
    DEFAULT_RATES_HZ,
    Raw,
    ShimmerOptions,
    at_an_end,
    ecg_step_mv,
    eda_us,
    ppg_mv,
)
from edgepain.signal import DeviceInfo, LinkStats, Modality, Samples, StreamInfo

# After an automatic change of range the firmware repeats the old sample for so long.
RANGE_CHANGE_S = 0.08
# Time of two bytes turns every 2 s.
_TURN = 1 << 16
_NAMES = {"gsr": "Shimmer3 GSR+", "exg": "Shimmer3 ECG"}


class ShimmerDriver:
    """One Shimmer3; see `Driver`."""

    def __init__(self, options: ShimmerOptions) -> None:
        self.clock = DeviceClock()
        self._options = options
        self._dialogue = ShimmerDialogue(options)
        self._unit = options.units[0]
        self._order = options.channels(self._unit)
        self._decoder = ShimmerDecoder(self._order, options.divider(self._unit), options.crc)
        self._introduced = False
        self._bytes_read = self._bytes_unframed = 0
        self._starts = 0
        self._zero: int | None = None
        self._base_s = self._end_s = self._arrival_s = 0.0
        self._last_tick = self._turned = self._lost_by_clock = 0
        self._arrears: Arrears | None = None
        self._waiting: list[tuple[Packets, float]] = []
        self._range: int | None = None
        self._range_until = self._range_switches = self._clipped = 0

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
        events: list[DeviceInfo | Samples] = []
        if inquired := self._dialogue.hear(data, self._introduced):
            events += [*self._release(0), self._introduce(inquired, arrival_s)]
            data = inquired.rest
        before = self.frames
        blocks = self._decoder.feed(data) if self._introduced else []
        self._bytes_unframed = 0 if self.frames > before else self._bytes_unframed + len(data)
        if blocks:
            events += self._take(blocks, arrival_s)
            self._arrival_s = arrival_s
            self._dialogue.data_came(arrival_s)
            if not self._waiting:
                self.clock.update(self._end_s, arrival_s)
        return events

    def cut(self) -> None:
        """The line was cut: the device has to be set up again."""
        self._introduced = False
        self._dialogue.cut()
        self._bytes_unframed = 0

    def request(self, now_s: float) -> bytes:
        """One command, when the last one was acknowledged; from the beginning where that took a second.

        A device that falls silent is set up anew.
        """
        return self._dialogue.request(now_s)

    def deaf(self) -> None:
        """Commands that were not taken are begun again in a while."""
        self._dialogue.deaf()

    def farewell(self) -> bytes:
        """Stop."""
        return STOP

    def complaint(self) -> str:
        """Why bytes arrive and nothing comes of them."""
        trouble = self._dialogue.complaint()
        if trouble and (self._dialogue.crc_refused or not self._introduced):
            return trouble
        if not self._introduced and self._bytes_unframed:
            return (
                f"{self._bytes_unframed} bytes arrive but no answer to an inquiry: not a Shimmer3, or not set as asked"
            )
        if self._bytes_unframed > LOCK_FRAMES * TAIL:
            return (
                f"{self._bytes_unframed} bytes arrive but no valid packet: try --device-option crc=false (old "
                "firmware), or time_bits=16 (before LogAndStream 0.6)"
            )
        return ""

    def stats(self, reconnects: int) -> LinkStats:
        """Totals so far. frames_lost: with time of 16 bits at least so many."""
        wire = self._decoder.counters
        return LinkStats(
            bytes_read=self._bytes_read,
            frames=wire.frames,
            frames_lost=wire.lost + self._lost_by_clock,
            crc_errors=wire.crc_errors,
            repeated=wire.repeated,
            reconnects=reconnects,
            restarts=max(self._starts - 1, 0),
            out_of_order=wire.out_of_order,
            clipped=self._clipped,
            range_switches=self._range_switches,
            lost_is_minimum=self._dialogue.time_bytes == 2,
        )

    @property
    def _divider(self) -> int:
        return self._options.divider(self._unit)

    def _introduce(self, inquired: Inquired, arrival_s: float) -> DeviceInfo:
        if self._zero is not None:
            self._base_s = self._end_s + max(arrival_s - self._arrival_s, RESTART_GAP_S)
        self._introduced = True
        self._starts += 1
        self._unit, self._order = inquired.unit, inquired.order
        counters = self._decoder.counters
        self._decoder = ShimmerDecoder(self._order, self._divider, self._options.crc, self._dialogue.time_bytes)
        self._decoder.counters = counters
        self._zero, self._range, self._range_until, self._turned = None, None, 0, 0
        self._arrears = Arrears(CLOCK_HZ, _TURN, self._divider) if self._dialogue.time_bytes == 2 else None
        self.clock.reset()
        rate_hz = CLOCK_HZ / self._divider
        measured = (Modality.ECG,) if self._unit == "exg" else (Modality.EDA, Modality.BVP)[: len(self._order)]
        streams = tuple(StreamInfo(modality, modality.unit, rate_hz) for modality in measured)
        return DeviceInfo(_NAMES[self._unit], self._dialogue.firmware, self._starts, streams)

    def _take(self, blocks: list[Packets], arrival_s: float) -> list[Samples]:
        """Samples of `blocks`, which wait while it is not known how often a clock of 16 bits turned before them."""
        missing = self._arrears.missing(int(blocks[-1].ticks[-1]), arrival_s) if self._arrears else 0
        self._waiting += [(block, arrival_s) for block in blocks]
        return [] if missing is None else self._release(missing)

    def _release(self, missing: int) -> list[Samples]:
        """What waited, after a silence that was `missing` ticks longer than times say."""
        waiting, self._waiting = self._waiting, []
        self._turned += missing
        self._lost_by_clock += missing // self._divider
        return [samples for block, arrival_s in waiting for samples in self._block(block, arrival_s)]

    def _block(self, block: Packets, arrival_s: float) -> list[Samples]:
        ticks = block.ticks + self._turned
        if self._zero is None:
            self._zero = int(ticks[0])
        self._last_tick = int(ticks[-1])
        times_s = self._base_s + (ticks - self._zero) / CLOCK_HZ
        rate_hz = CLOCK_HZ / self._divider
        self._end_s = float(times_s[-1]) + 1 / rate_hz
        measured = self._measured({channel: block.raw[:, place] for place, channel in enumerate(self._order)})
        clipped = [at_an_end(raw, modality, self._options) for modality, raw, _ in measured]
        self._clipped += int(np.any(clipped, axis=0).sum())
        changed = self._unit == "gsr" and self._range_changed(ticks, measured[0][1])
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

    def _measured(self, columns: dict[int, Raw]) -> list[tuple[Modality, Raw, npt.NDArray[np.float64]]]:
        """(modality, raw, in its unit) of each signal; EDA first."""
        o = self._options
        if self._unit == "exg":
            raw = columns[o.ecg_channel]
            return [(Modality.ECG, raw, raw.astype(np.float64) * ecg_step_mv(self._dialogue.gain, o))]
        gsr = columns.pop(GSR)
        return [
            (Modality.EDA, gsr, eda_us(gsr, o)),
            *((Modality.BVP, ppg, ppg_mv(ppg, o)) for ppg in columns.values()),
        ]

    def _range_changed(self, ticks: npt.NDArray[np.int64], gsr: Raw) -> bool:
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


KIND = DeviceKind(
    name="shimmer3",
    summary="Shimmer3 GSR+ or ECG unit with LogAndStream firmware, over Bluetooth (rfcomm)",
    signals="GSR+: eda in uS, bvp in a.u. (mV at the ADC) where a PPG probe is plugged in; ECG unit: ecg in mV",
    rates=f"32768 Hz divided by a whole number, the same for all; {DEFAULT_RATES_HZ['gsr']:g} or, of ECG, "
    f"{DEFAULT_RATES_HZ['exg']:g} Hz unless told otherwise",
    wiring="GSR electrodes on the middle phalanges of two fingers; PPG probe in the expansion jack (A13). ECG: the "
    "five leads as they are marked",
    baud=115_200,
    options=ShimmerOptions,
    open=ShimmerDriver,
)
