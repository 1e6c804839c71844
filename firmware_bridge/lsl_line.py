"""Streams of the Lab Streaming Layer as a line: found by name or by what they say of themselves, read all together."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepain.errors import ConfigError, PortError
from edgepain.firmware_bridge.channels import ChannelOptions, choose_channels
from edgepain.firmware_bridge.driver import DeviceKind
from edgepain.firmware_bridge.line import READ_SLICE_S, LineGoneError
from edgepain.firmware_bridge.lsl_streams import LslStream, find_streams, list_streams, stream_of
from edgepain.firmware_bridge.messages import Chunk, Described, Offset, pack
from edgepain.firmware_bridge.streams_driver import StreamsDriver
from edgepain.lsl import load_lsl, monotonic_offset_s

# What an outlet answers to takes milliseconds on one machine, and a second over a busy radio link.
ANSWER_S = 3.0
OFFSET_PERIOD_S = 5.0
_POLL_S = 0.005
_CHUNK_VALUES = 2**15


_VALUE_TYPES = {
    "cf_float32": "<f4",
    "cf_double64": "<f8",
    "cf_int64": "<i8",
    "cf_int32": "<i4",
    "cf_int16": "<i2",
    "cf_int8": "|i1",
}


@dataclass
class _Inlet:
    inlet: Any
    values: npt.NDArray[Any]


class LslLine:
    """Open inlets; see `Line`. What they give is packed as `messages`."""

    def __init__(self, inlets: Sequence[Any], described: Described) -> None:
        self._lsl = load_lsl()
        self._inlets = [_Inlet(inlet, _buffer(self._lsl, inlet)) for inlet in inlets]
        self._gone: LineGoneError | None = None
        self._pending = pack(described) + self._offsets(ANSWER_S)

    def read(self, wait: bool) -> bytes:
        """The description first, then chunks of all streams and, now and then, the offsets of their clocks.

        Where a stream is gone, what the others had comes first.
        """
        out, self._pending = self._pending, b""
        deadline_s = time.monotonic() + READ_SLICE_S
        while True:
            if self._gone is None:
                out += self._take()
            if self._gone is not None and not out:
                raise self._gone
            if out or not wait or time.monotonic() >= deadline_s:
                return out
            time.sleep(_POLL_S)

    def write(self, data: bytes) -> None:
        """Nothing: outlets take nothing."""

    def close(self) -> None:
        """Leave the streams."""
        # An inlet is closed where it is deleted.
        self._inlets = []

    def _take(self) -> bytes:
        steps = [partial(self._chunk, k, inlet) for k, inlet in enumerate(self._inlets)]
        if time.monotonic() >= self._offsets_due_s:
            steps.append(partial(self._offsets, 0.0))
        taken = b""
        for step in steps:
            try:
                taken += step()
            except LineGoneError as error:
                self._gone = error
        return taken

    def _chunk(self, index: int, inlet: _Inlet) -> bytes:
        try:
            _, stamps_s = inlet.inlet.pull_chunk(timeout=0.0, max_samples=len(inlet.values), dest_obj=inlet.values)
        except self._lsl.util.LostError as error:
            raise LineGoneError(str(error)) from error
        if not len(stamps_s):
            return b""
        raw = inlet.values[: len(stamps_s)].tobytes()
        return pack(Chunk(index, np.array(stamps_s, "<f8").tobytes(), raw, inlet.values.dtype.str))

    def _offsets(self, timeout_s: float) -> bytes:
        self._offsets_due_s = time.monotonic() + OFFSET_PERIOD_S
        here_s = monotonic_offset_s()
        try:
            corrections = [inlet.inlet.time_correction(timeout_s) for inlet in self._inlets]
        except self._lsl.util.LostError as error:
            raise LineGoneError(str(error)) from error
        except self._lsl.util.TimeoutError:
            return b""
        return b"".join(pack(Offset(k, correction + here_s)) for k, correction in enumerate(corrections))


def open_lsl(port: str, baud: int, options: ChannelOptions) -> LslLine:
    """Open the streams that `port` names, separated by commas: `NAME`, or fields as `type=EDA&hostname=lab`.

    Raises MissingExtraError, PortError where one is not there or does not answer, ConfigError where what they say of
    themselves cannot be read.
    """
    lsl = load_lsl()
    inlets, streams = [], []
    for wanted in filter(None, port.split(",")):
        inlet = lsl.StreamInlet(_resolve(wanted.strip()), recover=False)
        try:
            info = inlet.info(timeout=ANSWER_S)
            if info.channel_format() == lsl.cf_string:
                raise ConfigError(f"LSL stream {wanted!r} is one of texts; read markers with --lsl-markers")
            inlet.open_stream(timeout=ANSWER_S)
            inlet.time_correction(timeout=ANSWER_S)
        except (lsl.util.TimeoutError, lsl.util.LostError) as error:
            raise PortError(
                f"LSL stream {wanted!r} was found and does not answer ({error}); let ports 16572 to 16604, TCP and "
                "UDP, through the firewalls"
            ) from error
        inlets.append(inlet)
        streams.append(info)
    if not inlets:
        raise ConfigError("name an LSL stream as the port; `edgepain ports --lsl` lists them")
    described = _describe(streams)
    try:
        choose_channels(described.streams, options)
    except ConfigError as error:
        raise ConfigError(f"LSL {port}: {error}") from error
    return LslLine(inlets, described)


def _buffer(lsl: Any, inlet: Any) -> npt.NDArray[Any]:
    value_type = next(ours for theirs, ours in _VALUE_TYPES.items() if getattr(lsl, theirs) == inlet.channel_format)
    channels = inlet.channel_count
    return np.empty((max(_CHUNK_VALUES // max(channels, 1), 1), channels), value_type)


def _describe(infos: Sequence[Any]) -> Described:
    streams = tuple(stream_of(info) for info in infos)
    names = ", ".join(dict.fromkeys(stream.name for stream in streams))
    hosts = ", ".join(dict.fromkeys(info.hostname() for info in infos))
    return Described(f"{names} (LSL, from {hosts})", " ".join(info.uid() for info in infos), hosts, streams)


def _resolve(wanted: str) -> Any:
    found = find_streams(_predicate(wanted), ANSWER_S)
    if not found:
        there = ", ".join(sorted({stream.name for stream in list_streams(0.5)}))
        raise PortError(
            f"no LSL stream {wanted!r} is there; "
            + (f"there are: {there}" if there else "start its sender, and let it through the firewalls")
        )
    if len(found) > 1:
        raise PortError(
            f"{len(found)} LSL streams are {wanted!r}; name one by source_id=… or hostname=…: "
            + ", ".join(sorted(_told(LslStream.of(info)) for info in found))
        )
    return found[0]


def _told(stream: LslStream) -> str:
    return f"source_id={stream.source_id} on {stream.host}"


def _predicate(wanted: str) -> str:
    """What liblsl is asked: XPath over the fields of a stream."""
    terms = []
    for part in wanted.split("&"):
        field, equals, value = part.partition("=")
        if not equals:
            field, value = "name", part
        if not re.fullmatch("name|type|hostname|source_id", field.strip()):
            raise ConfigError(f"{wanted!r}: an LSL stream is named by name, type, hostname or source_id, not {field!r}")
        quote = '"' if "'" in value else "'"
        if quote in value:
            raise ConfigError(f"{wanted!r}: name the stream by another field, without quotation marks of both kinds")
        terms.append(f"{field.strip()}={quote}{value.strip()}{quote}")
    return " and ".join(terms)


KIND = DeviceKind(
    name="lsl",
    summary="streams of the Lab Streaming Layer: OpenSignals (biosignalsplux), EmotiBit's Oscilloscope, `--lsl-out`",
    signals="by labels, kinds and units of the channels, or as you say: eda in uS, ecg in mV, bvp in its own unit",
    rates="as the streams say; streams of no regular rate are refused",
    wiring="--port NAME, or NAME,NAME for several streams; `edgepain ports --lsl` lists them; needs edgepain[lsl]",
    baud=None,
    options=ChannelOptions,
    open=StreamsDriver,
    line=open_lsl,
)
