"""A wire log played back through the same decoder that read the line: the same bytes, the same samples."""

from __future__ import annotations

from collections.abc import Iterator

from edgepain.firmware_bridge.assembler import SampleAssembler
from edgepain.firmware_bridge.edgeframe import FrameDecoder
from edgepain.firmware_bridge.recorder import WireRecording
from edgepain.signal import DeviceInfo, Samples


def replay(recording: WireRecording) -> Iterator[DeviceInfo | Samples]:
    """What the device said in a recording, in order, with the arrival times of then."""
    decoder, assembler = FrameDecoder(), SampleAssembler()
    for chunk in recording.chunks:
        if not chunk.data:
            decoder.reset()
            assembler.link_lost()
        for frame in decoder.feed(chunk.data):
            yield from assembler.push(frame, chunk.arrival_s)
