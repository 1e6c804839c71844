"""Write simulated people to disk in the true layouts of BioVid, AI4PAIN and Empatica E4, or as plain recordings."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepain.errors import ConfigError, DataError
from edgepain.train.datasets.base import SYNTHETIC_MARKER
from edgepain.train.datasets.biovid import CLIP_ROWS, LEVELS
from edgepain.train.datasets.biovid import RATE_HZ as BIOVID_HZ
from edgepain.train.datasets.biovid_subjects import NONREACTIVE, VALIDATION
from edgepain.train.datasets.person import Protocol, Session, Stimulus, neurokit, simulate_session

__all__ = [
    "Protocol",
    "simulate_session",
    "write_ai4pain",
    "write_biovid",
    "write_e4",
    "write_recording",
    "write_recordings",
]

AI4PAIN_HZ = 100.0
E4_EDA_HZ, E4_BVP_HZ = 4, 64
# A round number far from any real session.
E4_START_S = 1_000_000_000
# BioVid's owners cut every clip this long after the stimulus began.
CLIP_OFFSET_S = 3.0
MARKER_TEXT = """\
These files are simulated: no person was measured. They have the layout of {layout} and none of its data.
Written by: edgepain data synth (seed {seed}).
"""
# Official split of the challenge by subject number.
AI4PAIN_TRAIN = (1, 2, 4, 5, 6, 8, 11, 12, 13, 15, 16, 18, 21, 22, 24, 25, 27, 28, 29, 30, 34, 36, 37)
AI4PAIN_TRAIN += (*range(41, 50), 52, 53, *range(55, 61), 63)
AI4PAIN_VALIDATION = (7, 9, 10, 14, 19, 35, 38, 39, 40, 61, 62, 65)
AI4PAIN_TEST_RESTS = 4
AI4PAIN_TEST = (3, 17, 20, 23, 26, 31, 32, 33, 50, 51, 54, 64)

Progress = Callable[[int, int], None]


def write_biovid(
    root: Path | str, subjects: int, seed: int, trials: int = 20, progress: Progress | None = None
) -> None:
    """Write `subjects` people with `trials` clips of each of the five levels (20 in the real database).

    Raises DataError where `root` is not empty, ConfigError where more than 87 subjects are asked for.
    """
    ids = _biovid_ids()
    _check_counts(subjects, len(ids), trials)
    root = _prepare(Path(root), "the BioVid Heat Pain Database, Part A", seed)
    # Part A may be opened, or copied away, on its own.
    part = _prepare(root / "PartA", "the BioVid Heat Pain Database, Part A", seed)
    protocol = Protocol(levels=tuple(range(5)) * trials)
    rows = ["subject_id\tsubject_name\tclass_id\tclass_name\tsample_id\tsample_name"]
    for index, subject in enumerate(ids[:subjects]):
        if progress:
            progress(index, subjects)
        session = simulate_session(_seed(seed, index), protocol, BIOVID_HZ)
        emg_uv = np.random.default_rng(_seed(seed, index)).normal(0.0, 4.0, session.eda_us.size)
        folder = part / "biosignals_filtered" / subject
        for number, stimulus in _numbered(session.stimuli, trials):
            sample = f"{subject}-{LEVELS[stimulus.level]}-{number:03d}"
            _write_clip(folder / f"{sample}_bio.csv", session, stimulus, emg_uv)
            sample_id = index * 5 * trials + number
            rows.append(f"{index + 1}\t{subject}\t{stimulus.level}\t{LEVELS[stimulus.level]}\t{sample_id}\t{sample}")
    samples = part / "starting_point" / "samples.csv"
    _write(samples, ("\n".join(rows) + "\n").encode())
    if progress:
        progress(subjects, subjects)


def write_ai4pain(
    root: Path | str, subjects: int, seed: int, trials: int = 12, progress: Progress | None = None
) -> None:
    """Write `subjects` people with `trials` low and `trials` high stimuli (12 in the real challenge of 2025).

    The official split decides the folder; subjects are taken in turn so that a few already fill all three.
    A test subject has unlabelled columns, numbered in the order of time: 29, as in the challenge. Which trials
    those are is not published; here they are the baseline, all stimuli and the first four rests.
    Raises DataError where `root` is not empty, ConfigError where more than 65 subjects are asked for.
    """
    ids = _ai4pain_ids()
    _check_counts(subjects, len(ids), trials)
    root = _prepare(Path(root), "the AI4PAIN challenge of 2025", seed)
    protocol = Protocol(levels=(2, 4) * trials, baseline_s=59.5, stimulus_s=10.22, rest_s=(39.34, 39.34))
    for index, (subject, split) in enumerate(ids[:subjects]):
        if progress:
            progress(index, subjects)
        session = simulate_session(_seed(seed, index), protocol, AI4PAIN_HZ)
        bvp_au = 0.5 + 0.02 * session.bvp_au
        trial_rows = dict(_ai4pain_trials(session, protocol))
        if split == "test":
            hidden = {f"REST_{n}" for n in range(AI4PAIN_TEST_RESTS + 1, 2 * trials)}
            shown = (rows for trial, rows in trial_rows.items() if trial not in hidden)
            trial_rows = {f"{n}": rows for n, rows in enumerate(shown, 1)}
        for name, values in (("Bvp", bvp_au), ("Eda", session.eda_us)):
            path = root / split / name / f"{subject}.csv"
            columns = {f"{subject}_{trial}": values[rows] for trial, rows in trial_rows.items()}
            _write_csv(path, _padded(columns), ["%.5f"] * len(columns))
    if progress:
        progress(subjects, subjects)


def write_e4(root: Path | str, subjects: int, seed: int, trials: int = 20, progress: Progress | None = None) -> None:
    """Write one continuous wrist-band session a person, with `trials` stimuli of each of the five levels.

    labels.csv names the 5.5 s that BioVid would cut of each stimulus: `no pain` for level 0, `pain` for level 4,
    `level 1` to `level 3` between. Raises DataError where `root` is not empty.
    """
    _check_counts(subjects, 1000, trials)
    root = _prepare(Path(root), "Empatica E4 sessions", seed)
    rows = ["subject,segment,label,start_s,end_s"]
    for index in range(subjects):
        if progress:
            progress(index, subjects)
        session = simulate_session(_seed(seed, index), Protocol(levels=tuple(range(5)) * trials), E4_BVP_HZ)
        subject = f"S{index + 1:02d}"
        for name, rate_hz, values in (("EDA", E4_EDA_HZ, session.eda_us), ("BVP", E4_BVP_HZ, session.bvp_au)):
            samples = (f"{value:.6f}" for value in values[:: E4_BVP_HZ // rate_hz])
            text = "\n".join([f"{E4_START_S:.6f}", f"{rate_hz:.6f}", *samples]) + "\n"
            _write(root / "raw" / subject / f"{name}.csv", text.encode())
        for stimulus in session.stimuli:
            segment, label = {0: ("no pain", "0"), 4: ("pain", "1")}.get(
                stimulus.level, (f"level {stimulus.level}", "")
            )
            begin_s = stimulus.onset_s + CLIP_OFFSET_S
            rows.append(f"{subject},{segment},{label},{begin_s:.3f},{begin_s + CLIP_ROWS / BIOVID_HZ:.3f}")
    _write(root / "labels.csv", ("\n".join(rows) + "\n").encode())
    if progress:
        progress(subjects, subjects)


def write_recording(path: Path | str, seed: int, duration_s: float, rate_hz: float = 64.0) -> None:
    """Write one continuous session as CSV (`.csv` or `.csv.gz`): time_s, eda_us, ecg_mv, bvp_au, label.

    label is 1 from 3 s to 8.5 s after the onset of a level-4 stimulus, where BioVid's clips lie, else 0.
    Raises ConfigError for another file name or a duration below 10 s, DataError where the file exists.
    """
    path = Path(path)
    if not path.name.endswith((".csv", ".csv.gz")):
        raise ConfigError(f"{path}: give the recording a name that ends in .csv or .csv.gz")
    if not 10.0 <= duration_s <= 86400.0:
        raise ConfigError(f"a recording of {duration_s:g} s cannot be simulated; give 10 s to a day")
    if path.exists():
        raise DataError(f"{path}: exists already; remove it or choose another name")
    # One stimulus takes at least 12 s, so these fill the whole duration.
    rounds = int(duration_s / 60.0) + 1
    session = simulate_session(seed, Protocol(levels=tuple(range(5)) * rounds), rate_hz, duration_s)
    times_s = np.arange(session.eda_us.size) / rate_hz
    label = np.zeros(times_s.size)
    for stimulus in session.stimuli:
        since_s = times_s - stimulus.onset_s
        if stimulus.level == 4:
            label[(since_s >= CLIP_OFFSET_S) & (since_s <= CLIP_OFFSET_S + CLIP_ROWS / BIOVID_HZ)] = 1
    columns = {
        "time_s": times_s,
        "eda_us": session.eda_us,
        "ecg_mv": session.ecg_mv,
        "bvp_au": session.bvp_au,
        "label": label,
    }
    _write_csv(path, columns, ["%.6f", "%.4f", "%.3f", "%.4f", "%d"])
    stem = path.name.removesuffix(".gz").removesuffix(".csv")
    _mark(path.with_name(f"{stem}.{SYNTHETIC_MARKER}"), "a recording of a wearable", seed)


def write_recordings(
    root: Path | str, subjects: int, seed: int, duration_s: float, progress: Progress | None = None
) -> list[Path]:
    """Write `<root>/S01.csv.gz` and so on, or the one file `root` if it ends in .csv or .csv.gz.

    Returns the files written. Raises as `write_recording`, and DataError where `root` is not empty.
    """
    root = Path(root)
    if root.name.endswith((".csv", ".csv.gz")):
        write_recording(root, seed, duration_s)
        return [root]
    _prepare(root, "recordings of a wearable", seed)
    paths = [root / f"S{number:02d}.csv.gz" for number in range(1, subjects + 1)]
    for index, path in enumerate(paths):
        if progress:
            progress(index, subjects)
        write_recording(path, _seed(seed, index), duration_s)
    return paths


def _numbered(stimuli: tuple[Stimulus, ...], trials: int) -> Iterator[tuple[int, Stimulus]]:
    """Clip numbers as in the database: painful ones count from 1, those without heat after them."""
    painful, painless = 0, 4 * trials
    for stimulus in stimuli:
        if stimulus.level:
            painful += 1
            yield painful, stimulus
        else:
            painless += 1
            yield painless, stimulus


def _write_clip(path: Path, session: Session, stimulus: Stimulus, emg_uv: npt.NDArray[np.float64]) -> None:
    begin = round((stimulus.onset_s + CLIP_OFFSET_S) * session.rate_hz)
    rows = slice(begin, begin + CLIP_ROWS)
    columns = {
        "time": np.arange(CLIP_ROWS) * 1e6 / session.rate_hz,
        "gsr": session.eda_us[rows],
        "ecg": session.ecg_mv[rows],
        "emg_trapezius": emg_uv[rows],
    }
    _write_csv(path, columns, ["%.0f", "%.4f", "%.3f", "%.2f"], separator="\t")


def _ai4pain_trials(session: Session, protocol: Protocol) -> Iterator[tuple[str, slice]]:
    """Name and rows of every trial in the order of time."""

    def rows(begin_s: float, end_s: float) -> slice:
        return slice(round(begin_s * session.rate_hz), round(end_s * session.rate_hz))

    counts = {"LOW": 0, "HIGH": 0}
    yield "Baseline_1", rows(0.0, protocol.baseline_s)
    for number, stimulus in enumerate(session.stimuli):
        if number:
            yield f"REST_{number}", rows(session.stimuli[number - 1].end_s, stimulus.onset_s)
        kind = "HIGH" if stimulus.level == 4 else "LOW"
        counts[kind] += 1
        yield f"{kind}_{counts[kind]}", rows(stimulus.onset_s, stimulus.end_s)


def _padded(
    columns: Mapping[str, npt.NDArray[np.float64]],
) -> dict[str, npt.NDArray[np.float64]]:
    length = max(values.size for values in columns.values())
    return {name: np.pad(values, (0, length - values.size), constant_values=np.nan) for name, values in columns.items()}


def _write_csv(
    path: Path, columns: Mapping[str, npt.NDArray[np.floating[Any]]], formats: list[str], separator: str = ","
) -> None:
    text = io.StringIO()
    row = separator.join(formats)
    table = np.column_stack(list(columns.values()))
    text.write(separator.join(columns) + "\n")
    text.writelines(row % tuple(cells) + "\n" for cells in table.tolist())
    data = text.getvalue().encode()
    # mtime 0: the same seed gives the same bytes.
    _write(path, gzip.compress(data, 6, mtime=0) if path.suffix == ".gz" else data)


def _write(path: Path, data: bytes) -> None:
    """Write one file, and the folders above it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def _biovid_ids() -> list[str]:
    """87 subject names: the published ones, in turn from both lists, then made-up ones of the same form."""
    published = [name for pair in zip(VALIDATION, NONREACTIVE, strict=False) for name in pair]
    names = list(dict.fromkeys([*published, *VALIDATION, *NONREACTIVE]))
    made_up = (f"07{day:02d}{hour:02d}_{'wm'[hour % 2]}_{20 + day}" for day in range(1, 32) for hour in (9, 14))
    ordinary = [name for name in made_up if name not in names]
    mixed = [name for pair in zip(ordinary, names, strict=False) for name in pair]
    return list(dict.fromkeys([*mixed, *names, *ordinary]))[:87]


def _ai4pain_ids() -> list[tuple[str, str]]:
    """All 65 subjects with their split; of every five the last two are of validation and test."""
    train = [(str(n), "train") for n in AI4PAIN_TRAIN]
    others = [
        pair
        for v, t in zip(AI4PAIN_VALIDATION, AI4PAIN_TEST, strict=True)
        for pair in ((str(v), "validation"), (str(t), "test"))
    ]
    mixed: list[tuple[str, str]] = []
    while train or others:
        mixed += train[:3] + others[:2]
        train, others = train[3:], others[2:]
    return mixed


def _prepare(root: Path, layout: str, seed: int) -> Path:
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(f"{root}: not an empty folder; simulated and other files must not mix")
    # First: what cannot be filled is not begun.
    neurokit()
    _mark(root / SYNTHETIC_MARKER, layout, seed)
    return root


def _mark(path: Path, layout: str, seed: int) -> None:
    _write(path, MARKER_TEXT.format(layout=layout, seed=seed).encode())


def _check_counts(subjects: int, most: int, trials: int) -> None:
    if not 1 <= subjects <= most:
        raise ConfigError(f"subjects must be 1 to {most}, not {subjects}")
    if not 1 <= trials <= 100:
        raise ConfigError(f"trials must be 1 to 100, not {trials}")


def _seed(seed: int, index: int) -> int:
    """A seed of its own for every subject of a tree."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0])
