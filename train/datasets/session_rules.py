"""`sessions.toml`: which markers begin and end which class, and whose recordings these are."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edgepain.errors import ConfigError, DataError
from edgepain.signal import Event

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

RULES = "sessions.toml"
_Seconds = Annotated[float, Meta(gt=0, le=86_400)]
_Name = Annotated[str, Meta(min_length=1, max_length=200)]


@dataclass(frozen=True)
class SessionMarker:
    """A marker of a recording. at_s: on the recording's clock."""

    at_s: float
    label: str
    value: float | None


class Stretch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"class_": "class"}):
    """From each marker `begin` to the next marker `end`, or for so many seconds, it is this class."""

    class_: _Name
    begin: _Name
    end: _Name | None = None
    seconds: _Seconds | None = None

    def __post_init__(self) -> None:
        if (self.end is None) == (self.seconds is None):
            raise ValueError("a stretch has either `end` or `seconds`")


class Rating(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The seconds around each marker with a value are the class whose range [least, greatest] the value lies in."""

    classes: dict[_Name, tuple[float, float]]
    marker: _Name = "NRS"
    before_s: Annotated[float, Meta(ge=0, le=3600)] = 10.0
    after_s: Annotated[float, Meta(ge=0, le=3600)] = 0.0

    def __post_init__(self) -> None:
        if self.before_s + self.after_s <= 0:
            raise ValueError("before_s and after_s are both 0: a rating must be about some seconds")


class SessionRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file. classes: names in the order of their labels. subjects: ids with the names of their recordings; without
    it, what stands before the first `_` of a file's name is the id."""

    classes: Annotated[tuple[_Name, ...], Meta(min_length=2)]
    stretch: tuple[Stretch, ...] = ()
    rating: Rating | None = None
    subjects: dict[_Name, tuple[_Name, ...]] | None = None

    def __post_init__(self) -> None:
        named = [stretch.class_ for stretch in self.stretch] + list(self.rating.classes if self.rating else ())
        if unknown := set(named) - set(self.classes):
            raise ValueError(f"class {min(unknown)!r} is not in `classes`")
        if not named:
            raise ValueError("neither [[stretch]] nor [rating] says which markers mean which class")

    def subject_of(self, stem: str) -> str | None:
        """Whose recording `stem` is; None where `subjects` does not name it."""
        if self.subjects is None:
            return stem.partition("_")[0] or stem
        return next((subject for subject, stems in self.subjects.items() if stem in stems), None)

    def events(self, markers: Sequence[SessionMarker], complain: Callable[[str], None]) -> tuple[Event, ...]:
        """Labelled stretches in order of time. `complain` is told of each that is left out, and why."""
        found = [event for rule in self.stretch for event in self._stretches(rule, markers, complain)]
        if self.rating:
            found += self._rated(self.rating, markers)
        kept: list[Event] = []
        for event in sorted(found, key=lambda event: event.start_s):
            if kept and event.start_s < kept[-1].end_s and event.label != kept[-1].label:
                before = kept[-1].name
                complain(
                    f"{event.name!r} at {event.start_s:.1f} s is of another class than {before!r}, which has not ended"
                )
            else:
                kept.append(event)
        return tuple(kept)

    def _stretches(
        self, rule: Stretch, markers: Sequence[SessionMarker], complain: Callable[[str], None]
    ) -> Iterator[Event]:
        label, begun_s = self.classes.index(rule.class_), None
        for marker in markers:
            if marker.label == rule.begin and rule.seconds is not None:
                yield Event(rule.begin, label, marker.at_s, marker.at_s + rule.seconds)
            elif marker.label == rule.begin:
                if begun_s is not None:
                    complain(f"{rule.begin!r} at {begun_s:.1f} s begins again before {rule.end!r}")
                begun_s = marker.at_s
            elif marker.label == rule.end and begun_s is not None:
                yield Event(rule.begin, label, begun_s, marker.at_s)
                begun_s = None
        if begun_s is not None:
            complain(f"{rule.begin!r} at {begun_s:.1f} s has no {rule.end!r} after it")

    def _rated(self, rating: Rating, markers: Sequence[SessionMarker]) -> Iterator[Event]:
        for marker in markers:
            if marker.label != rating.marker or marker.value is None:
                continue
            for name, (least, greatest) in rating.classes.items():
                if least <= marker.value <= greatest:
                    start_s, end_s = marker.at_s - rating.before_s, marker.at_s + rating.after_s
                    yield Event(f"{marker.label} {marker.value:g}", self.classes.index(name), start_s, end_s)
                    break


def load_rules(root: Path) -> SessionRules:
    """Read `<root>/sessions.toml`. Raises DataError where it is not there, ConfigError where it is wrong."""
    path = root / RULES
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); docs/recording.md says what stands in it") from error
    try:
        return msgspec.convert(tomllib.loads(text), SessionRules)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}; docs/recording.md has an example") from error
