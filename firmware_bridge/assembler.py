"""Frames become samples on one session clock.

Session time 0 is the first sample received, of whatever stream. Device time is unwrapped from its 32 bits
next to the last time known; HELLO carries it in full. When the device restarts, its clock starts anew and
the session clock goes on by what the host's clock says of the time between.

A line cannot reorder frames. One whose `seq` or time runs backwards therefore means a restart whose HELLO was
lost, and nothing is interpreted until the device has introduced itself again (`wants_hello`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgepain.firmware_bridge.edgeframe import Flags, Frame, FrameType
from edgepain.firmware_bridge.hello import MISSING_I2, Hello, StreamHello, decode_hello
from edgepain.signal import DeviceInfo, Modality, Samples

# A restart takes at least this much of session time, so that a gap shows and no time is used twice.
RESTART_GAP_S = 1.0
# Device time does not jump further than this on a line that was not cut.
_MAX_JUMP_US = 600_000_000
_BACKWARDS_SLACK_US = 1_000_000


@dataclass(slots=True)
class AssemblerCounters:
    """Totals. lost: DATA frames that were missing by `seq`, or came and could not be interpreted.
    unknown: DATA frames of signals that the toolkit does not know. malformed: sound frames with absurd content.
    clipped, range_switches: DATA frames that the device says this of."""

    lost: int = 0
    lost_by_modality: dict[Modality, int] = field(default_factory=dict)
    repeated: int = 0
    out_of_order: int = 0
    unknown: int = 0
    malformed: int = 0
    restarts: int = 0
    clipped: int = 0
    range_switches: int = 0


@dataclass(slots=True)
class _Stream:
    hello: StreamHello
    next_seq: int | None = None


class SampleAssembler:
    """Frames in, `DeviceInfo` and `Samples` out; never raises, whatever the frames say."""

    def __init__(self) -> None:
        self.counters = AssemblerCounters()
        self._hello: Hello | None = None
        self._streams: list[_Stream] = []
        self._trusted = False
        self._waiting = 0
        self._in_order = True
        self._anchor_us = 0
        self._zero_us: int | None = None
        self._last_s: dict[Modality, float] = {}
        self._base_s = 0.0
        self._end_s = 0.0
        self._arrival_s = 0.0

    @property
    def wants_hello(self) -> bool:
        """True while DATA cannot be interpreted: before the first HELLO, after a cut line or a restart."""
        return not self._trusted

    def link_lost(self) -> None:
        """The line was cut: the next DATA may come from a device that has restarted."""
        self._trusted = False

    def push(self, frame: Frame, arrival_s: float) -> list[DeviceInfo | Samples]:
        """What a frame, whose last byte came at `arrival_s` (host monotonic clock), brings."""
        if frame.type is FrameType.DATA:
            samples = self._data(frame, arrival_s)
            return [] if samples is None else [samples]
        if frame.type is FrameType.HELLO:
            info = self._introduce(frame, arrival_s)
            return [] if info is None else [info]
        return []

    def _introduce(self, frame: Frame, arrival_s: float) -> DeviceInfo | None:
        hello = decode_hello(frame.payload)
        if hello is None or hello.uptime_us & 0xFFFFFFFF != frame.t_us:
            self.counters.malformed += 1
            return None
        before = self._hello
        restarted = before is not None and (
            hello.boot_id != before.boot_id or hello.uptime_us < self._anchor_us - _BACKWARDS_SLACK_US
        )
        if restarted:
            self._restart(hello, arrival_s)
        if before is None or restarted or not self._in_order:
            self._lose(self._waiting, None)
        changed = before is None or restarted or hello.streams != before.streams
        if changed:
            self._streams = [_Stream(stream) for stream in hello.streams]
        # After a cut line of the same boot, `seq` has counted on and tells what went missing.
        self._hello, self._anchor_us = hello, hello.uptime_us
        self._trusted, self._in_order, self._waiting = True, True, 0
        return hello.info if changed else None

    def _restart(self, hello: Hello, arrival_s: float) -> None:
        self.counters.restarts += 1
        if self._zero_us is not None:
            self._base_s = self._end_s + max(arrival_s - self._arrival_s, RESTART_GAP_S)
            self._zero_us = hello.uptime_us

    def _data(self, frame: Frame, arrival_s: float) -> Samples | None:
        if not self._trusted:
            self._waiting += 1
            return None
        stream = self._streams[frame.stream] if frame.stream < len(self._streams) else None
        if stream is None or frame.count == 0 or len(frame.payload) != frame.count * stream.hello.sample_size:
            self.counters.malformed += 1
            return None
        modality = stream.hello.modality
        if modality is None:
            self.counters.unknown += 1
            return None
        first_us = self._unwrap(frame.t_us)
        if not self._in_sequence(stream, modality, frame.seq, first_us):
            return None
        return self._samples(stream.hello, modality, frame, first_us, arrival_s)

    def _in_sequence(self, stream: _Stream, modality: Modality, seq: int, first_us: int) -> bool:
        ahead = 0 if stream.next_seq is None else (seq - stream.next_seq) & 0xFFFF
        if ahead == 0xFFFF:
            self.counters.repeated += 1
            return False
        # Held against session time, not the stream's: a HELLO may describe the streams anew, or tell of a restart.
        first_s = self._session_s(first_us)
        backwards = first_us < 0 or first_s <= self._last_s.get(modality, float("-inf"))
        if ahead >= 0x8000 or backwards or first_us > self._anchor_us + _MAX_JUMP_US:
            self.counters.out_of_order += 1
            self._trusted = self._in_order = False
            self._waiting += 1
            for other in self._streams:
                other.next_seq = None
            return False
        self._lose(ahead, modality)
        stream.next_seq = (seq + 1) & 0xFFFF
        self._last_s[modality] = first_s
        self._anchor_us = max(self._anchor_us, first_us)
        return True

    def _lose(self, count: int, modality: Modality | None) -> None:
        self.counters.lost += count
        if modality is not None and count:
            by = self.counters.lost_by_modality
            by[modality] = by.get(modality, 0) + count

    def _session_s(self, first_us: int) -> float:
        # Divided, not multiplied by 1e-6: times that are whole in µs come out exact (k/64 s, k/4 s).
        return self._base_s + (first_us - (first_us if self._zero_us is None else self._zero_us)) / 1e6

    def _unwrap(self, t_us: int) -> int:
        ahead = (t_us - self._anchor_us) & 0xFFFFFFFF
        return self._anchor_us + (ahead if ahead < 0x80000000 else ahead - 0x100000000)

    def _samples(
        self, hello: StreamHello, modality: Modality, frame: Frame, first_us: int, arrival_s: float
    ) -> Samples:
        if self._zero_us is None:
            self._zero_us = first_us
        times_s = self._session_s(first_us) + np.arange(frame.count) / hello.rate_hz
        self._end_s = max(self._end_s, float(times_s[-1]) + 1.0 / hello.rate_hz)
        self._arrival_s = arrival_s
        clipped, range_changed = bool(frame.flags & Flags.CLIPPED), bool(frame.flags & Flags.RANGE_CHANGED)
        self.counters.clipped += clipped
        self.counters.range_switches += range_changed
        return Samples(
            modality=modality,
            times_s=times_s,
            values=_values(hello, frame.payload),
            rate_hz=hello.rate_hz,
            arrival_s=arrival_s,
            overrun=bool(frame.flags & Flags.OVERRUN),
            lead_off=bool(frame.flags & Flags.LEAD_OFF),
            clipped=clipped,
            range_changed=range_changed,
        )


def _values(hello: StreamHello, payload: bytes) -> npt.NDArray[np.float32]:
    if hello.sample_type == "f4":
        raw = np.frombuffer(payload, "<f4")
        if hello.scale == 1.0 and hello.offset == 0.0:
            return raw.astype(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            return (raw.astype(np.float64) * hello.scale + hello.offset).astype(np.float32)
    counts = np.frombuffer(payload, "<i2")
    values: npt.NDArray[np.float32] = (counts * hello.scale + hello.offset).astype(np.float32)
    values[counts == MISSING_I2] = np.nan
    return values
