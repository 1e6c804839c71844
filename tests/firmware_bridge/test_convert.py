"""Converted recordings, opened again by the usual readers and compared with the log sample by sample."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyedflib
import pytest
import pyxdf

from edgepain.errors import ConfigError, DataError
from edgepain.firmware_bridge import open_recording, read_recording
from edgepain.firmware_bridge.convert import FORMATS, convert_log, output_path
from edgepain.firmware_bridge.edgeframe import encode
from edgepain.firmware_bridge.logged import LoggedSession, read_log
from edgepain.firmware_bridge.wearable import STATUS, Wearable
from edgepain.signal import Marker, Modality, Recording, Signal

SKEW_PPM = 60.0
BEGUN_S = 5000.0
READ_MS = 3.0


def person(seed: int, seconds: int) -> Recording:
    """Noise with a missing stretch in one signal."""
    random = np.random.default_rng(seed)
    eda = random.uniform(0.5, 20.0, seconds * 4).astype(np.float32)
    eda[40:44] = np.nan
    signals = {
        Modality.EDA: Signal(Modality.EDA, eda, 4.0),
        Modality.BVP: Signal(Modality.BVP, random.normal(0, 80, seconds * 64).astype(np.float32), 64.0, 0.4),
    }
    return Recording("s", "r", signals)


def sent(wearable: Wearable, silent: tuple[float, float]) -> Iterator[tuple[float, bytes]]:
    """Frames with the time they are due, but for those of a silence."""
    for due in wearable.schedule():
        frame = wearable.hello(due.at_s) if due.stream < 0 else wearable.data(due)
        if due.stream != STATUS and frame is not None and not silent[0] <= due.at_s < silent[1]:
            yield due.at_s, encode(frame)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes of a device that runs 60 ppm fast and falls silent for 3 s; it restarts, and there are 20 s more."""
    path = tmp_path_factory.mktemp("log") / "monday.wire"
    marks = [(30.25, "heat on", None), (45.5, "NRS", 7.0), (60.0, "größer als 40 Bytes " + "ä" * 40, None)]
    with open_recording(path, {"device": "edgeframe", "options": {}}) as recorder:
        first = Wearable(person(1, 120), skew_ppm=SKEW_PPM, boot_id=1)
        again = Wearable(person(2, 20), skew_ppm=SKEW_PPM, boot_id=2)
        recorder.write(BEGUN_S, b"")
        random = np.random.default_rng(3)
        for at_s, wire in sent(first, (70.0, 73.0)):
            while marks and marks[0][0] <= at_s:
                mark_s, label, value = marks.pop(0)
                recorder.note(Marker(BEGUN_S + mark_s, 1.7e9 + mark_s, label, value, "key"))
            recorder.write(BEGUN_S + at_s + READ_MS / 1e3 + random.exponential(0.002), wire)
        for at_s, wire in sent(again, (0.0, 0.0)):
            recorder.write(BEGUN_S + 125.0 + at_s + READ_MS / 1e3, wire)
        recorder.note(Marker(BEGUN_S + 140.0, 1.7e9 + 140.0, "NRS", 0.0, "stdin"))
    return path


@pytest.fixture(scope="module")
def session(log: Path) -> LoggedSession:
    return read_log(log)


@pytest.fixture
def converted(log: Path, tmp_path: Path) -> Any:
    """Convert the log and give the path."""

    def made(kind: str) -> Path:
        path = output_path(log, kind, tmp_path)
        convert_log(log, kind, path)
        return path

    return made


def expected(session: LoggedSession, modality: Modality) -> tuple[np.ndarray, np.ndarray]:
    """Times (s after the first sample) and values of the log, decoded."""
    times_s = [session.times_s(segment, modality) for segment in session.segments]
    return np.concatenate(times_s), np.concatenate([s.signals[modality].values for s in session.segments])


def test_times_are_the_computers_to_a_millisecond(session):
    assert [str(segment.clock.basis) for segment in session.segments] == ["fitted", "offset"]
    clock = session.segments[0].clock
    assert clock.skew_ppm == pytest.approx(SKEW_PPM, abs=3.0)
    assert clock.uncertainty_ms < 2.0
    times_s, _ = expected(session, Modality.BVP)
    # EDA is first; its first frame is due when its samples are measured, and read 3 ms later.
    first_s = session.begin_s - BEGUN_S - READ_MS / 1e3
    count = session.segments[0].signals[Modality.BVP].values.size
    true_s = 0.4 + np.arange(120 * 64) / 64.0
    kept = np.abs(true_s[:, None] - (times_s[:count:97] + first_s)[None, :]).min(axis=0)
    assert kept.max() < 2e-3
    assert session.marker_s(session.markers[0]) == pytest.approx(30.25 - first_s - READ_MS / 1e3, abs=1e-6)


def test_xdf_opens_in_pyxdf_with_its_defaults(session, converted):
    streams, header = pyxdf.load_xdf(str(converted("xdf")))
    assert header["info"]["version"] == ["1.0"]
    found = {stream["info"]["name"][0]: stream for stream in streams}
    assert set(found) == {"edgepain eda", "edgepain bvp", "edgepain markers"}
    for modality in session.modalities:
        stream = found[f"edgepain {modality}"]
        times_s, values = expected(session, modality)
        assert stream["time_series"].dtype == np.float32
        np.testing.assert_array_equal(stream["time_series"][:, 0], values)
        np.testing.assert_allclose(stream["time_stamps"] - session.begin_unix_s, times_s, atol=1e-6)
        channel = stream["info"]["desc"][0]["channels"][0]["channel"][0]
        assert channel["unit"] == [modality.unit]
        assert int(stream["footer"]["info"]["sample_count"][0]) == values.size
    told = found["edgepain eda"]["info"]["desc"][0]["edgepain"][0]["segments"][0]["segment_1"][0]
    assert float(told["clock_skew_ppm"][0]) == pytest.approx(SKEW_PPM, abs=3.0)
    markers = found["edgepain markers"]
    assert [row[0] for row in markers["time_series"]][:2] == ["heat on", "NRS 7"]
    assert markers["time_series"][2][0] == session.markers[2].label
    assert markers["time_stamps"] - session.begin_unix_s == pytest.approx(
        [session.marker_s(m) for m in session.markers]
    )


def compare_table(frame: pd.DataFrame, session: LoggedSession) -> None:
    for modality in session.modalities:
        times_s, values = expected(session, modality)
        there = frame[modality.column].notna()
        np.testing.assert_array_equal(frame[modality.column][there].to_numpy(np.float32), values[np.isfinite(values)])
        np.testing.assert_allclose(frame["time_s"][there], times_s[np.isfinite(values)], atol=1e-6)
    marks = frame[frame["marker"].notna()]
    assert marks["marker"].tolist() == [marker.label for marker in session.markers]
    assert marks["marker_value"].tolist() == pytest.approx([np.nan, 7.0, np.nan, 0.0], nan_ok=True)
    assert marks["time_s"].tolist() == pytest.approx([session.marker_s(m) for m in session.markers], abs=1e-6)
    assert frame["time_s"].is_monotonic_increasing
    unix_s = pd.to_datetime(frame["time"]).astype("int64") / 1e9
    np.testing.assert_allclose(unix_s - session.begin_unix_s, frame["time_s"], atol=2e-6)
    assert frame.groupby("segment")["bvp_au"].count().tolist() == [
        segment.signals[Modality.BVP].values.size for segment in session.segments
    ]


def test_csv_opens_in_pandas(session, converted):
    path = converted("csv")
    compare_table(pd.read_csv(path), session)
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["segments"][0]["clock_skew_ppm"] == pytest.approx(SKEW_PPM, abs=3.0)
    assert facts["frames_lost"] == session.stats.frames_lost > 0


def test_parquet_opens_in_pandas_and_pyarrow(session, converted):
    path = converted("parquet")
    frame = pd.read_parquet(path)
    frame["time"] = frame["time"].astype("datetime64[ns, UTC]")
    compare_table(frame, session)
    table = pq.read_table(path)
    facts = json.loads(table.schema.metadata[b"edgepain"])
    assert facts["units"] == {"eda": "uS", "bvp": "a.u."}
    # A missing value is a sample, no sample is none.
    eda = table.column("eda_us")
    assert len(eda) - eda.null_count == sum(s.signals[Modality.EDA].values.size for s in session.segments)


@pytest.mark.parametrize("kind", ["edf", "bdf"])
def test_edf_and_bdf_open_in_pyedflib_within_half_a_step(session, converted, kind):
    with pyedflib.EdfReader(str(converted(kind))) as file:
        assert [file.getLabel(k) for k in range(2)] == ["EDA", "BVP"]
        assert [file.getPhysicalDimension(k) for k in range(2)] == ["uS", "a.u."]
        assert [file.getSampleFrequency(k) for k in range(2)] == [4.0, 64.0]
        begin_unix_s = file.getStartdatetime().replace(tzinfo=timezone.utc).timestamp()
        onsets_s, durations_s, texts = file.readAnnotations()
        for number, modality in enumerate(session.modalities):
            times_s, values = expected(session, modality)
            rate_hz = file.getSampleFrequency(number)
            step = (file.getPhysicalMaximum(number) - file.getPhysicalMinimum(number)) / (
                2 ** (16 if kind == "edf" else 24) - 1
            )
            read = file.readSignal(number)
            missing = np.zeros(read.size, bool)
            for onset_s, duration_s, text in zip(onsets_s, durations_s, texts, strict=True):
                if text == f"no {modality}":
                    missing[round(onset_s * rate_hz) : round((onset_s + duration_s) * rate_hz)] = True
            there = np.isfinite(values)
            assert np.abs(read[~missing] - values[there]).max() <= 0.5001 * step
            # By its place in the file, each sample is where the computer's clock has it, but for the drift in a run.
            placed_s = begin_unix_s - session.begin_unix_s + np.flatnonzero(~missing) / rate_hz
            assert np.abs(placed_s - times_s[there]).max() < 0.5 / rate_hz + 0.01
        marks = [
            (o + begin_unix_s - session.begin_unix_s, t) for o, t in zip(onsets_s, texts, strict=True) if "no " not in t
        ]
    assert marks[0][1].startswith("clock: +")
    assert " ppm, +- " in marks[0][1]
    assert [text for _, text in marks[1:3]] == ["heat on", "NRS 7"]
    assert [at_s for at_s, _ in marks[1:]] == pytest.approx([session.marker_s(m) for m in session.markers], abs=0.02)


def test_a_value_that_no_field_holds_is_refused_by_edf_and_kept_by_others(tmp_path):
    path = tmp_path / "odd.wire"
    values = np.array([1e9, -1e9, 3.0, 4.0] * 16, np.float32)
    wearable = Wearable(Recording("s", "r", {Modality.BVP: Signal(Modality.BVP, values, 64.0)}))
    with open_recording(path) as recorder:
        for at_s, wire in sent(wearable, (0.0, 0.0)):
            recorder.write(at_s, wire)
    for kind in ("edf", "bdf"):
        with pytest.raises(DataError, match=r"values of 1e\+09, more than EDF\+ and BDF\+ hold"):
            convert_log(path, kind, tmp_path / f"odd.{kind}")
    convert_log(path, "csv", tmp_path / "odd.csv")
    np.testing.assert_array_equal(pd.read_csv(tmp_path / "odd.csv")["bvp_au"].to_numpy(np.float32), values)
    assert {p.name for p in tmp_path.iterdir()} == {"odd.wire", "odd.csv", "odd.json"}


@pytest.mark.parametrize("kind", list(FORMATS))
def test_what_exists_and_what_is_empty_is_refused(log, tmp_path, kind):
    path = output_path(log, kind, tmp_path)
    path.write_text("precious")
    with pytest.raises(ConfigError, match="exists already"):
        convert_log(log, kind, path)
    assert path.read_text() == "precious"
    open_recording(tmp_path / "empty.wire").close()
    with pytest.raises(DataError, match="no sample in it"):
        convert_log(tmp_path / "empty.wire", kind, tmp_path / "empty.out")
    assert {p.name for p in tmp_path.iterdir()} == {path.name, "empty.wire"}


def test_the_json_file_beside_a_csv_is_not_overwritten(log, tmp_path):
    path, beside = tmp_path / "monday.csv", tmp_path / "monday.json"
    beside.write_text("precious")
    with pytest.raises(ConfigError, match=r"monday\.json: exists already"):
        convert_log(log, "csv", path)
    assert beside.read_text() == "precious"
    with pytest.raises(ConfigError, match="beside a CSV"):
        convert_log(log, "csv", tmp_path / "tuesday.json")
    assert {p.name for p in tmp_path.iterdir()} == {"monday.json"}
    beside.unlink()
    convert_log(log, "csv", path)
    assert {p.name for p in tmp_path.iterdir()} == {"monday.csv", "monday.json"}


@pytest.mark.parametrize("kind", list(FORMATS))
def test_a_folder_that_is_not_there_or_takes_no_file_is_told_with_the_way_out(log, tmp_path, kind):
    with pytest.raises(ConfigError, match=r"nowhere is no folder; make it, or choose another with --out"):
        convert_log(log, kind, tmp_path / "nowhere" / f"a.{kind}")
    # Nobody, root included, makes files there.
    with pytest.raises(DataError, match=r"cannot be written \((?!None).+\); choose another folder with --out"):
        convert_log(log, kind, Path("/proc") / f"a.{kind}")
    assert not list(tmp_path.iterdir())


def test_the_command_converts_several_and_tells_of_damage(log, tmp_path):
    whole = log.read_bytes()
    (tmp_path / "a.wire").write_bytes(whole)
    (tmp_path / "b.wire").write_bytes(whole[:-40])
    out = tmp_path / "out"
    command = [sys.executable, "-m", "edgepain", "convert", str(tmp_path / "a.wire"), str(tmp_path / "b.wire")]
    refused = subprocess.run([*command, "--to", "xdf", "--out", str(out)], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "need a folder that exists" in refused.stderr
    out.mkdir()
    done = subprocess.run([*command, "--to", "xdf", "--out", str(out)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == f"{out / 'a.xdf'}: eda: 548 samples, bvp: 8770 samples; 4 markers"
    assert "bytes of it are damaged" in done.stderr
    assert {path.name for path in out.iterdir()} == {"a.xdf", "b.xdf"}


@pytest.mark.parametrize("kind", list(FORMATS))
def test_a_damaged_log_is_converted_or_refused_in_one_line(log, tmp_path, kind):
    """Bytes of chunks that were damaged before they were recorded, and of the file."""
    random = np.random.default_rng(7)
    for turn in range(6):
        path = tmp_path / f"{turn}.wire"
        with open_recording(path, {"device": "edgeframe"}) as recorder:
            for chunk in read_recording(log).chunks[:: turn + 1]:
                data = bytearray(chunk.data)
                for at in random.integers(0, len(data), random.poisson(0.2)) if data else ():
                    data[at] ^= 1 << random.integers(0, 8)
                late_s = 1e300 if turn == 5 else float(random.normal(0, 1e-3 * 10.0**turn))
                recorder.write(chunk.arrival_s + late_s, bytes(data))
            for at_s in (-1e9, 5010.0, 1e300):
                recorder.note(Marker(at_s, 1.7e9, "\x00<&>\n\"'", 1e300, "\ud7ff"))
        whole = bytearray(path.read_bytes())
        for at in random.integers(200, len(whole), 5 * turn):
            whole[at] ^= 255
        path.write_bytes(whole)
        with contextlib.suppress(DataError):
            session = convert_log(path, kind, tmp_path / f"{turn}.{kind}")
            assert turn or session.stray_markers == 2
        assert not list(tmp_path.glob(".*"))
    assert list(tmp_path.glob(f"*.{kind}"))


@pytest.mark.parametrize("rates_hz", [(51.2, 128.0), (15.0, 25.0), (100 / 3, 4.0), (127.987, 63.992), (0.5, 1000.0)])
@pytest.mark.parametrize("kind", ["edf", "bdf"])
def test_rates_that_are_no_whole_number_lose_no_sample(tmp_path, kind, rates_hz):
    path = tmp_path / "odd.wire"
    random = np.random.default_rng(1)
    signals = {
        modality: Signal(modality, random.uniform(1, 2, int(21 * rate_hz)).astype(np.float32), rate_hz)
        for modality, rate_hz in zip((Modality.EDA, Modality.BVP), rates_hz, strict=True)
    }
    with open_recording(path) as recorder:
        for at_s, wire in sent(Wearable(Recording("s", "r", signals)), (0.0, 0.0)):
            recorder.write(at_s, wire)
    convert_log(path, kind, tmp_path / f"odd.{kind}")
    with pyedflib.EdfReader(str(tmp_path / f"odd.{kind}")) as file:
        lead_s = read_log(path).begin_unix_s % 1
        for number, (rate_hz, signal) in enumerate(zip(rates_hz, signals.values(), strict=True)):
            assert file.getSampleFrequency(number) == pytest.approx(rate_hz, rel=1e-3)
            begin = round(lead_s * file.getSampleFrequency(number))
            read = file.readSignal(number)[begin : begin + signal.values.size]
            assert np.abs(read - signal.values).max() < 1e-4


@pytest.mark.parametrize(("kind", "module"), [("parquet", "pyarrow"), ("bdf", "pyedflib")])
def test_what_is_not_installed_is_named_with_its_extra(log, tmp_path, kind, module):
    code = f"import sys; sys.modules[{module!r}] = None; from edgepain.cli.main import main; main()"
    command = [sys.executable, "-c", code, "convert", str(log), "--to", kind, "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"error: {module} is not installed; install it with: pip install 'edgepain[convert]'\n"
    assert not list(tmp_path.iterdir())


def test_many_markers_all_fit_into_edf(tmp_path):
    path = tmp_path / "many.wire"
    signal = Signal(Modality.EDA, np.linspace(1, 2, 40, dtype=np.float32), 4.0)
    with open_recording(path) as recorder:
        for at_s, wire in sent(Wearable(Recording("s", "r", {Modality.EDA: signal})), (0.0, 0.0)):
            recorder.write(100.0 + at_s, wire)
        for turn in range(300):
            recorder.note(Marker(100.0 + turn / 30, 1.7e9 + turn / 30, "NRS", float(turn), "key"))
    convert_log(path, "edf", tmp_path / "many.edf")
    with pyedflib.EdfReader(str(tmp_path / "many.edf")) as file:
        texts = [text for text in file.readAnnotations()[2] if text.startswith("NRS")]
    assert texts == [f"NRS {turn}" for turn in range(300)]
    with open_recording(tmp_path / "more.wire") as recorder:
        for at_s, wire in sent(Wearable(Recording("s", "r", {Modality.EDA: signal})), (0.0, 0.0)):
            recorder.write(100.0 + at_s, wire)
        for _ in range(2000):
            recorder.note(Marker(105.0, 1.7e9, "x"))
    with pytest.raises(DataError, match=r"2000 markers are more than EDF\+ and BDF\+ hold"):
        convert_log(tmp_path / "more.wire", "edf", tmp_path / "more.edf")


def printed(path: Path, options: dict[str, str], lines: list[bytes], at_s: list[float]) -> None:
    """A log of a board that prints these lines, read a few milliseconds after they are due."""
    random = np.random.default_rng(4)
    with open_recording(path, {"device": "lines", "options": options}) as recorder:
        recorder.write(BEGUN_S, b"")
        recorder.write(BEGUN_S, b"\n")
        for line, due_s in zip(lines, at_s, strict=True):
            recorder.write(BEGUN_S + due_s + 0.003 + float(random.exponential(0.001)), line)


@pytest.mark.parametrize(
    ("options", "rate_hz", "line", "stated_hz"),
    [
        ({"columns": "time_ms,bvp", "rate_hz": "127.12"}, 128.0, b"%(ms)d,%(k)d\n", 127.12),
        # Measured well enough by the times in the lines, and so not told.
        ({"columns": "time_ms,bvp"}, 128.0, b"%(ms)d,%(k)d\n", 128.0),
        ({"sketch": "grove_gsr", "cal": "512"}, 19.2, b"%(gsr)d\n", 20.0),
    ],
)
@pytest.mark.parametrize("kind", ["edf", "bdf"])
def test_a_rate_that_is_not_the_stated_one_shifts_no_time(tmp_path, kind, options, rate_hz, line, stated_hz):
    seconds, path = 300, tmp_path / "off.wire"
    at_s = [k / rate_hz for k in range(round(seconds * rate_hz))]
    lines = [line % {b"ms": int(t * 1e3), b"k": k % 1000, b"gsr": 100 + k % 300} for k, t in enumerate(at_s)]
    printed(path, options, lines, at_s)
    session = convert_log(path, kind, tmp_path / f"off.{kind}")
    (modality,) = session.modalities
    times_s, values = expected(session, modality)
    with pyedflib.EdfReader(str(tmp_path / f"off.{kind}")) as file:
        onsets_s, _, texts = file.readAnnotations()
        found_hz = file.getSampleFrequency(0)
        read = file.readSignal(0)
    # Nothing is missing but before the first sample and after the last.
    missing = [o for o, text in zip(onsets_s, texts, strict=True) if text.startswith("no ")]
    begin = round(session.begin_unix_s % 1 * found_hz)
    assert len(missing) <= 2
    np.testing.assert_allclose(read[begin : begin + values.size], values, atol=0.02)
    end_s = (begin + values.size - 1) / found_hz - session.begin_unix_s % 1
    told = stated_hz != rate_hz
    assert end_s == pytest.approx(times_s[-1], abs=1.5 / rate_hz if told else 1.5 / rate_hz + 500e-6 * seconds)
    assert found_hz == pytest.approx(rate_hz, rel=5e-4)
    rates = [text for text in texts if text.startswith("rate: ")]
    assert texts[0].startswith("clock: ")
    assert rates == ([f"rate: {modality} {found_hz:.6g} Hz, {stated_hz:.6g} stated"] if told else [])
    assert session.facts()["rates_hz"][str(modality)] == pytest.approx(stated_hz, rel=500e-6)
    assert session.facts()["measured_rates_hz"][str(modality)] == pytest.approx(rate_hz, rel=5e-4)


def test_a_marker_stands_where_it_was_made_though_the_log_ends_in_a_stall(tmp_path):
    path = tmp_path / "stall.wire"
    printed(path, {"columns": "time_ms,bvp", "rate_hz": "20"}, *stalled(30.0, 0.25, 40.0))
    mark(path, 35.0)
    session = convert_log(path, "csv", tmp_path / "stall.csv")
    assert str(session.segments[0].clock.basis) == "offset"
    frame = pd.read_csv(tmp_path / "stall.csv")
    assert frame["time_s"][frame["marker"] == "NRS"].tolist() == pytest.approx([35.0], abs=0.01)


def test_a_marker_before_the_first_sample_stands_there(tmp_path):
    path = tmp_path / "early.wire"
    printed(path, {"columns": "time_ms,bvp", "rate_hz": "20"}, *stalled(30.0, 0.0, 0.0))
    mark(path, -3.8)
    session = convert_log(path, "edf", tmp_path / "early.edf")
    with pyedflib.EdfReader(str(tmp_path / "early.edf")) as file:
        onset_s = dict(zip(file.readAnnotations()[2], file.readAnnotations()[0], strict=True))
        begun_unix_s = file.getStartdatetime().replace(tzinfo=timezone.utc).timestamp()
    assert begun_unix_s + onset_s["no bvp"] == pytest.approx(begun_unix_s)
    assert begun_unix_s + onset_s["NRS 4"] == pytest.approx(session.begin_unix_s - 3.8, abs=0.05)


def mark(path: Path, at_s: float) -> None:
    """Add a marker to a log."""
    with open_recording(path.with_name("mark.wire")) as recorder:
        begin = recorder.path.stat().st_size
        recorder.note(Marker(BEGUN_S + at_s, 1.7e9 + at_s, "NRS", 4.0, "key"))
    with path.open("ab") as file:
        file.write(recorder.path.read_bytes()[begin:])


def stalled(seconds: float, last_s: float, read_s: float) -> tuple[list[bytes], list[float]]:
    """20 lines a second, and when they came: those of the last `last_s` all at `read_s`."""
    at_s = [k / 20 for k in range(round(seconds * 20))]
    return [b"%d,%d\n" % (round(t * 1e3), k) for k, t in enumerate(at_s)], [
        t if t < seconds - last_s else read_s for t in at_s
    ]
