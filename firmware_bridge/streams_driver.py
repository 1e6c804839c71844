"""The driver of transports that give messages: descriptions of streams, chunks of samples, offsets of clocks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgepain.errors import ConfigError
from edgepain.firmware_bridge.assembler import RESTART_GAP_S
from edgepain.firmware_bridge.channels import ChannelOptions, Chosen, choose_channels
from edgepain.firmware_bridge.clock import DeviceClock
from edgepain.firmware_bridge.messages import VALUE_TYPES, Chunk, Described, Offset, Unpacker
from edgepain.firmware_bridge.sender_times import RESOLUTION_HZ, SenderTimes
from edgepain.signal import DeviceInfo, LinkStats, Modality, Samples, StreamInfo
from edgepain.signal.offset import SteadyOffset

# A sender's clock does not jump further than this, nor back by more than this: it began anew.
_MAX_JUMP_S, _MAX_BACK_S = 600.0, 1.0
# Streams of one machine have one clock, told with an error of the network's. Those of two count from when each started.
_SAME_CLOCK_S = 0.02
# No clock says more seconds than this, by which sums of them stay exact to 0.1 ms.
_MAX_TIME_S = 1e11


@dataclass
class _Track:
    """One stream. offset_s: of its clock to this machine's, where it is known. apart: to that of the first stream.

    latest_s, arrival_s: its newest sample, on the clock of the first stream, and when that came.
    """

    channels: int
    chosen: list[Chosen]
    times: SenderTimes
    latest_s: float | None = None
    arrival_s: float = 0.0
    offset_s: float | None = None
    apart: SteadyOffset = field(default_factory=SteadyOffset)


class StreamsDriver:
    """One sender of one or more streams; see `Driver`.

    Session time is the clock of the first stream that is read, 0 at the first sample. Other streams are moved to it by
    the offsets of the clocks. After a restart of the sender it goes on where its clock did, else by the host's clock.
    """

    def __init__(self, options: ChannelOptions) -> None:
        self.clock = DeviceClock()
        self._options = options
        self._unpacker = Unpacker()
        self._described: Described | None = None
        self._tracks: list[_Track] = []
        self._introduced = False
        self._refused = ""
        self._frames = self._malformed = self._bytes_read = self._starts = 0
        self._lost_before = self._dropped_before = 0
        self._zero_s: float | None = None
        self._base_s = self._end_s = self._arrival_s = 0.0
        self._latest_s = 0.0
        self._last_s: dict[Modality, float] = {}
        self._anew = False

    @property
    def introduced(self) -> bool:
        """Whether a description came since the line was opened, and something in it can be read."""
        return self._introduced

    @property
    def frames(self) -> int:
        """Samples so far, of each stream that is read."""
        return self._frames

    def feed(self, data: bytes, arrival_s: float) -> list[DeviceInfo | Samples]:
        """What `data`, read at `arrival_s`, completes."""
        self._bytes_read += len(data)
        events: list[DeviceInfo | Samples] = []
        for message in self._unpacker.feed(data):
            if isinstance(message, Described):
                events += self._describe(message)
            elif isinstance(message, Chunk):
                events += self._chunk(message, arrival_s)
            else:
                self._note_offset(message)
        return events

    def cut(self) -> None:
        """The line was cut or opened: a description comes first."""
        self._unpacker.restart()
        self._introduced = False
        for track in self._tracks:
            track.times.cut()

    def request(self, now_s: float) -> bytes:
        """Nothing: such a sender sends of itself."""
        return b""

    def deaf(self) -> None:
        """Nothing was asked, so nothing changes."""

    def farewell(self) -> bytes:
        """Nothing."""
        return b""

    def complaint(self) -> str:
        """Why bytes arrive and nothing comes of them."""
        if self._refused or self._introduced or not self._bytes_read:
            return self._refused
        return "messages arrive but no description of their streams"

    def stats(self, reconnects: int) -> LinkStats:
        """Totals so far. A frame is a sample of a stream; lost by its stamps, where these are believed."""
        return LinkStats(
            bytes_read=self._bytes_read,
            frames=self._frames,
            frames_lost=self._lost_before + sum(track.times.lost for track in self._tracks),
            crc_errors=self._unpacker.crc_errors,
            malformed=self._malformed + self._unpacker.malformed,
            out_of_order=self._dropped_before + sum(track.times.dropped for track in self._tracks),
            reconnects=reconnects,
            restarts=max(self._starts - 1, 0),
            lost_is_minimum=any(track.times.even for track in self._tracks),
        )

    def _describe(self, described: Described) -> list[DeviceInfo | Samples]:
        before, self._described = self._described, described
        if before == described and self._tracks:
            self._introduced = True
            return []
        for track in self._tracks:
            self._keep_counts(track)
        self._tracks = []
        try:
            chosen = choose_channels(described.streams, self._options)
        except ConfigError as error:
            self._refused, self._introduced = str(error), False
            return []
        self._tracks = [
            _Track(len(s.channels), [c for c in chosen if c.stream == k], SenderTimes(s.rate_hz or 1.0))
            for k, s in enumerate(described.streams)
        ]
        self._refused, self._introduced = "", True
        self._anew = before is not None and before.clock != described.clock
        self._starts += 1
        streams = tuple(StreamInfo(c.modality, c.modality.unit, described.streams[c.stream].rate_hz) for c in chosen)
        return [DeviceInfo(described.device, "unknown", self._starts, streams)]

    def _note_offset(self, offset: Offset) -> None:
        if 0 <= offset.stream < len(self._tracks) and abs(offset.seconds) <= _MAX_TIME_S:
            self._tracks[offset.stream].offset_s = offset.seconds
        else:
            self._malformed += 1

    def _chunk(self, chunk: Chunk, arrival_s: float) -> list[DeviceInfo | Samples]:
        if not self._introduced:
            return []
        track = self._tracks[chunk.stream] if 0 <= chunk.stream < len(self._tracks) else None
        content = None if track is None else _read(chunk, track.channels)
        if track is None or content is None:
            self._malformed += 1
            return []
        if not track.chosen:
            return []
        stamps_s, values = content
        self._frames += stamps_s.size
        session_s, kept = self._place(track, stamps_s, arrival_s)
        if not session_s.size:
            return []
        self._end_s = max(self._end_s, float(session_s[-1]))
        here_s = arrival_s if track.offset_s is None else float(stamps_s[-1]) + track.offset_s
        self.clock.update(float(session_s[-1]), here_s)
        return [self._samples(c, session_s, values[kept, c.column], arrival_s) for c in track.chosen]

    def _place(
        self, track: _Track, stamps_s: npt.NDArray[np.float64], arrival_s: float
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
        """Session times of the samples that are kept [k], and which of the stamps [n] they are of."""
        taken_s = stamps_s + self._shift_s(track, float(stamps_s[-1]))
        if self._began_anew(track, float(taken_s[0]), arrival_s):
            self._begin_anew(float(taken_s[0]), arrival_s)
        times_s, believed = track.times.place(taken_s)
        track.latest_s = self._latest_s = float(taken_s[-1])
        track.arrival_s = self._arrival_s = arrival_s
        assert self._zero_s is not None
        # Times that are whole in µs come out exact, whatever the clock's zero: windows then begin at the same samples.
        session_s = np.round((times_s - self._zero_s + self._base_s) * RESOLUTION_HZ) / RESOLUTION_HZ
        # After a restart a sender may send again what it sent before.
        later = session_s > max(self._last_s.get(chosen.modality, float("-inf")) for chosen in track.chosen)
        self._dropped_before += int(later.size - np.count_nonzero(later))
        session_s = session_s[later]
        if session_s.size:
            self._last_s |= {chosen.modality: float(session_s[-1]) for chosen in track.chosen}
        return session_s, np.flatnonzero(believed)[later]

    def _shift_s(self, track: _Track, at_s: float) -> float:
        """From the clock of this stream to that of the first that is read."""
        first = next(other for other in self._tracks if other.chosen)
        if track is first or track.offset_s is None or first.offset_s is None:
            return 0.0
        apart_s = track.offset_s - first.offset_s
        if abs(apart_s) < _SAME_CLOCK_S:
            return 0.0
        return track.apart.follow(apart_s, at_s)

    def _began_anew(self, track: _Track, taken_s: float, arrival_s: float) -> bool:
        if self._zero_s is None or self._anew:
            return True
        if track.latest_s is None:
            ahead_s = taken_s - self._latest_s
            return abs(ahead_s) > _MAX_JUMP_S or self._far_back(track, taken_s)
        ahead_s = taken_s - track.latest_s
        return ahead_s < -_MAX_BACK_S or ahead_s - (arrival_s - track.arrival_s) > _MAX_JUMP_S

    def _far_back(self, track: _Track, taken_s: float) -> bool:
        """Whether a sender that was described anew has gone back further than it may."""
        assert self._zero_s is not None
        session_s = taken_s - self._zero_s + self._base_s
        return any(session_s < self._last_s.get(c.modality, session_s) - _MAX_BACK_S for c in track.chosen)

    def _begin_anew(self, taken_s: float, arrival_s: float) -> None:
        if self._zero_s is not None:
            self._base_s = self._end_s + max(arrival_s - self._arrival_s, RESTART_GAP_S)
        described, self._anew, self._zero_s = self._described, False, taken_s
        assert described is not None
        for track, stream in zip(self._tracks, described.streams, strict=True):
            self._keep_counts(track)
            track.times, track.latest_s = SenderTimes(stream.rate_hz or 1.0), None
        self._latest_s = taken_s
        self.clock.reset()

    def _keep_counts(self, track: _Track) -> None:
        self._lost_before += track.times.lost
        self._dropped_before += track.times.dropped

    def _samples(
        self,
        chosen: Chosen,
        times_s: npt.NDArray[np.float64],
        column: npt.NDArray[np.float64],
        arrival_s: float,
    ) -> Samples:
        assert self._described is not None
        with np.errstate(over="ignore", invalid="ignore"):
            values = (column * chosen.factor).astype(np.float32)
        return Samples(chosen.modality, times_s, values, self._described.streams[chosen.stream].rate_hz, arrival_s)


def _read(chunk: Chunk, channels: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
    """Stamps [n] and values [n, channels] of a chunk that is what it should be."""
    if chunk.value_type not in VALUE_TYPES or len(chunk.times_s) % 8 or not chunk.times_s:
        return None
    stamps_s = np.frombuffer(chunk.times_s, "<f8")
    value_type = np.dtype(chunk.value_type)
    if len(chunk.values) != stamps_s.size * channels * value_type.itemsize:
        return None
    if not (np.abs(stamps_s) <= _MAX_TIME_S).all() or np.abs(np.diff(stamps_s)).max(initial=0.0) > _MAX_JUMP_S:
        return None
    values = np.frombuffer(chunk.values, value_type).reshape(stamps_s.size, channels)
    return stamps_s.astype(np.float64), values.astype(np.float64)
