"""A session of an Empatica E4, played from its files as if it came from the wristband now."""

from __future__ import annotations

import time

import numpy as np

from edgepain.errors import ConfigError, DataError, PortError
from edgepain.firmware_bridge.channels import ChannelOptions
from edgepain.firmware_bridge.driver import DeviceKind
from edgepain.firmware_bridge.line import READ_SLICE_S, LineEndedError
from edgepain.firmware_bridge.messages import Channel, Chunk, Described, Stream, pack
from edgepain.firmware_bridge.streams_driver import StreamsDriver
from edgepain.signal import Recording, read_e4_session

_CHUNK_SAMPLES = 2**15


class E4Options(ChannelOptions, frozen=True):
    """speed: seconds of the session a second."""

    speed: float = 1.0


class E4Line:
    """Plays a session; see `Line`. A chunk holds what a signal measured since the one before."""

    def __init__(self, session: Recording, speed: float) -> None:
        self._signals = [(signal.times_s, signal.values.astype("<f4")) for signal in session.signals.values()]
        self._next = [0] * len(self._signals)
        self._speed = speed
        self._begin_s = time.monotonic()
        self._told = f"session {session.name} was played"
        self._pending = pack(
            Described(
                f"Empatica E4, session {session.name}",
                session.name,
                "E4",
                tuple(
                    Stream(str(s.modality), str(s.modality), s.rate_hz, (Channel(str(s.modality), "", s.unit),))
                    for s in session.signals.values()
                ),
            )
        )

    def read(self, wait: bool) -> bytes:
        """What was measured up to now. Raises LineEndedError when all was read."""
        out, self._pending = self._pending, b""
        out += self._due()
        if out or not wait:
            return out
        coming = [times_s[k] for (times_s, _), k in zip(self._signals, self._next, strict=True) if k < times_s.size]
        if not coming:
            raise LineEndedError(self._told)
        due_s = float(min(coming)) / self._speed + self._begin_s
        time.sleep(min(max(due_s - time.monotonic(), 0.0), READ_SLICE_S))
        return self._due()

    def write(self, data: bytes) -> None:
        """Nothing: files take nothing."""

    def close(self) -> None:
        """Nothing is open."""

    def _due(self) -> bytes:
        now_s = (time.monotonic() - self._begin_s) * self._speed
        out = b""
        for index, (times_s, values) in enumerate(self._signals):
            begin = self._next[index]
            end = min(int(np.searchsorted(times_s, now_s, side="right")), begin + _CHUNK_SAMPLES)
            if end > begin:
                self._next[index] = end
                out += pack(Chunk(index, times_s[begin:end].tobytes(), values[begin:end].tobytes(), "<f4"))
        return out


def open_e4(port: str, baud: int, options: E4Options) -> E4Line:
    """Play the session in the folder `port`. Raises PortError where there is none, ConfigError."""
    if not 0 < options.speed <= 1000:
        raise ConfigError(
            f"speed={options.speed:g}: play an E4 session at more than 0 and at most 1000 times its speed"
        )
    try:
        return E4Line(read_e4_session(port), options.speed)
    except DataError as error:
        raise PortError(str(error)) from error


KIND = DeviceKind(
    name="e4",
    summary="a session folder of an Empatica E4 (EDA.csv, BVP.csv), played as if it were worn now",
    signals="eda in uS, bvp in the device's own unit",
    rates="of the files: eda 4 Hz, bvp 64 Hz",
    wiring="--port FOLDER; speed=10 plays it ten times as fast",
    baud=None,
    options=E4Options,
    open=StreamsDriver,
    line=open_e4,
)
