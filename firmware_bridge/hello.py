"""HELLO: how an edgeframe device describes itself, as CBOR in at most 240 bytes.

    {"device": text, "firmware": text, "boot_id": u32, "uptime_us": u64,
     "streams": [[name, unit, rate_hz, "i2" | "f4", scale, offset], ...]}

`boot_id` is drawn anew at every start. `uptime_us` is the device clock before it was cut to the 32 bits of
the frame header. A value is raw · scale + offset; raw −32768 of an "i2" stream marks a missing sample.
Streams are arrays, not maps, so that six of them fit one frame.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import cbor2
import msgspec

from edgepain.firmware_bridge.edgeframe import MAX_PAYLOAD
from edgepain.signal import DeviceInfo, Modality, StreamInfo

MISSING_I2 = -32768

# No control characters: these texts are shown on terminals.
_Text = Annotated[str, msgspec.Meta(max_length=32, pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z")]
_Coefficient = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]


class StreamHello(msgspec.Struct, frozen=True, array_like=True):
    """One stream as the device describes it; its index in `Hello.streams` is the `stream` of its frames."""

    name: _Text
    unit: _Text
    rate_hz: Annotated[float, msgspec.Meta(ge=0.01, le=100_000.0)]
    sample_type: Literal["i2", "f4"] = "i2"
    scale: _Coefficient = 1.0
    offset: _Coefficient = 0.0

    @property
    def modality(self) -> Modality | None:
        """None for a signal that this toolkit does not know."""
        return Modality(self.name) if self.name in _MODALITIES else None

    @property
    def sample_size(self) -> int:
        """Bytes a sample."""
        return 2 if self.sample_type == "i2" else 4


class Hello(msgspec.Struct, frozen=True):
    """A device's description of itself."""

    device: _Text
    firmware: _Text
    boot_id: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    uptime_us: Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
    streams: Annotated[tuple[StreamHello, ...], msgspec.Meta(min_length=1, max_length=16)]

    @property
    def info(self) -> DeviceInfo:
        """The streams this toolkit knows, in its own words."""
        streams = [StreamInfo(s.modality, s.unit, s.rate_hz) for s in self.streams if s.modality is not None]
        return DeviceInfo(self.device, self.firmware, self.boot_id, tuple(streams))


def encode_hello(hello: Hello) -> bytes:
    """The payload of a HELLO frame. Raises ValueError where it does not fit 240 bytes."""
    payload = cbor2.dumps(msgspec.to_builtins(hello), canonical=True)
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"HELLO takes {len(payload)} bytes and may take {MAX_PAYLOAD}: fewer streams, shorter names")
    return payload


def decode_hello(payload: bytes) -> Hello | None:
    """The content of a HELLO frame; None where it is not one, or says something absurd."""
    try:
        return parse_hello(payload)
    except ValueError:
        return None


def parse_hello(payload: bytes) -> Hello:
    """The content of a HELLO frame. Raises ValueError, which says what is wrong with it."""
    try:
        content = cbor2.loads(payload)
        hello = msgspec.convert(content, Hello)
    except Exception as error:
        # CBOR tags construct dates, fractions, patterns and more: what hostile ones raise has no bound.
        raise ValueError(str(error)) from error
    for i, s in enumerate(hello.streams):
        if not all(map(math.isfinite, (s.rate_hz, s.scale, s.offset))) or s.scale == 0:
            raise ValueError(f"rate, scale and offset must be finite and scale not 0 - at `$.streams[{i}]`")
    known = [s.modality for s in hello.streams if s.modality is not None]
    if len(known) != len(set(known)):
        raise ValueError("a signal that the toolkit knows stands there twice - at `$.streams`")
    return hello


_MODALITIES = frozenset(m.value for m in Modality)
