"""What every dataset offers: subjects, their labelled recordings, and the files that could not be used."""

from __future__ import annotations

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from edgepain.errors import ConfigError, DataError
from edgepain.signal import Modality, Recording

# name → (module, class), imported only when opened.
READERS = {
    "biovid": ("edgepain.train.datasets.biovid", "BioVid"),
    "ai4pain": ("edgepain.train.datasets.ai4pain", "Ai4Pain"),
    "e4": ("edgepain.train.datasets.e4", "E4Sessions"),
    "sessions": ("edgepain.train.datasets.sessions", "Sessions"),
}
# A file of this name in the root says that the data are simulated.
SYNTHETIC_MARKER = "SYNTHETIC.txt"


@dataclass(frozen=True)
class Problem:
    """A file, or a part of one (`where`), that was left out, and why."""

    where: str
    reason: str

    def __str__(self) -> str:
        return self.reason if self.reason.startswith(self.where) else f"{self.where}: {self.reason}"


@dataclass(frozen=True)
class Placement:
    """Where windows lie inside a labelled event.

    Starts are offset_s, offset_s + hop_s, … after the event's start, as long as a whole window fits, at
    most max_per_event of them. hop_s: None lays windows end to end. An event with no room at offset_s gets one
    window at its start.
    """

    offset_s: float = 0.0
    hop_s: float | None = None
    max_per_event: int | None = None

    def __post_init__(self) -> None:
        hop_s = 1.0 if self.hop_s is None else self.hop_s
        if self.offset_s < 0 or hop_s <= 0 or (self.max_per_event is not None and self.max_per_event < 1):
            raise ConfigError(f"{self}: offset_s must be ≥ 0, hop_s > 0 and max_per_event ≥ 1")


class Dataset(ABC):
    """Labelled recordings of several people.

    labels: class names; a label is an index into them. modalities: signals that every recording has.
    ordered: recordings of a subject come in the order of time. holdouts: official lists of held-out
    subjects by name. placement: where windows of this dataset usually lie. synthetic: the subjects are
    simulated. history_option: the command-line option that gives every class windows with enough history for
    causal scaling, where an option of the reader can.
    """

    name: ClassVar[str]
    ordered: ClassVar[bool]
    labels: tuple[str, ...]
    modalities: tuple[Modality, ...]
    holdouts: Mapping[str, tuple[str, ...]]
    placement: Placement
    synthetic: bool = False
    history_option: str = ""

    def __init__(self) -> None:
        self._problems: dict[str, Problem] = {}

    @staticmethod
    def recognises(root: Path) -> bool:
        """Whether `root` looks like this dataset, complete or not. A reader that cannot be guessed never does."""
        return False

    @abstractmethod
    def subjects(self) -> tuple[str, ...]:
        """Ids of all subjects with files, sorted."""

    @abstractmethod
    def recordings(self, subject: str) -> Iterator[Recording]:
        """Read this subject's recordings one by one; those that cannot be used become `problems`."""

    def problems(self) -> list[Problem]:
        """What could not be used so far: found on opening and in every recording read since."""
        return list(self._problems.values())

    def _report(self, where: Path | str, reason: object) -> None:
        """Remember a problem once, however often the file is read. `reason` may be the error itself."""
        text = str(reason).removeprefix(f"{where}: ")
        self._problems.setdefault(f"{where}", Problem(str(where), text))


def open_dataset(name: str, root: Path | str, **options: Any) -> Dataset:
    """Open the dataset that lies under `root`; `options` are those of the reader's constructor.

    Raises ConfigError for an unknown dataset or option, DataError where `root` does not hold the layout.
    """
    reader = _reader(name)
    known = list(inspect.signature(reader).parameters)[1:]
    for option in options:
        if option not in known:
            raise ConfigError(f"{name} has no option {option!r}; it has {', '.join(known)}")
    if not Path(root).is_dir():
        raise _no_folder(root, f"the {name} data")
    dataset = reader(Path(root), **options)
    assert isinstance(dataset, Dataset)
    dataset.synthetic = (Path(root) / SYNTHETIC_MARKER).is_file()
    return dataset


def guess_dataset(root: Path | str) -> str:
    """Name of the dataset whose layout lies under `root`.

    Raises DataError where `root` is no folder or has none of the layouts.
    """
    root = Path(root)
    if not root.is_dir():
        raise _no_folder(root, "a dataset")
    for name in READERS:
        if _reader(name).recognises(root):
            return name
    raise DataError(
        f"{root}: no known dataset; expected PartA/biosignals_filtered (biovid), train/Eda/<subject>.csv (ai4pain), "
        "<subject>/EDA.csv (e4) or sessions.toml (sessions)"
    )


def parse_options(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """Reader options from `NAME=VALUE` texts: a comma separates the entries of a list option.

    Raises ConfigError for a text of another form, or a value that is no boolean where one is needed.
    """
    parameters = inspect.signature(_reader(name)).parameters
    options: dict[str, Any] = {}
    for text in texts:
        option, equals, value = text.partition("=")
        if not equals or not option:
            raise ConfigError(f"option {text!r} is not NAME=VALUE")
        kind = str(parameters[option].annotation) if option in parameters else ""
        if kind == "bool":
            if value not in ("true", "false"):
                raise ConfigError(f"option {option} is true or false, not {value!r}")
            options[option] = value == "true"
        else:
            options[option] = value.split(",") if kind.startswith("Sequence") else value
    return options


def as_names(value: Sequence[str]) -> tuple[str, ...]:
    """Names from a list option; one bare text is one name, not its letters."""
    return (value,) if isinstance(value, str) else tuple(value)


def _reader(name: str) -> Any:
    if name not in READERS:
        raise ConfigError(f"no dataset is called {name!r}; there are {', '.join(sorted(READERS))}")
    module, class_name = READERS[name]
    return getattr(importlib.import_module(module), class_name)


def _no_folder(root: Path | str, what: str) -> DataError:
    wrong = "is no folder" if Path(root).exists() else "no such folder"
    return DataError(f"{root}: {wrong}; give the folder that holds {what}")
