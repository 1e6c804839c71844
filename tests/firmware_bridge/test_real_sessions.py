"""Real recordings played on a port, recorded, converted, and compared with what stands in their own files."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyedflib
import pytest
import pyxdf

from edgepain.firmware_bridge import open_recording, read_e4
from edgepain.firmware_bridge.bitalino import pack
from edgepain.signal import Modality

BANNER = b"BITalino_v5.2\n"
Expected = dict[Modality, npt.NDArray[np.float32]]


def edgepain(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edgepain", *map(str, arguments)]


def run(*arguments: object) -> str:
    done = subprocess.run(edgepain(*arguments), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def playing(*arguments: object) -> Iterator[str]:
    """The port of a command that names it first."""
    with subprocess.Popen(
        edgepain(*arguments), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[1]
        finally:
            process.kill()


def record(port: str, log: Path, *options: object) -> None:
    """Record until the port is gone."""
    command = edgepain("record", "--port", port, *options, "--give-up", 1.5, "--json", log)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 6, done.stderr
    assert '"frames_lost":0' in done.stdout.splitlines()[-1]


def wire_log(path: Path, chunks: Iterator[tuple[float, bytes]]) -> Path:
    """What a device would have sent, as `edgepain replay` plays it."""
    with open_recording(path) as recorder:
        recorder.write(100.0, b"")
        for at_s, data in chunks:
            recorder.write(100.0 + at_s, data)
    return path


def tumftm(shared_data: Path, folder: Path) -> tuple[Path, Expected]:
    """A BITalino at 1000 Hz, ECG on A2 and EDA on A3: its raw counts as its frames."""
    path = shared_data / "bitalino_tumftm" / "XY12AB34_data.txt"
    table = np.loadtxt(path, usecols=(5, 6), dtype=np.uint16)
    sent = ((k / 1000, pack(table[k : k + 100], first=k & 15)) for k in range(0, len(table), 100))
    log = folder / "recorded.wire"
    with playing("replay", wire_log(folder / "board.wire", with_banner(sent)), "--speed", 40) as port:
        record(port, log, "--device", "bitalino", "--device-option", "eda_rate_hz=1000")
    ecg, eda = table.T.astype(np.float64)
    ecg_mv, eda_us = (ecg / 1024 - 0.5) * 3.3 / 1100 * 1000, eda / 1024 * 3.3 / 0.132
    return log, {Modality.EDA: eda_us.astype(np.float32), Modality.ECG: ecg_mv.astype(np.float32)}


def opensignals(shared_data: Path, folder: Path) -> tuple[Path, Expected]:
    """Three seconds of pulse wave of 16 bits: the upper ten as the frames of a BITalino."""
    path = shared_data / "opensignals" / "bvp_sample_first3000.txt"
    counts = np.loadtxt(path, usecols=2, dtype=np.uint16) >> 6
    sent = ((k / 1000, pack(counts[k : k + 50, None], first=k & 15)) for k in range(0, len(counts), 50))
    log = folder / "recorded.wire"
    wiring = ["--device-option", "bvp=A1", "--device-option", "ecg=none", "--device-option", "eda=none"]
    with playing("replay", wire_log(folder / "board.wire", with_banner(sent)), "--speed", 2) as port:
        record(port, log, "--device", "bitalino", *wiring)
    return log, {Modality.BVP: (counts / 1024).astype(np.float32)}


def opensignals_lines(shared_data: Path, folder: Path) -> tuple[Path, Expected]:
    """The same with all 16 bits, as lines of text with a time."""
    counts = np.loadtxt(shared_data / "opensignals" / "bvp_sample_first3000.txt", usecols=2, dtype=np.uint16)
    lines = [f"{k},{count}\r\n".encode() for k, count in enumerate(counts)]
    lines[0] = b"# EndOfHeader\r\n" + lines[0]  # The first line of a link may be the rest of one, and is not read.
    sent = ((k / 1000, b"".join(lines[k : k + 50])) for k in range(0, len(lines), 50))
    log = folder / "recorded.wire"
    format_ = ["--device-option", "columns=time_ms,bvp", "--device-option", "rate_hz=1000"]
    with playing("replay", wire_log(folder / "board.wire", sent), "--speed", 2) as port:
        record(port, log, "--device", "lines", *format_)
    return log, {Modality.BVP: counts.astype(np.float32)}


def with_banner(sent: Iterator[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    yield 0.0, BANNER
    yield from ((0.5 + at_s, data) for at_s, data in sent)


def emotibit(shared_data: Path, folder: Path) -> tuple[Path, Expected]:
    """The packet log of an EmotiBit, line by line at the board's own times."""
    text = (shared_data / "emotibit" / "2025-06-27_09-56-59-929206.csv").read_bytes()
    lines = text.splitlines(keepends=True)
    first_ms = int(lines[0].split(b",")[0])
    sent = ((max(int(line.split(b",")[0]) - first_ms, 0) / 1000, line) for line in lines)
    log = folder / "recorded.wire"
    with playing("replay", wire_log(folder / "board.wire", sent), "--speed", 30) as port:
        record(port, log, "--device", "lines", "--device-option", "sketch=emotibit", "--baud", 2_000_000)
    rows = [line.split(",") for line in text.decode().splitlines()]
    values = {m: [float(v) for row in rows if row[3] == tag for v in row[6:]] for tag, m in TAGS.items()}
    return log, {modality: np.array(found, np.float32) for modality, found in values.items()}


TAGS = {"EA": Modality.EDA, "PI": Modality.BVP}


def neurokit(shared_data: Path, folder: Path) -> tuple[Path, Expected]:
    """A minute of ECG and EDA as CSV."""
    table = pd.read_csv(shared_data / "neurokit" / "bio_eventrelated_100hz.csv").iloc[:6000]
    person = folder / "person.csv"
    columns = {"time_s": np.arange(6000) / 100, "ecg_mv": table["ECG"], "eda_us": table["EDA"]}
    pd.DataFrame(columns).to_csv(person, index=False)
    log = folder / "recorded.wire"
    with playing("simulate", person, "--speed", 20) as port:
        record(port, log)
    return log, {Modality.ECG: table["ECG"].to_numpy(np.float32), Modality.EDA: table["EDA"].to_numpy(np.float32)}


def stress_predict(shared_data: Path, folder: Path) -> tuple[Path, Expected]:
    """Two minutes of an Empatica E4 session."""
    session = shared_data / "stress_predict" / "raw" / "S01"
    log = folder / "recorded.wire"
    with playing("simulate", session, "--speed", 40, "--duration", 120) as port:
        record(port, log)
    signals = read_e4(session).signals
    return log, {m: s.values[: int(np.searchsorted(s.times_s, 120.0))] for m, s in signals.items()}


def bdf_samples(path: Path) -> Iterator[tuple[str, tuple[npt.NDArray[np.float64], float]]]:
    """Samples of each signal, without where annotations say that there is none; and one step."""
    with pyedflib.EdfReader(str(path)) as file:
        notes = list(zip(*file.readAnnotations(), strict=True))
        for number, label in enumerate(file.getSignalLabels()):
            values, rate_hz = file.readSignal(number), file.getSampleFrequency(number)
            there = np.ones(values.size, bool)
            for onset_s, duration_s, text in notes:
                if text == f"no {label.lower()}":
                    there[round(onset_s * rate_hz) : round((onset_s + duration_s) * rate_hz)] = False
            step = (file.getPhysicalMaximum(number) - file.getPhysicalMinimum(number)) / (2**24 - 1)
            yield label.lower(), (values[there], step)


@pytest.mark.parametrize(
    ("source", "exact"),
    [
        (tumftm, False),
        (opensignals, True),
        (opensignals_lines, True),
        (emotibit, True),
        (neurokit, True),
        (stress_predict, True),
    ],
)
def test_what_was_recorded_and_converted_is_what_stands_in_the_file(
    shared_data: Path, tmp_path: Path, source: Callable[[Path, Path], tuple[Path, Expected]], exact: bool
) -> None:
    log, expected = source(shared_data, tmp_path)
    for kind in ("parquet", "csv", "xdf", "bdf"):
        run("convert", log, "--to", kind)
    streams, _ = pyxdf.load_xdf(str(log.with_suffix(".xdf")))
    of_xdf = {stream["info"]["name"][0].split()[1]: stream["time_series"][:, 0] for stream in streams[:-1]}
    of_parquet, of_csv = pd.read_parquet(log.with_suffix(".parquet")), pd.read_csv(log.with_suffix(".csv"))
    of_bdf = dict(bdf_samples(log.with_suffix(".bdf")))
    assert of_xdf.keys() == of_bdf.keys() == {str(modality) for modality in expected}
    for modality, values in expected.items():
        there = np.isfinite(values)
        for found in (of_xdf[modality], *(frame[modality.column].dropna() for frame in (of_parquet, of_csv))):
            found = np.asarray(found, np.float32)
            if exact:
                np.testing.assert_array_equal(found[np.isfinite(found)], values[there])
            else:
                np.testing.assert_allclose(found, values, rtol=1e-6, atol=1e-6)
        found, step = of_bdf[modality]
        assert np.abs(found - values[there]).max() <= 0.51 * step + 1e-6 * np.abs(values[there]).max()
