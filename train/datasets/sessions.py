"""A folder of recorded sessions with markers, made by `edgepain record` and `edgepain convert`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from edgepain.errors import DataError
from edgepain.signal import Event, Modality, Recording, Signal
from edgepain.train.datasets.base import Dataset, Placement
from edgepain.train.datasets.session_file import ENDINGS, read_session, session_name, session_signals
from edgepain.train.datasets.session_rules import RULES, load_rules


class Sessions(Dataset):
    """Files `<root>/<subject>_<anything>.parquet` or `.csv`, one a session, and `<root>/sessions.toml`, which says what
    their markers mean (see `session_rules`). Sessions of a subject come in the order of their names. Signals are those
    that more than half of the sessions have; one that lacks any of them is left out."""

    name = "sessions"
    ordered = True

    def __init__(self, root: Path | str) -> None:
        super().__init__()
        root = Path(root)
        self._rules = load_rules(root)
        self.labels = self._rules.classes
        self._signals: dict[Path, tuple[Modality, ...]] = {}
        self._files: dict[str, list[Path]] = {}
        for path in self._session_files(root):
            self._take(path)
        if not self._files:
            raise DataError(
                f"{root}: no session here that can be used; make some with `edgepain convert --to parquet --out {root}`"
            )
        # Neither one session with a signal more nor one with a signal less decides for all others.
        count = Counter(modality for there in self._signals.values() for modality in there)
        self.modalities = tuple(m for m in Modality if 2 * count[m] > len(self._signals))
        self.holdouts: Mapping[str, tuple[str, ...]] = {}
        self.placement = Placement()

    @staticmethod
    def recognises(root: Path) -> bool:
        """True where the rules lie in `root`."""
        return (root / RULES).is_file()

    def subjects(self) -> tuple[str, ...]:
        """Ids by the names of the files, or as the rules say."""
        return tuple(sorted(self._files))

    def recordings(self, subject: str) -> Iterator[Recording]:
        """Sessions of this subject that have all signals and a labelled stretch."""
        for path in self._files[subject]:
            missing = [modality for modality in self.modalities if modality not in self._signals[path]]
            if missing:
                self._report(path, f"no column {missing[0].column!r}, which other sessions have")
                continue
            try:
                signals, markers = read_session(path, self.modalities)
            except DataError as error:
                self._report(path, error)
                continue
            complaints: list[str] = []
            events = self._rules.events(markers, complaints.append)
            for number, complaint in enumerate(complaints, 1):
                self._report(f"{path}, stretch {number} left out", complaint)
            if events := tuple(_inside(events, signals)):
                yield Recording(subject, session_name(path), signals, events)
            else:
                self._report(path, f"no marker in it means a class; {RULES} says which do")

    def _session_files(self, root: Path) -> list[Path]:
        """One file a session, Parquet rather than CSV."""
        found: dict[str, Path] = {}
        for ending in ENDINGS:
            for path in sorted(root.glob(f"*{ending}")):
                name = session_name(path)
                if found.setdefault(name, path) != path:
                    self._report(path, f"the same session as {found[name].name}")
        return [found[name] for name in sorted(found)]

    def _take(self, path: Path) -> None:
        subject = self._rules.subject_of(session_name(path))
        if subject is None:
            self._report(path, f"[subjects] of {RULES} does not name it")
            return
        try:
            signals = session_signals(path)
        except DataError as error:
            self._report(path, error)
            return
        if not signals:
            self._report(path, "no column of a signal")
            return
        self._signals[path] = signals
        self._files.setdefault(subject, []).append(path)


def _inside(events: tuple[Event, ...], signals: Mapping[Modality, Signal]) -> Iterator[Event]:
    """The parts of events during which something was recorded."""
    end_s = max(signal.start_s + signal.duration_s for signal in signals.values())
    for event in events:
        start_s, stop_s = max(event.start_s, 0.0), min(event.end_s, end_s)
        if stop_s > start_s:
            yield replace(event, start_s=start_s, end_s=stop_s)
