"""Empatica E4 session folders, whole, broken and hostile."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepain.errors import DataError
from edgepain.signal import Modality, read_e4_session


def write(folder: Path, eda: str = "100.0\n4.0\n0.1\n0.2\n0.3\n", bvp: str = "100.0\n64.0\n1\n-1\n") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "EDA.csv").write_text(eda)
    (folder / "BVP.csv").write_text(bvp)
    return folder


def test_values_rates_units_and_clock(tmp_path: Path) -> None:
    recording = read_e4_session(write(tmp_path / "S01", bvp="101.5\n64\n1\n-1\n"), "person")
    eda, bvp = recording.signals[Modality.EDA], recording.signals[Modality.BVP]
    assert (recording.subject, recording.name, recording.events) == ("person", "S01", ())
    np.testing.assert_array_equal(eda.values, np.float32([0.1, 0.2, 0.3]))
    assert (eda.rate_hz, eda.unit, eda.start_s) == (4.0, "uS", 0.0)
    assert (bvp.rate_hz, bvp.start_s) == (64.0, 1.5)


def test_gzip_and_folder_name_as_subject(tmp_path: Path) -> None:
    folder = write(tmp_path / "S02")
    (folder / "EDA.csv.gz").write_bytes(gzip.compress((folder / "EDA.csv").read_bytes()))
    (folder / "EDA.csv").unlink()
    recording = read_e4_session(folder)
    assert recording.subject == "S02"
    assert recording.signals[Modality.EDA].values.size == 3


def test_nan_tail_is_dropped_and_nan_inside_stays(tmp_path: Path) -> None:
    folder = write(tmp_path / "S", eda="100\n4\n1\nnan\n2\nnan\ninf\n\n")
    np.testing.assert_array_equal(read_e4_session(folder).signals[Modality.EDA].values, np.float32([1, np.nan, 2]))


@pytest.mark.parametrize(
    ("eda", "message"),
    [
        ("", "0 lines"),
        ("100\n4\n", "2 lines"),
        ("100\n4\n0.1\nvolts\n", "line 4 is not one number: 'volts'"),
        ("100\n4\n0.1\n\n0.2\n", "line 4 is not one number"),
        ("100\n4\n1,2,3\n", "line 3"),
        ("100\n0\n1\n", "line 2 should be a rate"),
        ("100\n1e9\n1\n", "line 2 should be a rate"),
        ("nan\n4\n1\n", "line 1 should be the Unix start time"),
        ("100\n4\nnan\nnan\n", "no value is a number"),
        ("9000\n4\n1\n", "start more than 60 s apart"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, eda: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        read_e4_session(write(tmp_path / "S", eda=eda))
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_truncated_gzip_file_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "S")
    whole = gzip.compress(b"100\n4\n" + b"0.123456\n" * 5000)
    (folder / "EDA.csv").unlink()
    (folder / "EDA.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="copy it again"):
        read_e4_session(folder)


def test_an_empty_folder_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither EDA\.csv nor BVP\.csv"):
        read_e4_session(tmp_path)


@given(st.binary(max_size=200) | st.text("0123456789.-e\n,naif", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "EDA.csv").write_bytes(data)
        try:
            signal = read_e4_session(folder).signals[Modality.EDA]
        except DataError:
            return
        assert np.isfinite(signal.values[-1])
        assert 0 < signal.rate_hz < np.inf


def test_a_real_session(shared_data: Path) -> None:
    recording = read_e4_session(shared_data / "stress_predict" / "raw" / "S01")
    assert recording.signals[Modality.EDA].rate_hz == 4.0
    assert recording.signals[Modality.BVP].rate_hz == 64.0
    assert recording.signals[Modality.EDA].values.size == 13032
    assert recording.duration_s == pytest.approx(3261, abs=1)
