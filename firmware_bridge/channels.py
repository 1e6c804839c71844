"""Which channels of a sender's streams are EDA, ECG and a pulse wave, and the factor to our units.

By label or number where a person says so, else by what the sender says of them. What is not clear is refused, with
what there is: a wrong channel or unit gives decisions about nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgepain.errors import ConfigError
from edgepain.firmware_bridge.driver import DriverOptions
from edgepain.firmware_bridge.messages import Channel, Stream
from edgepain.signal import Modality

MIN_RATE_HZ, MAX_RATE_HZ = 0.5, 20_000.0
_WORDS = {
    Modality.EDA: {"eda", "gsr", "electrodermal"},
    Modality.ECG: {"ecg", "ekg"},
    Modality.BVP: {"bvp", "ppg", "ppgred", "ppginfrared", "ppggreen"},
}
_ALL_WORDS = set().union(*_WORDS.values())
# Factors to Modality.unit, by the letters of the unit in lower case. Resistance is left out: it needs 1/x.
_UNITS = {
    Modality.EDA: {
        **dict.fromkeys(("us", "microsiemens", "umho", "micromho"), 1.0),
        **dict.fromkeys(("s", "siemens"), 1e6),
        **dict.fromkeys(("ms", "millisiemens"), 1e3),
        **dict.fromkeys(("ns", "nanosiemens"), 1e-3),
    },
    Modality.ECG: {
        **dict.fromkeys(("mv", "millivolt", "millivolts"), 1.0),
        **dict.fromkeys(("v", "volt", "volts"), 1e3),
        **dict.fromkeys(("uv", "microvolt", "microvolts"), 1e-3),
        **dict.fromkeys(("nv", "nanovolt", "nanovolts"), 1e-6),
    },
}


class ChannelOptions(DriverOptions, frozen=True):
    """eda, ecg, bvp: label or number (from 1) of the channel, `none` to leave it out, empty for what the sender says.

    *_factor: to µS, mV or the pulse wave's own unit; 0 for what the sender's unit says.
    """

    eda: str = ""
    ecg: str = ""
    bvp: str = ""
    eda_factor: float = 0.0
    ecg_factor: float = 0.0
    bvp_factor: float = 0.0


@dataclass(frozen=True)
class Chosen:
    """A channel that is read: column of a stream, what it is, and the factor to that modality's unit."""

    stream: int
    column: int
    modality: Modality
    factor: float


@dataclass(frozen=True)
class _Place:
    number: int
    stream: int
    column: int
    channel: Channel
    of: Stream

    @property
    def name(self) -> str:
        return self.channel.label or self.of.name

    def says(self, modality: Modality) -> bool:
        """Whether the channel itself is called so."""
        return bool((_words(self.channel.label) | _words(self.channel.kind)) & _WORDS[modality])

    def is_of(self, modality: Modality) -> bool:
        """Whether its stream is, and the channel says nothing else."""
        own = _words(self.channel.label) | _words(self.channel.kind)
        return not own & _ALL_WORDS and bool((_words(self.of.kind) | _words(self.of.name)) & _WORDS[modality])

    def __str__(self) -> str:
        unit = f" in {self.channel.unit}" if self.channel.unit else ""
        return f"{self.number} {self.name!r}{unit}"


def choose_channels(streams: Sequence[Stream], options: ChannelOptions) -> list[Chosen]:
    """The channels to read, at most one a modality. Raises ConfigError where that is not clear or cannot be."""
    places = list(_places(streams))
    chosen = []
    for modality in _WORDS:
        place = _find(places, modality, getattr(options, str(modality)))
        if place is not None:
            _check_rate(place, modality)
            factor = _factor(place, modality, getattr(options, f"{modality}_factor"))
            chosen.append(Chosen(place.stream, place.column, modality, factor))
    if not chosen:
        raise ConfigError(f"no channel is named eda, ecg or bvp; there are: {_list(places)}; say which, such as eda=1")
    return chosen


def _places(streams: Sequence[Stream]) -> Iterator[_Place]:
    number = 0
    for index, stream in enumerate(streams):
        for column, channel in enumerate(stream.channels):
            number += 1
            yield _Place(number, index, column, channel, stream)


def _words(text: str) -> set[str]:
    return {word.rstrip("0123456789") for word in re.split(r"[^a-z0-9]+", text.lower())}


def _find(places: Sequence[_Place], modality: Modality, wanted: str) -> _Place | None:
    if wanted == "none":
        return None
    if not wanted:
        fitting = [place for place in places if place.says(modality)]
        fitting = fitting or [place for place in places if place.is_of(modality)]
        if len(fitting) > 1:
            raise ConfigError(f"{len(fitting)} channels may be {modality}: {_list(fitting)}; say {modality}=NUMBER")
        return fitting[0] if fitting else None
    fitting = [place for place in places if wanted in (place.name, str(place.number))]
    if len(fitting) != 1:
        found = "no channel is" if not fitting else f"{len(fitting)} channels are"
        raise ConfigError(f"{modality}={wanted}: {found} called so; there are: {_list(places)}")
    return fitting[0]


def _check_rate(place: _Place, modality: Modality) -> None:
    rate_hz = place.of.rate_hz
    if rate_hz == 0:
        raise ConfigError(
            f"stream {place.of.name!r} ({modality}) is sampled at no regular rate and cannot be read; choose another, "
            "or have its sender state its rate"
        )
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise ConfigError(
            f"stream {place.of.name!r} ({modality}) claims {rate_hz:g} Hz; have its sender state its rate"
        )


def _factor(place: _Place, modality: Modality, given: float) -> float:
    if given:
        if not math.isfinite(given):
            raise ConfigError(f"{modality}_factor={given} is no number")
        return given
    if modality is Modality.BVP:
        return 1.0
    unit = re.sub(r"[\s_-]", "", place.channel.unit.replace("µ", "u").replace("μ", "u")).lower()
    factor = _UNITS[modality].get(unit)
    if factor is None:
        said = f"in {place.channel.unit!r}" if place.channel.unit else "in no stated unit"
        raise ConfigError(
            f"channel {place.name!r} ({modality}) is {said}; give {modality}_factor, how many {modality.unit} one is"
        )
    return factor


def _list(places: Sequence[_Place]) -> str:
    shown = "".join(filter(str.isprintable, ", ".join(map(str, places[:12]))))
    return shown + (f" and {len(places) - 12} more" if len(places) > 12 else "")
