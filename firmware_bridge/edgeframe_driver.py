"""The driver of devices that speak edgeframe."""

from __future__ import annotations

from edgepain.firmware_bridge.assembler import SampleAssembler
from edgepain.firmware_bridge.clock import DeviceClock
from edgepain.firmware_bridge.driver import DeviceKind, DriverOptions
from edgepain.firmware_bridge.edgeframe import (
    DEVICE_STREAM,
    MAX_ENCODED,
    Command,
    Frame,
    FrameDecoder,
    FrameType,
    encode,
)
from edgepain.signal import DeviceInfo, LinkStats, Samples

HELLO_PERIOD_S = 1.0


class EdgeframeOptions(DriverOptions, frozen=True):
    """None: the device says what it is, in which units and at which rates."""


class EdgeframeDriver:
    """Decodes frames, asks for HELLO until there is one, and keeps the device's clock; see `Driver`."""

    def __init__(self) -> None:
        self.clock = DeviceClock()
        self._decoder = FrameDecoder()
        self._assembler = SampleAssembler()
        self._bytes_read = self._bytes_unframed = 0
        self._next_ask_s = float("-inf")
        self._command_id = 0

    @property
    def introduced(self) -> bool:
        """False while the device has to introduce itself (again)."""
        return not self._assembler.wants_hello

    @property
    def frames(self) -> int:
        """Sound frames so far."""
        return self._decoder.counters.frames

    def feed(self, data: bytes, arrival_s: float) -> list[DeviceInfo | Samples]:
        """What `data`, read at `arrival_s` (host monotonic clock), completes. Never raises."""
        self._bytes_read += len(data)
        before = self.frames
        events = [event for frame in self._decoder.feed(data) for event in self._assembler.push(frame, arrival_s)]
        self._bytes_unframed = 0 if self.frames > before else self._bytes_unframed + len(data)
        for event in events:
            if isinstance(event, Samples):
                self.clock.update(float(event.times_s[-1]), event.arrival_s)
            else:
                self.clock.reset()
        return events

    def cut(self) -> None:
        """The line was cut: half a frame is lost, and another device may speak next."""
        self._decoder.reset()
        self._assembler.link_lost()
        self._bytes_unframed = 0
        self._next_ask_s = float("-inf")

    def request(self, now_s: float) -> bytes:
        """The question for HELLO, once a second until it is answered."""
        if self.introduced or now_s < self._next_ask_s:
            return b""
        self._next_ask_s = now_s + HELLO_PERIOD_S
        self._command_id = (self._command_id + 1) & 0xFFFF
        return encode(Frame(FrameType.COMMAND, DEVICE_STREAM, self._command_id, 0, bytes([Command.SEND_HELLO])))

    def deaf(self) -> None:
        """A device that does not read its line: it repeats HELLO by itself."""
        self._next_ask_s = float("inf")

    def farewell(self) -> bytes:
        """Nothing: such a device runs on, whoever reads."""
        return b""

    def complaint(self) -> str:
        """Why bytes arrive and nothing comes of them."""
        if self._bytes_unframed > MAX_ENCODED:
            return (
                f"{self._bytes_unframed} bytes arrive but no valid frame: wrong baud rate or not an edgeframe device?"
            )
        if not self.introduced and self._bytes_read:
            return (
                "frames arrive but the device does not introduce itself (no valid HELLO); edgepain conformance says why"
            )
        return ""

    def stats(self, reconnects: int) -> LinkStats:
        """Totals so far, with the reconnects that the caller counted."""
        wire, samples = self._decoder.counters, self._assembler.counters
        return LinkStats(
            bytes_read=self._bytes_read,
            frames=wire.frames,
            frames_lost=samples.lost,
            crc_errors=wire.crc_errors,
            malformed=wire.malformed + samples.malformed,
            repeated=samples.repeated,
            reconnects=reconnects,
            restarts=samples.restarts,
            out_of_order=samples.out_of_order,
            clipped=samples.clipped,
            range_switches=samples.range_switches,
        )


KIND = DeviceKind(
    name="edgeframe",
    summary="firmware of your own that speaks edgeframe v1 (docs/edgeframe.md), or `edgepain simulate`",
    signals="as the device says: eda in uS, ecg in mV, bvp in a.u., and others",
    rates="as the device says",
    wiring="USB or UART at 115200 baud; nothing else to set",
    baud=115_200,
    options=EdgeframeOptions,
    open=lambda options: EdgeframeDriver(),
)
