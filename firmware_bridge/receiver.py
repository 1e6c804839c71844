"""What every reader of a line does with its bytes, whether they come from a port now or from a file."""

from __future__ import annotations

from edgepain.firmware_bridge.assembler import SampleAssembler
from edgepain.firmware_bridge.clock import DeviceClock
from edgepain.firmware_bridge.edgeframe import FrameDecoder
from edgepain.signal import DeviceInfo, LinkStats, Samples


class Receiver:
    """Bytes with the time of their arrival in, device and samples out; the counts and the device's clock beside."""

    def __init__(self) -> None:
        self.clock = DeviceClock()
        self._decoder = FrameDecoder()
        self._assembler = SampleAssembler()
        self._bytes_read = 0

    @property
    def wants_hello(self) -> bool:
        """True while data cannot be interpreted: the device has to introduce itself (again)."""
        return self._assembler.wants_hello

    @property
    def frames(self) -> int:
        """Sound frames so far."""
        return self._decoder.counters.frames

    def feed(self, data: bytes, arrival_s: float) -> list[DeviceInfo | Samples]:
        """What `data`, read at `arrival_s` (host monotonic clock), completes. Never raises."""
        self._bytes_read += len(data)
        events = [event for frame in self._decoder.feed(data) for event in self._assembler.push(frame, arrival_s)]
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
        )
