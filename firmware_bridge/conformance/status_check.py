"""The rules of STATUS, for one boot."""

from __future__ import annotations

from typing import Annotated

import cbor2
import msgspec

from edgepain.firmware_bridge.conformance.blocks import Block
from edgepain.firmware_bridge.conformance.findings import Ledger
from edgepain.firmware_bridge.conformance.stream_check import StreamCheck
from edgepain.firmware_bridge.edgeframe import Frame

_UPTIME_SLACK_S = 2.0
MIN_PERIOD_S, MAX_PERIOD_S = 0.5, 1.5
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]


class Status(msgspec.Struct, frozen=True):
    """What a device says of itself once a second. battery: 0 to 1, None where it is not known."""

    uptime_s: Annotated[float, msgspec.Meta(ge=0)]
    drops: _Count
    errors: _Count
    battery: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None


def parse_status(payload: bytes) -> Status:
    """The content of a STATUS frame. Raises ValueError, which says what is wrong with it."""
    try:
        return msgspec.convert(cbor2.loads(payload), Status)
    except Exception as error:
        # As in HELLO: what hostile CBOR raises has no bound.
        raise ValueError(str(error)) from error


class StatusCheck:
    """Judges the STATUS frames of one boot, beside what `seq` of its streams shows."""

    def __init__(self, ledger: Ledger, streams: list[StreamCheck]) -> None:
        self._ledger = ledger
        self._streams = streams
        self._last: tuple[Frame, Status] | None = None
        self._seen_at_last: list[int] = []
        self._drops_before = 0
        self._lost_before = 0
        # Of each stream, the frames lost up to the first DATA after the first STATUS: when they were lost is not known.
        self._unclear: list[int | None] = [None] * len(streams)

    def take(self, block: Block, frame: Frame, uptime_s: float, damaged: int) -> None:
        """One STATUS. uptime_s: the device clock at its t_us, by HELLO. damaged: blocks thrown away so far."""
        try:
            status = parse_status(frame.payload)
        except ValueError as error:
            self._ledger.failed("status-content", str(error), block.raw)
            return
        if abs(status.uptime_s - uptime_s) > _UPTIME_SLACK_S:
            seen = f"uptime_s {status.uptime_s:g}, and the device clock says {uptime_s:.1f} s"
            self._ledger.failed("status-content", seen, block.raw)
        elif status.battery is None:
            self._ledger.passed("status-content", "battery unknown")
        else:
            self._ledger.passed("status-content")
        if self._last is None:
            self._drops_before, self._lost_before = status.drops, self._lost
        else:
            self._period(block, self._last[0], frame)
            self._drops(block, self._last[1], status, damaged)
        self._last = (frame, status)
        self._seen_at_last = [stream.frames for stream in self._streams]

    def data_came(self, index: int, lost: int) -> None:
        """A DATA frame of a stream, with `lost` frames missing before it."""
        if self._last is not None and self._unclear[index] is None:
            self._unclear[index] = lost

    @property
    def _lost(self) -> int:
        return sum(stream.lost for stream in self._streams)

    def _period(self, block: Block, last: Frame, frame: Frame) -> None:
        period_s = ((frame.t_us - last.t_us) & 0xFFFFFFFF) * 1e-6
        missing = (frame.seq - last.seq - 1) & 0xFFFF
        if MIN_PERIOD_S <= period_s <= MAX_PERIOD_S:
            self._ledger.passed("status-period")
        elif period_s < MIN_PERIOD_S or not missing:
            self._ledger.failed("status-period", f"{period_s:.3g} s after the last one", block.raw)

    def _drops(self, block: Block, last: Status, status: Status, damaged: int) -> None:
        counted = status.drops - self._drops_before
        shown = self._lost - self._lost_before
        unclear = sum(lost or 0 for lost in self._unclear)
        if status.drops < last.drops:
            self._ledger.failed("drops", f"{status.drops} after {last.drops}", block.raw)
        elif shown - unclear > counted + damaged:
            self._ledger.failed("drops", f"{counted} counted, and seq shows {shown} lost", block.raw)
        elif last.drops - self._drops_before > shown and self._all_came_since():
            seen = f"{last.drops - self._drops_before} counted, and seq shows {shown} lost"
            self._ledger.failed("drops", seen, block.raw)
        else:
            self._ledger.passed("drops", f"{counted} counted, {shown} lost by seq")

    def _all_came_since(self) -> bool:
        return all(stream.frames > seen for stream, seen in zip(self._streams, self._seen_at_last, strict=True))
