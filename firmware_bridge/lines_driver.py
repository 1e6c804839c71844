"""The driver of boards that print text lines: sketches of Arduino-style boards, and columns of one's own.

Lines carry no check value: a damaged digit is a wrong value. What fits no line of the sketch is counted and left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from edgepain.firmware_bridge.clock import DeviceClock
from edgepain.firmware_bridge.driver import DeviceKind
from edgepain.firmware_bridge.line_times import BoardTimes, HostTimes, rate_of
from edgepain.firmware_bridge.lines import LineSplitter
from edgepain.firmware_bridge.sketches import LinesOptions, Reading, open_sketch
from edgepain.signal import DeviceInfo, LinkStats, Modality, Samples, StreamInfo

# Lines whose times tell the rate, where nobody else does: so many, and while times in milliseconds leave it more
# uncertain than this, those of a second.
LEARNING_LINES, _UNCERTAIN, _LEARNING_S = 16, 200e-6, 1.0


@dataclass
class LineCounters:
    """Totals. out_of_range: values that no sensor gives, passed on as missing. repeated, out_of_order: values as
    late as the one before, and earlier ones. doubtful: lines whose time does not follow on. clipped: sound lines with a
    value at an end of its range."""

    sound: int = 0
    malformed: int = 0
    out_of_range: int = 0
    repeated: int = 0
    out_of_order: int = 0
    doubtful: int = 0
    clipped: int = 0


@dataclass
class _Column:
    """What came of one modality since the last event."""

    times_s: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    lead_off: bool = False
    clipped: bool = False


class LinesDriver:
    """One board that prints lines; see `Driver`. Raises ConfigError for options that do not fit together."""

    def __init__(self, options: LinesOptions) -> None:
        self.clock = DeviceClock()
        self.counters = LineCounters()
        self._options = options
        self._sketch = open_sketch(options)
        self._rates_hz = dict(self._sketch.rates_hz)
        self._splitter = LineSplitter()
        self._board = BoardTimes(self._sketch.wrap_s)
        self._host = None if self._sketch.wrap_s else HostTimes(max(self._rates_hz.values()))
        self._rate_known = self._sketch.tells_rate
        if self._rate_known:
            self._board.expect(min(self._rates_hz.values()) / self._sketch.values_a_line)
        self._learning: list[float] = []
        self._introduced = False
        self._starts = 0
        self._bytes_read = self._bytes_unframed = 0
        self._board_starts = 0
        self._last_s: dict[Modality, float] = {}
        self._columns: dict[Modality, _Column] = {}

    @property
    def introduced(self) -> bool:
        """Whether a line with a value came since the line was opened, and its rate is known."""
        return self._introduced

    @property
    def frames(self) -> int:
        """Sound lines so far."""
        return self.counters.sound

    def feed(self, data: bytes, arrival_s: float) -> list[DeviceInfo | Samples]:
        """What `data`, read at `arrival_s`, completes."""
        self._bytes_read += len(data)
        before = self.frames
        readings = [reading for line in self._splitter.feed(data) if (reading := self._read(line)) and reading.values]
        self._bytes_unframed = 0 if self.frames > before else self._bytes_unframed + len(data)
        if not self._rate_known:
            readings = self._learn(readings)
        if not readings:
            return []
        if self._host is not None:
            return self._by_host(self._host, readings, arrival_s)
        return self._by_board(readings, arrival_s)

    def cut(self) -> None:
        """The line was cut: half a line is lost, and the board may have restarted."""
        self._introduced = False
        self._bytes_unframed = 0
        self._splitter.restart()
        self._learning = []
        self._board.cut()
        if self._host is not None:
            self._host.cut()

    def request(self, now_s: float) -> bytes:
        """Nothing: such a board prints, whoever reads."""
        return b""

    def deaf(self) -> None:
        """Nothing was asked, so nothing changes."""

    def farewell(self) -> bytes:
        """Nothing."""
        return b""

    def complaint(self) -> str:
        """Why bytes arrive and nothing comes of them."""
        if self._bytes_unframed:
            return (
                f"{self._bytes_unframed} bytes arrive but no line of sketch={self._options.sketch}: wrong --baud (9600 "
                "is common), sketch or columns?"
            )
        if self._learning:
            return (
                f"{len(self._learning)} lines came to measure their rate by, of {LEARNING_LINES} or those of a second; "
                "or give rate_hz"
            )
        return ""

    def stats(self, reconnects: int) -> LinkStats:
        """Totals so far. malformed: lines that fit not, were too long or of doubtful time, and values out of range."""
        lines = self.counters
        return LinkStats(
            bytes_read=self._bytes_read,
            frames=lines.sound,
            malformed=lines.malformed + self._splitter.too_long + lines.out_of_range + lines.doubtful,
            repeated=lines.repeated,
            reconnects=reconnects,
            restarts=max(self._starts - 1, 0),
            out_of_order=lines.out_of_order,
            clipped=lines.clipped,
            lost_is_minimum=True,
        )

    def _read(self, line: bytes) -> Reading | None:
        reading = self._sketch.read(line)
        if reading is None:
            self.counters.malformed += 1
        else:
            self.counters.sound += 1
            self.counters.out_of_range += reading.out_of_range
            self.counters.clipped += reading.clipped
        return reading

    def _learn(self, readings: Sequence[Reading]) -> list[Reading]:
        """The readings after those that told the rate."""
        for k, reading in enumerate(readings):
            assert reading.time_s is not None
            self._learning.append(reading.time_s)
            if len(self._learning) < LEARNING_LINES:
                continue
            rate_hz, error = rate_of(self._learning)
            if error > _UNCERTAIN and len(self._learning) < _LEARNING_S * rate_hz:
                continue
            self._learning = []
            if rate_hz:
                self._rates_hz = dict.fromkeys(self._rates_hz, rate_hz)
                self._rate_known = True
                self._board.expect(rate_hz)
                return list(readings[k + 1 :])
        return []

    def _by_host(self, host: HostTimes, readings: Sequence[Reading], arrival_s: float) -> list[DeviceInfo | Samples]:
        events: list[DeviceInfo | Samples] = [] if self._introduced else [self._introduce()]
        for reading, at_s in zip(readings, host.place(len(readings), arrival_s), strict=True):
            self._keep(reading, at_s)
        return events + self._flush(arrival_s)

    def _by_board(self, readings: Sequence[Reading], arrival_s: float) -> list[DeviceInfo | Samples]:
        events: list[DeviceInfo | Samples] = []
        for reading in readings:
            assert reading.time_s is not None
            at_s = self._board.place(reading.time_s, arrival_s)
            if at_s is None:
                self.counters.doubtful += 1
                continue
            if self._board.starts > self._board_starts:
                self._board_starts = self._board.starts
                events += [*self._flush(arrival_s), self._introduce()]
            self._keep(reading, at_s)
        return events + self._flush(arrival_s)

    def _introduce(self) -> DeviceInfo:
        self._introduced = True
        self._starts += 1
        self.clock.reset()
        streams = tuple(StreamInfo(m, m.unit, rate_hz) for m, rate_hz in self._rates_hz.items())
        return DeviceInfo(f"text lines ({self._options.sketch})", "unknown", self._starts, streams)

    def _keep(self, reading: Reading, at_s: float) -> None:
        for modality, values in reading.values.items():
            last_s = self._last_s.get(modality, float("-inf"))
            if at_s == last_s:
                self.counters.repeated += len(values)
                continue
            if at_s < last_s:
                self.counters.out_of_order += len(values)
                continue
            column = self._columns.setdefault(modality, _Column())
            column.times_s += _spread(len(values), last_s, at_s, self._rates_hz[modality])
            column.values += values
            column.lead_off |= reading.lead_off
            column.clipped |= reading.clipped
            self._last_s[modality] = at_s

    def _flush(self, arrival_s: float) -> list[Samples]:
        columns, self._columns = self._columns, {}
        if columns:
            self.clock.update(max(column.times_s[-1] for column in columns.values()), arrival_s)
        return [
            Samples(
                modality,
                np.array(column.times_s),
                np.array(column.values, np.float32),
                self._rates_hz[modality],
                arrival_s,
                lead_off=column.lead_off,
                clipped=column.clipped,
            )
            for modality, column in columns.items()
        ]


def _spread(count: int, last_s: float, at_s: float, rate_hz: float) -> list[float]:
    """Times of `count` values of one line, the last at `at_s`: evenly from the line before, where none is missing."""
    step_s = (at_s - last_s) / count
    if step_s > 2.0 / rate_hz:
        step_s = 1.0 / rate_hz
    return [at_s - step_s * k for k in range(count - 1, -1, -1)]


KIND = DeviceKind(
    name="lines",
    summary="a board that prints numbers as text: PulseSensor, MAX3010x, Grove GSR, EmotiBit, or columns of your own",
    signals="as the sketch or the columns say: eda in uS, ecg in mV, bvp in a.u.",
    rates="by the times in the lines, else of the sketch or as rate_hz says",
    wiring="USB; 115200 baud unless --baud says otherwise (Grove GSR 9600, EmotiBit in test mode 2000000)",
    baud=115_200,
    options=LinesOptions,
    open=LinesDriver,
)
