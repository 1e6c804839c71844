"""The whole check without a port: bytes and their arrival in, findings out."""

from __future__ import annotations

from edgepain.firmware_bridge.clock import MAX_SKEW_PPM
from edgepain.firmware_bridge.conformance.blocks import Block, BlockReader, read_block
from edgepain.firmware_bridge.conformance.device_check import DeviceCheck, HelloRow
from edgepain.firmware_bridge.conformance.findings import Finding, Ledger
from edgepain.firmware_bridge.conformance.host_clock import HostClock
from edgepain.firmware_bridge.conformance.questions import Questions
from edgepain.firmware_bridge.conformance.status_check import MAX_PERIOD_S, StatusCheck
from edgepain.firmware_bridge.conformance.stream_check import StreamCheck
from edgepain.firmware_bridge.edgeframe import DEVICE_STREAM, MAX_ENCODED, Frame, FrameType

_BITS_A_BYTE = 10
_BUSY_SHARE = 0.8
# A start so recent explains the broken block before it: the old run was cut off.
_JUST_STARTED_US = 5_000_000


class ConformanceChecker:
    """Ask it what to send, feed it what comes, and read the findings at the end. Never raises, whatever the bytes.

    baud: of the line. All times are of the host's monotonic clock.
    """

    def __init__(self, baud: int) -> None:
        self._baud = baud
        self._ledger = Ledger()
        self._reader = BlockReader()
        self._questions = Questions(self._ledger)
        self._device = DeviceCheck(self._ledger)
        self._hello_row = HelloRow(self._ledger)
        self._streams: list[StreamCheck] = []
        self._status: StatusCheck | None = None
        self._clock = HostClock()
        self._blocks = self._frames = self._bytes = self._damaged = 0
        self._damaged_at: dict[int, int] = {}
        # A broken block that may have an excuse: what was under way when the port was opened, or at a restart.
        self._opening: Block | None = None
        self._suspect: Block | None = None
        self._own_seq: int | None = None
        self._first_s: float | None = None
        self._last_s = 0.0
        self._status_at_s: float | None = None
        self._damaged_at_status = 0
        # The lowest seq of DATA that came before HELLO.
        self._early_data: int | None = None

    @property
    def frames(self) -> int:
        """Sound frames so far."""
        return self._frames

    def request(self, now_s: float) -> bytes:
        """What to send at `now_s`, often nothing. Ask before every read."""
        return self._questions.due(now_s)

    def feed(self, data: bytes, arrival_s: float) -> None:
        """Judge what was read at `arrival_s`."""
        if self._first_s is not None:
            self._bytes += len(data)
        for block in self._reader.feed(data):
            self._take(block, arrival_s)
        self._last_s = arrival_s

    def findings(self, now_s: float) -> list[Finding]:
        """All rules with their verdicts. Ends the check: nothing may be fed after it."""
        self._explain_suspect()
        never = self._first_s is None
        if never and self._opening is not None:
            self._blame(self._opening)
        pending = self._reader.pending
        if len(pending) > MAX_ENCODED or (never and pending):
            self._blame(read_block(pending))
        self._questions.conclude(now_s)
        self._hello_row.conclude(now_s, self._device.hello is not None)
        for stream in self._streams:
            stream.conclude()
        self._conclude_status(now_s)
        self._conclude_clock()
        self._conclude_baud()
        return self._ledger.findings()

    def _take(self, block: Block, arrival_s: float) -> None:
        self._blocks += 1
        frame = block.frame
        if frame is None:
            self._broken(block)
            return
        self._frames += 1
        for name in ("framing", "crc", "version", "type"):
            self._ledger.passed(name, f"{self._frames} frames")
        if self._first_s is None:
            self._first_s = arrival_s
            self._questions.start(arrival_s)
            self._hello_row.start(arrival_s)
        if frame.type is FrameType.HELLO:
            self._hello(block, frame, arrival_s)
        self._explain_suspect()
        if frame.type is not FrameType.DATA:
            self._own(block, frame)
        if frame.type is FrameType.DATA:
            self._data(block, frame, arrival_s)
        elif frame.type is FrameType.STATUS:
            self._status_came(block, frame, arrival_s)
        self._questions.take(block, frame, self._device.uptime_us(frame.t_us), arrival_s)

    def _broken(self, block: Block) -> None:
        self._explain_suspect()
        self._damaged += 1
        self._hello_row.broken()
        if self._blocks == 1:
            self._opening = block
        else:
            self._suspect = block

    def _explain_suspect(self) -> None:
        """Blame the broken block, unless a restart has explained it."""
        if self._suspect is not None:
            self._blame(self._suspect)
            self._suspect = None

    def _blame(self, block: Block) -> None:
        self._ledger.failed(block.rule, block.seen, block.raw)

    def _hello(self, block: Block, frame: Frame, arrival_s: float) -> None:
        first = self._device.hello is None
        started = self._device.take(block, frame, arrival_s)
        hello = self._device.hello
        if self._suspect is None:
            self._hello_row.came(block, arrival_s, self._questions.asked_hello_s, started)
        if hello is None:
            return
        if started:
            if hello.uptime_us < _JUST_STARTED_US:
                self._suspect = None
            for stream in self._streams:
                stream.conclude()
            self._streams = [StreamCheck(i, each, self._ledger) for i, each in enumerate(hello.streams)]
            self._status = StatusCheck(self._ledger, self._streams)
            self._clock = HostClock()
            self._damaged_at = {}
            self._own_seq = None
        if first and self._early_data == 0:
            self._ledger.failed("hello-first", "DATA from seq 0 on came before HELLO")
        elif started and hello.uptime_us < _JUST_STARTED_US and not (first and self._early_data):
            self._ledger.passed("hello-first")

    def _own(self, block: Block, frame: Frame) -> None:
        """What all frames of the device itself have in common. An ACK's seq is the id of its COMMAND."""
        if frame.stream != DEVICE_STREAM:
            self._ledger.failed("stream", f"{frame.type.name} of stream {frame.stream}", block.raw)
        if frame.type is FrameType.ACK:
            return
        if self._own_seq is not None and (frame.seq - self._own_seq - 1) & 0xFFFF >= 0x8000:
            seen = f"stream {DEVICE_STREAM} ({frame.type.name}): seq {frame.seq} after {self._own_seq}"
            self._ledger.failed("seq", seen, block.raw)
        self._own_seq = frame.seq

    def _data(self, block: Block, frame: Frame, arrival_s: float) -> None:
        if self._device.hello is None:
            self._early_data = frame.seq if self._early_data is None else min(self._early_data, frame.seq)
            return
        if frame.stream >= len(self._streams):
            seen = f"stream {frame.stream}, and HELLO lists {len(self._streams)}"
            self._ledger.failed("stream", seen, block.raw)
            return
        self._ledger.passed("stream")
        stream = self._streams[frame.stream]
        lost = stream.lost
        damaged = self._damaged != self._damaged_at.get(frame.stream, self._damaged)
        self._damaged_at[frame.stream] = self._damaged
        believed = stream.take(block, frame, damaged)
        if self._status is not None:
            self._status.data_came(frame.stream, stream.lost - lost)
        uptime_us = self._device.uptime_us(frame.t_us)
        if believed and frame.stream == 0 and uptime_us is not None:
            self._clock.update(uptime_us * 1e-6 + (frame.count - 1) / stream.hello.rate_hz, arrival_s)

    def _status_came(self, block: Block, frame: Frame, arrival_s: float) -> None:
        self._status_at_s = arrival_s
        self._damaged_at_status = self._damaged
        uptime_us = self._device.uptime_us(frame.t_us)
        if self._status is not None and uptime_us is not None:
            self._status.take(block, frame, uptime_us * 1e-6, self._damaged)

    def _conclude_status(self, now_s: float) -> None:
        since_s = self._status_at_s if self._status_at_s is not None else self._first_s
        excused = self._damaged > self._damaged_at_status
        if since_s is not None and now_s - since_s > 2 * MAX_PERIOD_S and not excused:
            what = "the last one" if self._status_at_s is not None else "the first frame, and none came"
            self._ledger.failed("status-period", f"{now_s - since_s:.1f} s since {what}")

    def _conclude_clock(self) -> None:
        found = self._clock.compare()
        if found is None:
            return
        seen = f"{found.ppm:+.0f} ppm, ± {found.uncertainty_ppm:.0f} ppm over {found.span_s:.1f} s"
        if abs(found.ppm) - found.uncertainty_ppm > MAX_SKEW_PPM:
            self._ledger.failed("host-clock", seen)
        else:
            self._ledger.passed("host-clock", seen)

    def _conclude_baud(self) -> None:
        """The larger of what was measured and what HELLO announces, at 10 frames a second at least."""
        if self._first_s is None or self._last_s - self._first_s < 1.0:
            return
        measured = self._bytes / (self._last_s - self._first_s)
        share = measured * _BITS_A_BYTE / self._baud
        seen = f"{measured:.0f} bytes/s, {100 * share:.0f} % of {self._baud} baud"
        if share > 1.0:
            self._ledger.failed("baud", seen)
        elif share > _BUSY_SHARE:
            self._ledger.noted("baud", f"{seen}; little is left for HELLO, STATUS and a hiccup of the line")
        else:
            self._ledger.passed("baud", seen)
