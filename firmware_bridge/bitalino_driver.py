"""The driver of a BITalino (r)evolution: greets it, starts it, and turns its numbered frames into units.

The device sends no time: sample k was taken at k / rate. Where frames are missing, the sequence tells how many
modulo 16. After a silence, their arrival tells how many times 16 to add (`arrears`); until it does, some tenths of a
second up to a second, what came after the gap waits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from edgepain.errors import ConfigError
from edgepain.firmware_bridge.arrears import Arrears
from edgepain.firmware_bridge.assembler import RESTART_GAP_S
from edgepain.firmware_bridge.bitalino import (
    FRAME_BYTES,
    SEQUENCES,
    STOP,
    VERSION,
    BitalinoDecoder,
    Block,
    rate_command,
    start_command,
)
from edgepain.firmware_bridge.block_mean import BlockMean
from edgepain.firmware_bridge.clock import DeviceClock
from edgepain.firmware_bridge.driver import DeviceKind, DriverOptions
from edgepain.firmware_bridge.fixed_frames import LOCK_FRAMES, Flags
from edgepain.signal import DeviceInfo, LinkStats, Modality, Samples, StreamInfo

COMMAND_GAP_S = 0.15
ANSWER_S = 1.0
SILENCE_S = 2.0
_BANNER = re.compile(rb"BITalino_v([0-9.]{1,8})\r?\n")
_LONGEST_BANNER = 32
_FULL_SCALE = 1024

_Port = Literal["A1", "A2", "A3", "A4", "A5", "A6", "none"]
_Positive = Annotated[float, msgspec.Meta(gt=0, lt=1e9)]


class BitalinoOptions(DriverOptions, frozen=True):
    """rate_hz: 1, 10, 100 or 1000. eda, ecg, bvp: the port each is on. eda_rate_hz: EDA is averaged down to this.

    vcc_v: supply. eda_v_per_us, ecg_gain: of the sensors; `eda_sensor=2013` is the first, resistive one.
    """

    rate_hz: Literal[1, 10, 100, 1000] = 1000
    eda: _Port = "A3"
    ecg: _Port = "A2"
    bvp: _Port = "none"
    eda_rate_hz: Annotated[int, msgspec.Meta(ge=1)] = 20
    eda_sensor: Literal["revolution", "2013"] = "revolution"
    vcc_v: _Positive = 3.3
    eda_v_per_us: _Positive = 0.132
    ecg_gain: _Positive = 1100.0

    @property
    def ports(self) -> dict[Modality, int]:
        """Number of the port of each signal that is on one."""
        named = {Modality.EDA: self.eda, Modality.ECG: self.ecg, Modality.BVP: self.bvp}
        return {modality: int(port[1]) for modality, port in named.items() if port != "none"}


def to_units(counts: npt.NDArray[np.uint16], modality: Modality, options: BitalinoOptions) -> npt.NDArray[np.float64]:
    """10-bit counts as EDA in µS, ECG in mV, BVP as a share of full scale. Of the sensors' data sheets."""
    share = counts / _FULL_SCALE
    if modality is Modality.ECG:
        return (share - 0.5) * options.vcc_v * 1000.0 / options.ecg_gain
    if modality is Modality.EDA:
        return 1.0 / (1.0 - share) if options.eda_sensor == "2013" else share * options.vcc_v / options.eda_v_per_us
    return share


def _at_an_end(counts: npt.NDArray[np.uint16]) -> Flags:
    """Which counts are the least or the most that the ADC gives."""
    ends: Flags = (counts == 0) | (counts == _FULL_SCALE - 1)
    return ends


@dataclass
class _Channel:
    modality: Modality
    column: int
    mean: BlockMean


class BitalinoDriver:
    """One BITalino; see `Driver`. Raises ConfigError for settings that no device has."""

    def __init__(self, options: BitalinoOptions) -> None:
        _check(options)
        self.clock = DeviceClock()
        self._options = options
        self._ports = tuple(sorted(options.ports.values()))
        self._decoder = BitalinoDecoder(len(self._ports))
        self._channels: list[_Channel] = []
        self._introduced = False
        self._tail = b""
        self._bytes_read = self._bytes_unframed = 0
        self._starts = 0
        self._lost_by_clock = self._clipped = 0
        self._extra = 0
        self._zero: int | None = None
        self._next = 0
        self._base_s = self._end_s = 0.0
        self._arrival_s = 0.0
        self._arrears = Arrears(options.rate_hz, SEQUENCES)
        self._waiting: list[tuple[Block, float]] = []
        self._queue: list[bytes] = []
        self._next_s = self._deadline_s = float("-inf")

    @property
    def introduced(self) -> bool:
        """Whether it has answered since the line was opened."""
        return self._introduced

    @property
    def frames(self) -> int:
        """Sound frames so far."""
        return self._decoder.counters.frames

    def feed(self, data: bytes, arrival_s: float) -> list[DeviceInfo | Samples]:
        """What `data`, read at `arrival_s`, completes. Nothing before the device has said what it is."""
        self._bytes_read += len(data)
        self._tail += data
        events: list[DeviceInfo | Samples] = []
        for banner in list(_BANNER.finditer(self._tail))[-1:]:
            events += [*self._release(0), self._introduce(banner[1].decode(), arrival_s)]
            data = self._tail[banner.end() :]
            self._tail = data
        self._tail = self._tail[-_LONGEST_BANNER:]
        before = self.frames
        blocks = self._decoder.feed(data) if self._introduced else []
        self._bytes_unframed = 0 if self.frames > before else self._bytes_unframed + len(data)
        if blocks:
            events += self._take(blocks, arrival_s)
            self._arrival_s = arrival_s
            self._deadline_s = arrival_s + self._patience_s
            if not self._waiting:
                self.clock.update(self._end_s, arrival_s)
        return events

    def cut(self) -> None:
        """The line was cut: the device has to answer and be started again."""
        self._introduced = False
        self._tail = b""
        self._bytes_unframed = 0
        self._queue, self._next_s, self._deadline_s = [], float("-inf"), float("-inf")

    def request(self, now_s: float) -> bytes:
        """One command, no sooner than 150 ms after the last: stop and version until it answers, then rate and start.

        A device that falls silent is greeted anew.
        """
        if now_s < self._next_s:
            return b""
        if not self._queue:
            if now_s < self._deadline_s:
                return b""
            self._queue = [STOP, VERSION]
        self._next_s = now_s + COMMAND_GAP_S
        if len(self._queue) == 1:
            self._deadline_s = now_s + (ANSWER_S if self._queue == [VERSION] else self._patience_s)
        return self._queue.pop(0)

    def deaf(self) -> None:
        """Commands that were not taken are begun again in a while."""
        self._queue = []
        self._next_s += ANSWER_S

    def farewell(self) -> bytes:
        """Stop."""
        return STOP

    def complaint(self) -> str:
        """Why bytes arrive and nothing comes of them."""
        if not self._introduced and self._bytes_unframed:
            return (
                f"{self._bytes_unframed} bytes arrive but no answer of a BITalino: wrong baud rate or another device?"
            )
        if self._bytes_unframed > LOCK_FRAMES * FRAME_BYTES[-1]:
            return f"{self._bytes_unframed} bytes arrive but no valid BITalino frame: a bad line, or another device?"
        return ""

    def stats(self, reconnects: int) -> LinkStats:
        """Totals so far. frames_lost: at least so many, see `BitalinoDecoder`."""
        wire = self._decoder.counters
        return LinkStats(
            bytes_read=self._bytes_read,
            frames=wire.frames,
            frames_lost=wire.lost + self._lost_by_clock,
            crc_errors=wire.crc_errors,
            repeated=wire.repeated,
            reconnects=reconnects,
            restarts=max(self._starts - 1, 0),
            clipped=self._clipped,
            lost_is_minimum=True,
        )

    @property
    def _patience_s(self) -> float:
        return SILENCE_S + (LOCK_FRAMES + 1) / self._options.rate_hz

    def _introduce(self, firmware: str, arrival_s: float) -> DeviceInfo:
        """It answered, so it is idle: what it measures from here on is a new stretch."""
        if self._zero is not None:
            self._base_s = self._end_s + max(arrival_s - self._arrival_s, RESTART_GAP_S)
        self._introduced = True
        self._starts += 1
        self._decoder.restart()
        self._zero, self._extra = None, 0
        self._arrears = Arrears(self._options.rate_hz, SEQUENCES)
        self.clock.reset()
        rate_hz, ports = self._options.rate_hz, self._options.ports
        self._channels = [
            _Channel(modality, self._ports.index(port), BlockMean(self._block_of(modality)))
            for modality, port in ports.items()
        ]
        self._queue = [rate_command(rate_hz), start_command(self._ports)]
        self._next_s = arrival_s + COMMAND_GAP_S
        streams = [StreamInfo(c.modality, c.modality.unit, rate_hz / c.mean.size) for c in self._channels]
        return DeviceInfo("BITalino", firmware, self._starts, tuple(streams))

    def _block_of(self, modality: Modality) -> int:
        wanted_hz = self._options.eda_rate_hz if modality is Modality.EDA else self._options.rate_hz
        return max(self._options.rate_hz // wanted_hz, 1)

    def _take(self, blocks: Sequence[Block], arrival_s: float) -> list[Samples]:
        """Samples of `blocks`; those from the first gap on wait while it is not known how long the gap is."""
        missing = self._arrears.missing(blocks[-1].first + len(blocks[-1].analog), arrival_s)
        found: list[Samples] = []
        for block in blocks:
            after_gap = self._zero is not None and block.first + self._extra > self._next
            if self._waiting or (after_gap and missing != 0):
                self._waiting.append((block, arrival_s))
            else:
                found += self._block(block, arrival_s)
        return found if missing is None else found + self._release(missing)

    def _release(self, missing: int) -> list[Samples]:
        """What waited, after a gap that was `missing` frames longer than its sequence said."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._extra += missing
            self._lost_by_clock += missing
        return [samples for block, arrival_s in waiting for samples in self._block(block, arrival_s)]

    def _block(self, block: Block, arrival_s: float) -> list[Samples]:
        first = block.first + self._extra
        if self._zero is None:
            self._zero = first
        number = first - self._zero
        self._next = first + len(block.analog)
        self._clipped += int(_at_an_end(block.analog).any(axis=1).sum())
        self._end_s = self._base_s + (self._next - self._zero) / self._options.rate_hz
        return [samples for c in self._channels for samples in self._samples(c, number, block, arrival_s)]

    def _samples(self, channel: _Channel, number: int, block: Block, arrival_s: float) -> list[Samples]:
        counts = block.analog[:, channel.column]
        clipped = bool(_at_an_end(counts).any())
        values = to_units(counts, channel.modality, self._options)
        size, rate_hz = channel.mean.size, self._options.rate_hz
        found = []
        for first, means in channel.mean.push(number, values):
            # A mean stands for the middle of its samples.
            times_s = self._base_s + ((first + np.arange(means.size)) * size + (size - 1) / 2) / rate_hz
            found.append(
                Samples(channel.modality, times_s, means.astype(np.float32), rate_hz / size, arrival_s, clipped=clipped)
            )
        return found


def _check(options: BitalinoOptions) -> None:
    ports = options.ports
    if not ports or len(set(ports.values())) < len(ports):
        raise ConfigError(
            f"device bitalino: eda={options.eda}, ecg={options.ecg}, bvp={options.bvp}: give each signal a port of its "
            "own, and at least one of them"
        )


KIND = DeviceKind(
    name="bitalino",
    summary="BITalino (r)evolution board, Plugged or Core, over USB-UART or Bluetooth (rfcomm)",
    signals="eda in uS, ecg in mV; bvp in a.u. where a pulse sensor is on a port",
    rates="1, 10, 100 or 1000 Hz, one for all ports; eda is averaged to eda_rate_hz",
    wiring="EDA on A3, ECG on A2, each as the options say (10 bits on every port, as no more than four are on)",
    baud=115_200,
    options=BitalinoOptions,
    open=BitalinoDriver,
)
