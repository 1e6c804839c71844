"""A simulated wearable without a port: what a device would send, and when, if it measured a recording."""

from __future__ import annotations

import heapq
import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import cbor2
import msgspec
import numpy as np
import numpy.typing as npt

from edgepain.errors import ConfigError
from edgepain.firmware_bridge.edgeframe import (
    DEVICE_STREAM,
    MAX_PAYLOAD,
    Command,
    Flags,
    Frame,
    FrameType,
)
from edgepain.firmware_bridge.hello import MISSING_I2, Hello, StreamHello, encode_hello
from edgepain.signal import Modality, Recording, Signal

FIRMWARE = "simulated 1"
HELLO_PERIOD_S = 2.0
STATUS_PERIOD_S = 1.0
FRAME_S = 0.08
SampleType: TypeAlias = Literal["i2", "f4"]


# What is due besides data streams, which count from 0. At one moment HELLO goes first.
HELLO, STATUS = -2, -1


@dataclass(frozen=True, order=True)
class Due:
    """Something to send at `at_s` of play. stream: index of a data stream, or HELLO or STATUS.

    first_s, begin, end: time of the first sample of data, and which samples of the recording.
    """

    at_s: float
    stream: int
    first_s: float = 0.0
    begin: int = 0
    end: int = 0


class _Channel:
    """One signal, encoded as it goes over the wire: raw [n], little endian."""

    def __init__(self, signal: Signal, sample_type: SampleType) -> None:
        self.modality = signal.modality
        self.start_s = signal.start_s
        self.seq = 0
        self.overrun = False
        scale, offset = (1.0, 0.0) if sample_type == "f4" else _i2_range(signal.values)
        self.hello = StreamHello(signal.modality.value, signal.unit, signal.rate_hz, sample_type, scale, offset)
        self.raw = signal.values.astype("<f4") if sample_type == "f4" else _i2(signal.values, scale, offset)

    @property
    def frame_samples(self) -> int:
        most = MAX_PAYLOAD // self.hello.sample_size
        return int(np.clip(round(self.hello.rate_hz * FRAME_S), 1, most))

    def due(self, stream: int, lap_s: float) -> Iterator[Due]:
        """Its frames in one pass over the recording, each due when its last sample is taken."""
        rate_hz = self.hello.rate_hz
        for begin in range(0, self.raw.size, self.frame_samples):
            end = min(begin + self.frame_samples, self.raw.size)
            start_s = lap_s + self.start_s
            yield Due(start_s + (end - 1) / rate_hz, stream, start_s + begin / rate_hz, begin, end)


class Wearable:
    """Plays a recording: `schedule` says what is due when, the other methods give the bytes for it.

    All times are seconds of play. skew_ppm: how much faster than that the device's clock runs. boot_id: drawn
    by the caller; every restart counts it up.

    Raises ConfigError where the recording has more signals than a device can describe in one frame.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        sample_type: SampleType = "f4",
        skew_ppm: float = 0.0,
        boot_id: int = 1,
        name: str = "simulated wearable",
    ) -> None:
        self._channels = [_Channel(signal, sample_type) for signal in recording.signals.values()]
        self.duration_s = recording.duration_s
        self._clock_rate = 1.0 + skew_ppm * 1e-6
        self._boot_s = 0.0
        self._measures_from_s = 0.0
        self._device_seq = 0
        self.drops = 0
        streams = tuple(channel.hello for channel in self._channels)
        self._hello = Hello(name, FIRMWARE, boot_id, 0, streams)
        try:
            encode_hello(self._hello)
        except ValueError as error:
            raise ConfigError(f"this recording cannot be played: {error}") from error

    def schedule(self, *, loop: bool = False) -> Iterator[Due]:
        """Everything the device sends of itself, in order of time; without end where it loops."""
        laps = itertools.count() if loop else range(1)
        data = (due for lap in laps for due in self._lap(lap * self.duration_s))
        end_s = float("inf") if loop else self.duration_s
        return heapq.merge(
            _every(HELLO_PERIOD_S, HELLO, 0.0, end_s),
            _every(STATUS_PERIOD_S, STATUS, STATUS_PERIOD_S, end_s),
            data,
        )

    def _lap(self, lap_s: float) -> Iterator[Due]:
        return heapq.merge(*(channel.due(i, lap_s) for i, channel in enumerate(self._channels)))

    def modality(self, stream: int) -> Modality:
        """The signal of a data stream."""
        return self._channels[stream].modality

    def data(self, due: Due) -> Frame | None:
        """The DATA frame that is due; its `seq` is used up whether it is sent or not. None while starting up."""
        if due.first_s < self._measures_from_s:
            return None
        channel = self._channels[due.stream]
        frame = Frame(
            FrameType.DATA,
            due.stream,
            channel.seq,
            self._device_us(due.first_s),
            channel.raw[due.begin : due.end].tobytes(),
            Flags.OVERRUN if channel.overrun else Flags.NONE,
            due.end - due.begin,
        )
        channel.seq = (channel.seq + 1) & 0xFFFF
        channel.overrun = False
        return frame

    def overrun(self, due: Due) -> None:
        """The frame that was due did not fit the line: counted, and flagged in the next one."""
        self.drops += 1
        self._channels[due.stream].overrun = True

    def hello(self, at_s: float) -> Frame:
        """The device's description of itself."""
        hello = msgspec.structs.replace(self._hello, uptime_us=self._device_us(at_s))
        return self._own(FrameType.HELLO, at_s, encode_hello(hello))

    def status(self, at_s: float) -> Frame:
        """Uptime in seconds, frames dropped, errors, battery (0 to 1)."""
        status = {"uptime_s": self._device_us(at_s) // 1_000_000, "drops": self.drops, "errors": 0, "battery": 1.0}
        return self._own(FrameType.STATUS, at_s, cbor2.dumps(status))

    def answer(self, frame: Frame, at_s: float) -> list[Frame]:
        """What the device says to a frame from the host: an ACK with what was asked for, a TIME reply, nothing."""
        if frame.type is FrameType.TIME:
            payload = frame.payload[:8] + struct.pack("<Q", self._device_us(at_s))
            return [self._own(FrameType.TIME, at_s, payload)]
        if frame.type is not FrameType.COMMAND:
            return []
        known = frame.payload == bytes([Command.SEND_HELLO])
        ack = replace(self._own(FrameType.ACK, at_s, bytes([0 if known else 1])), seq=frame.seq)
        return [ack, self.hello(at_s)] if known else [ack]

    def reboot(self, at_s: float, startup_s: float) -> None:
        """Start anew at `at_s`: another boot id, the clock at 0, every `seq` at 0; measuring after `startup_s`."""
        self._boot_s = at_s
        self._measures_from_s = at_s + startup_s
        self._device_seq = 0
        self.drops = 0
        self._hello = msgspec.structs.replace(self._hello, boot_id=(self._hello.boot_id + 1) & 0xFFFFFFFF)
        for channel in self._channels:
            channel.seq, channel.overrun = 0, False

    def _device_us(self, at_s: float) -> int:
        return max(round((at_s - self._boot_s) * self._clock_rate * 1e6), 0)

    def _own(self, kind: FrameType, at_s: float, payload: bytes) -> Frame:
        self._device_seq += 1
        return Frame(kind, DEVICE_STREAM, self._device_seq & 0xFFFF, self._device_us(at_s), payload)


def _every(period_s: float, stream: int, start_s: float, end_s: float) -> Iterator[Due]:
    for k in itertools.count():
        at_s = start_s + k * period_s
        if at_s > end_s:
            return
        yield Due(at_s, stream)


def _i2_range(values: npt.NDArray[np.float32]) -> tuple[float, float]:
    """(scale, offset) that spread the values of a recording over 16 bits."""
    finite = values[np.isfinite(values)].astype(np.float64)
    if finite.size == 0:
        return 1.0, 0.0
    low, high = float(finite.min()), float(finite.max())
    return (high - low) / 65_000 or 1.0, (low + high) / 2


def _i2(values: npt.NDArray[np.float32], scale: float, offset: float) -> npt.NDArray[np.int16]:
    there = np.isfinite(values)
    counts = np.rint((np.where(there, values, offset).astype(np.float64) - offset) / scale)
    return np.where(there, counts, MISSING_I2).astype("<i2")
