"""The streams of the Lab Streaming Layer that can be seen from this machine, and what they say of themselves."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgepain.firmware_bridge.messages import Channel, Stream
from edgepain.lsl import load_lsl

_POLL_S = 0.02
# liblsl asks all programs of one machine only after half a second.
_OTHERS_S = 0.8


@dataclass(frozen=True)
class LslStream:
    """What a stream says of itself in short. rate_hz: 0 for no regular rate."""

    name: str
    type: str
    channels: int
    rate_hz: float
    host: str
    source_id: str

    @classmethod
    def of(cls, info: Any) -> LslStream:
        """From a `pylsl.StreamInfo`."""
        return cls(
            info.name(), info.type(), info.channel_count(), info.nominal_srate(), info.hostname(), info.source_id()
        )


def list_streams(wait_s: float = 1.0) -> list[LslStream]:
    """All that answer within `wait_s`, by name. Raises MissingExtraError."""
    found = load_lsl().resolve_streams(wait_s)
    return sorted({LslStream.of(info) for info in found}, key=lambda stream: (stream.name, stream.source_id))


def describe_streams(streams: Sequence[LslStream]) -> str:
    """The streams for a person."""
    paragraphs = []
    for stream in streams:
        rate = f"{stream.rate_hz:g} Hz" if stream.rate_hz else "no regular rate"
        lines = (
            stream.name,
            f"{stream.type or 'no type'}, {stream.channels} channels, {rate}",
            f"on {stream.host}, source_id={stream.source_id}",
        )
        # What a stream says of itself may be anything, and goes to a terminal.
        paragraphs.append("\n  ".join("".join(filter(str.isprintable, line)) for line in lines))
    return "\n\n".join(paragraphs) or "no LSL stream answers: is its sender running, and on this network?"


def find_streams(predicate: str, wait_s: float) -> list[Any]:
    """`pylsl.StreamInfo` of all that fit an XPath predicate, one an outlet; waits up to `wait_s` for the first."""
    resolver = load_lsl().ContinuousResolver(pred=predicate)
    deadline_s = time.monotonic() + wait_s
    while not resolver.results() and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    # Another of the same name may answer a little later, and is to be told apart.
    time.sleep(_OTHERS_S)
    return list({info.uid(): info for info in resolver.results()}.values())


def stream_of(info: Any) -> Stream:
    """Name, kind, rate and channels by the full description of a stream."""
    told = _channels(info.as_xml())
    count = info.channel_count()
    if len(told) == count - 1:
        # OpenSignals: a sequence number goes first, and is left out of the description.
        told = [Channel("nSeq"), *told]
    channels = told if len(told) == count else [Channel()] * count
    return Stream(info.name(), info.type(), info.nominal_srate(), tuple(channels))


def _channels(xml: str) -> list[Channel]:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return []
    return [
        Channel(_text(channel, "label") or _text(channel, "name"), _kind(channel), _text(channel, "unit"))
        for channel in root.findall("./desc/channels/channel")
    ]


def _kind(channel: ElementTree.Element) -> str:
    return _text(channel, "type") or _text(channel, "sensor")


def _text(channel: ElementTree.Element, tag: str) -> str:
    return (channel.findtext(tag) or "").strip()
