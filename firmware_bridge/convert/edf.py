"""EDF+ and BDF+, by pyedflib: values in steps of a 16 or 24 bit scale from each signal's least value to its greatest.

One continuous file (EDF+C): readers of discontinuous ones are rare. It begins at a whole second UTC, as sub-seconds are
read back wrongly by common readers. Where a signal has no sample or no value it stays at the last one, and an
annotation `no eda` lasts as long. Samples follow each other at the rate that the device says, or at that of its longest
run where this is another (`LoggedSession.rate_hz`), which an annotation tells, so that none is left out or doubled;
each gap and each restart sets a signal right by the computer's clock. Markers stand at the sample that was taken then.
The first annotation tells the drift of the device's clock.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepain.errors import DataError, MissingExtraError
from edgepain.firmware_bridge.logged import LoggedSession
from edgepain.signal import Marker, Modality

# Seconds of a data record that are tried; its length is written in steps of 10 us.
_RECORD_S = (1, 2, 4, 5, 8, 10, 16, 20, 25, 32, 40, 50, 60)
_RECORD_DIGITS = 5
# What a rate may be off where no record holds a whole number of samples of each signal.
_RATE_PPM = 100.0
MAX_TEXT = 40
# A field of 8 characters has a sign and 7 digits.
MAX_VALUE = 9_999_000
_MAX_ANNOTATION_SIGNALS = 64
_FIELD = 8


@dataclass(frozen=True)
class Channel:
    """One signal on the grid of the file. values: [n] float32, NaN where there is none. slots: of the samples, and
    at_s: when they were taken, seconds after the first sample of the log."""

    modality: Modality
    rate_hz: float
    values: npt.NDArray[np.float32]
    slots: npt.NDArray[np.int64]
    at_s: npt.NDArray[np.float64]


@dataclass(frozen=True, order=True)
class Annotation:
    """onset_s: after the begin of the file. duration_s: −1 for none."""

    onset_s: float
    duration_s: float
    text: str


def write(session: LoggedSession, path: Path) -> None:
    """Write EDF+ to `path`. Raises OSError, DataError where a value does not fit, MissingExtraError."""
    write_steps(session, path, bits=16)


def write_steps(session: LoggedSession, path: Path, bits: int) -> None:
    """Write EDF+ (16 bits) or BDF+ (24 bits) to `path`; raises as `write`."""
    try:
        import pyedflib
    except ImportError as error:
        raise MissingExtraError("pyedflib", "convert") from error
    # A marker may be earlier than every sample.
    begin_unix_s = math.floor(session.begin_unix_s + min([0.0, *map(session.marker_s, session.markers)]))
    lead_s = session.begin_unix_s - begin_unix_s
    record_s, rates_hz = _record({modality: session.rate_hz(modality) for modality in session.modalities})
    channels = [_channel(session, modality, rate_hz, lead_s) for modality, rate_hz in rates_hz.items()]
    scales = [Scale.of(channel, bits, session) for channel in channels]
    kind = pyedflib.FILETYPE_EDFPLUS if bits == 16 else pyedflib.FILETYPE_BDFPLUS
    writer = pyedflib.EdfWriter(str(path), len(channels), file_type=kind)
    try:
        with warnings.catch_warnings():
            # It warns of every length that is set, and that its default rates would not fit into it.
            warnings.simplefilter("ignore", UserWarning)
            writer.setDatarecordDuration(record_s)
        writer.setSignalHeaders([_header(channel, scale) for channel, scale in zip(channels, scales, strict=True)])
        writer.setEquipment("edgepain")
        writer.setRecordingAdditional(_word(session.segments[0].info.name))
        writer.setStartdatetime(datetime.fromtimestamp(begin_unix_s, timezone.utc).replace(tzinfo=None))
        records = max(math.ceil(channel.values.size / (channel.rate_hz * record_s) - 1e-9) for channel in channels)
        channels = [_padded(channel, records * round(record_s * channel.rate_hz)) for channel in channels]
        annotations = _annotations(session, channels, lead_s, records * _MAX_ANNOTATION_SIGNALS)
        writer.set_number_of_annotation_signals(1 + len(annotations) // records)
        steps = [scale.steps(_filled(channel.values)) for channel, scale in zip(channels, scales, strict=True)]
        writer.writeSamples(steps, digital=True)
        for annotation in annotations:
            writer.writeAnnotation(annotation.onset_s, annotation.duration_s, annotation.text)
    finally:
        writer.close()


@dataclass(frozen=True)
class Scale:
    """physical_min, physical_max: values of the least and the greatest step, as they stand in the file."""

    physical_min: float
    physical_max: float
    bits: int

    @classmethod
    def of(cls, channel: Channel, bits: int, session: LoggedSession) -> Scale:
        """The tightest around the channel's values. Raises DataError for values that no field of the file holds."""
        there = channel.values[np.isfinite(channel.values)].astype(np.float64)
        low, high = (float(there.min()), float(there.max())) if there.size else (0.0, 1.0)
        low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
        greatest = max(abs(low), abs(high))
        if greatest > MAX_VALUE:
            raise DataError(
                f"{session.path}: {channel.modality} has values of {greatest:.3g}, more than EDF+ and BDF+ hold; "
                "convert to xdf, parquet or csv, or set the device's scale"
            )
        return cls(_field(low, math.floor), _field(high, math.ceil), bits)

    @property
    def step(self) -> float:
        """One step, in the signal's unit."""
        return (self.physical_max - self.physical_min) / float(2**self.bits - 1)

    def steps(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
        """Values [n] as steps."""
        half = 1 << (self.bits - 1)
        found = np.rint((values.astype(np.float64) - self.physical_min) / self.step) - half
        steps: npt.NDArray[np.int32] = np.clip(found, -half, half - 1).astype(np.int32)
        return steps


def _record(rates_hz: Mapping[Modality, float]) -> tuple[float, dict[Modality, float]]:
    """Seconds of a data record, and the rate of each signal as it holds them: a whole number of samples a record.

    Whole seconds where they fit; else the shortest record, of whole samples of the slowest signal, that does; else the
    one that fits best.
    """

    def held(record_s: float) -> dict[Modality, float]:
        return {m: max(round(rate_hz * record_s), 1) / record_s for m, rate_hz in rates_hz.items()}

    def off_ppm(record_s: float) -> float:
        return max(abs(rate_hz / rates_hz[m] - 1.0) * 1e6 for m, rate_hz in held(record_s).items())

    slowest_hz = min(rates_hz.values())
    counts = range(max(math.ceil(slowest_hz * _RECORD_S[0]), 1), math.floor(slowest_hz * _RECORD_S[-1]) + 1)
    tried = [*_RECORD_S, *(round(count / slowest_hz, _RECORD_DIGITS) for count in counts)]
    fits = chain((s for s in _RECORD_S if off_ppm(s) < 1.0), (s for s in tried if off_ppm(s) < _RATE_PPM))
    record_s = float(next(fits, None) or min(tried, key=off_ppm))
    return record_s, held(record_s)


def _channel(session: LoggedSession, modality: Modality, rate_hz: float, lead_s: float) -> Channel:
    """Every sample in a slot of its own, in order; after a gap or a restart in that of its time, if free."""
    slots, at_s, values = [], [], []
    free = 0
    for segment in session.segments:
        if modality not in segment.signals:
            continue
        signal, times_s = segment.signals[modality], session.times_s(segment, modality)
        runs = np.split(np.arange(signal.values.size), signal.gaps + 1)
        for run in runs:
            begin = max(free, round((float(times_s[run[0]]) + lead_s) * rate_hz))
            slots.append(begin + np.arange(run.size))
            free = begin + run.size
        at_s.append(times_s)
        values.append(signal.values)
    slot, value = np.concatenate(slots), np.concatenate(values)
    _refuse_sparse(session, free, slot.size, rate_hz)
    grid = np.full(free, np.nan, np.float32)
    grid[slot] = value
    return Channel(modality, rate_hz, grid, slot, np.concatenate(at_s))


def _refuse_sparse(session: LoggedSession, slots: int, samples: int, rate_hz: float) -> None:
    # A damaged time must not fill the disk.
    if slots > 100 * samples + 86_400 * rate_hz:
        raise DataError(
            f"{session.path}: nearly all of {slots / rate_hz / 3600:.0f} hours is a gap, too much for EDF+ and BDF+; "
            "convert to xdf, parquet or csv"
        )


def _padded(channel: Channel, size: int) -> Channel:
    grid = np.full(size, np.nan, np.float32)
    grid[: channel.values.size] = channel.values
    return Channel(channel.modality, channel.rate_hz, grid, channel.slots, channel.at_s)


def _filled(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Each missing value as the last one before it; as the first one where none is before."""
    there = np.flatnonzero(np.isfinite(values))
    if there.size == 0:
        return np.zeros_like(values)
    last = np.maximum(np.searchsorted(there, np.arange(values.size), side="right") - 1, 0)
    return values[there[last]]


def _annotations(session: LoggedSession, channels: Sequence[Channel], lead_s: float, room: int) -> list[Annotation]:
    """Clock, markers, and as many of the longest gaps as there is room for, in order of time."""
    fastest = max(channels, key=lambda channel: channel.rate_hz)
    told = [Annotation(0.0, -1.0, text) for text in (_clock_text(session), *_rate_texts(session, channels))]
    told += [Annotation(_moment_s(session, marker, fastest, lead_s), -1.0, _text(marker)) for marker in session.markers]
    gaps = sorted((gap for channel in channels for gap in _gaps(channel)), key=lambda gap: -gap.duration_s)
    if len(told) > room:
        count = len(session.markers)
        raise DataError(f"{session.path}: {count} markers are more than EDF+ and BDF+ hold; convert to xdf")
    return sorted(told + gaps[: room - len(told)])


def _gaps(channel: Channel) -> list[Annotation]:
    missing = np.concatenate(([False], ~np.isfinite(channel.values), [False])).astype(np.int8)
    begins, ends = np.flatnonzero(np.diff(missing) == 1), np.flatnonzero(np.diff(missing) == -1)
    return [
        Annotation(begin / channel.rate_hz, (end - begin) / channel.rate_hz, f"no {channel.modality}")
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)
    ]


def _moment_s(session: LoggedSession, marker: Marker, channel: Channel, lead_s: float) -> float:
    """Onset of a marker: between the samples it was made between."""
    at_s = session.marker_s(marker)
    if not channel.at_s[0] <= at_s <= channel.at_s[-1]:
        end = 0 if at_s < channel.at_s[0] else -1
        moment_s = float(channel.slots[end]) / channel.rate_hz + at_s - float(channel.at_s[end])
    else:
        moment_s = float(np.interp(at_s, channel.at_s, channel.slots)) / channel.rate_hz
    return max(moment_s, 0.0)


def _text(marker: Marker) -> str:
    text = marker.label if marker.value is None else f"{marker.label} {marker.value:g}"
    return text.encode()[:MAX_TEXT].decode(errors="ignore")


def _clock_text(session: LoggedSession) -> str:
    clock = session.segments[0].clock
    if clock.skew_ppm is None or clock.uncertainty_ms is None:
        return f"clock: {clock.basis}, drift unknown"
    return f"clock: {clock.skew_ppm:+.1f} ppm, +- {clock.uncertainty_ms:.1f} ms"


def _rate_texts(session: LoggedSession, channels: Sequence[Channel]) -> list[str]:
    """Rates that are not those that the device says."""
    stated_hz = session.stated_rates_hz
    off = [c for c in channels if session.rate_hz(c.modality) != stated_hz[c.modality]]
    return [f"rate: {c.modality} {c.rate_hz:.6g} Hz, {stated_hz[c.modality]:.6g} stated" for c in off]


def _header(channel: Channel, scale: Scale) -> dict[str, Any]:
    half = 2 ** (scale.bits - 1)
    return {
        "label": str(channel.modality).upper(),
        "dimension": channel.modality.unit,
        "sample_frequency": channel.rate_hz,
        "physical_min": scale.physical_min,
        "physical_max": scale.physical_max,
        "digital_min": -half,
        "digital_max": half - 1,
        "prefilter": "",
        "transducer": "",
    }


def _field(value: float, outward: Any) -> float:
    """The nearest number beyond `value` that a field of 8 characters holds."""
    for decimals in range(6, -1, -1):
        found = outward(value * 10**decimals) / 10**decimals
        text = str(int(found)) if decimals == 0 else repr(found)
        if len(text) <= _FIELD and "e" not in text:
            return float(found)
    raise AssertionError(f"{value} was to be refused before")


def _word(text: str) -> str:
    """A name without what the header does not take."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in text)[:20] or "unknown"
