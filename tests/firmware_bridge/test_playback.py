"""Recordings to play: CSV files in all their variety, parts of recordings."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepain.errors import ConfigError, DataError
from edgepain.firmware_bridge import read_csv, read_e4
from edgepain.firmware_bridge.playback import load, part
from edgepain.signal import Event, Modality


def write(path, text):
    path.write_text(text)
    return path


def two_rates(decimals: int = 6, start_s: float = 0.0) -> str:
    """10 s of BVP at 64 Hz, EDA at 4 Hz in every 16th row, label 1 from 5 s on."""
    lines = ["time_s,eda_us,bvp_au,label"]
    for k in range(640):
        eda = f"{1 + k / 1000}" if k % 16 == 0 else ""
        lines.append(f"{start_s + k / 64:.{decimals}f},{eda},{k},{'' if k < 320 else 1}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("decimals", [6, 3])
def test_rates_are_deduced_column_by_column(tmp_path, decimals):
    recording = read_csv(write(tmp_path / "two.csv", two_rates(decimals)))
    eda, bvp = recording.signals[Modality.EDA], recording.signals[Modality.BVP]
    assert (eda.rate_hz, bvp.rate_hz) == (4.0, 64.0)
    assert (eda.values.size, bvp.values.size) == (40, 640)
    np.testing.assert_array_equal(bvp.values, np.arange(640, dtype=np.float32))
    assert recording.events == (Event("label 1", 1, 5.0, pytest.approx(639 / 64, abs=1e-3)),)


def test_gzip_and_a_later_start(tmp_path):
    path = tmp_path / "late.csv.gz"
    path.write_bytes(gzip.compress(two_rates(start_s=100.0).encode()))
    assert load(path).signals[Modality.EDA].start_s == 100.0


def test_samples_missing_from_the_grid_are_nan(tmp_path):
    rows = [f"{k / 100:.2f},{k}" for k in range(100) if k not in (10, 11, 50)]
    signal = read_csv(write(tmp_path / "gaps.csv", "time_s,ecg_mv\n" + "\n".join(rows))).signals[Modality.ECG]
    assert signal.rate_hz == 100.0
    assert np.flatnonzero(np.isnan(signal.values)).tolist() == [10, 11, 50]
    assert signal.values[99] == 99


def test_a_rate_need_not_be_whole(tmp_path):
    rows = "\n".join(f"{k / 12.5:.6f},{k}" for k in range(100))
    signal = read_csv(write(tmp_path / "slow.csv", "time_s,eda_us\n" + rows)).signals[Modality.EDA]
    assert signal.rate_hz == pytest.approx(12.5, rel=1e-9)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "0 lines"),
        ("time_s,eda_us\n0,1\n", "2 lines"),
        ("t,eda\n0,1\n1,2\n", "expected time_s and any of eda_us, ecg_mv, bvp_au"),
        ("time_s,eda_us\n0,1\n1\n", "row 3 has 1 columns"),
        ("time_s,eda_us\n0,1\n1,x\n", "eda_us in row 3 is not a number: 'x'"),
        ("time_s,eda_us\n0,1\n,2\n", "time_s has no number in line 3"),
        ("time_s,eda_us\n0,1\n0,2\n", "does not increase"),
        ("time_s,eda_us\n0,1\n1,2\n1.6,3\n2.9,4\n", "not regularly sampled"),
        ("time_s,eda_us\n0,1\n1,\n2,\n", "at least two"),
        ("time_s,eda_us\n0,1\n1,2\n2,3\n1e9,4\n", "more gaps than samples"),
        ("time_s,eda_us\n0,1\n1e-300,2\n1,3\n", "more gaps than samples|not regularly"),
        ("time_s,eda_us,label\n0,1,\n1,2,0.5\n", "label must be an integer"),
    ],
)
def test_files_that_cannot_be_played_are_refused_in_one_line(tmp_path, text, complaint):
    with pytest.raises(DataError, match=complaint) as caught:
        read_csv(write(tmp_path / "bad.csv", text))
    assert "\n" not in str(caught.value)
    assert "bad.csv" in str(caught.value)


def test_what_is_no_text_is_refused(tmp_path):
    for name, content in (("a.csv", b"\xff\xfe\x00"), ("a.csv.gz", b"no gzip")):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DataError):
            read_csv(path)


@given(
    st.text(max_size=200)
    | st.lists(
        st.lists(st.sampled_from(["0", "1", "2.5", "", "nan", "inf", "-1e308", "x"]), min_size=3, max_size=3),
        min_size=2,
        max_size=8,
    ).map(lambda rows: "time_s,eda_us,label\n" + "\n".join(map(",".join, rows)))
)
def test_no_text_raises_anything_else(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        read_csv(path)
    except DataError:
        return


def test_a_part_begins_at_zero(e4_session):
    whole = read_e4(e4_session)
    cut = part(whole, 10.1, 5.0)
    eda, bvp = cut.signals[Modality.EDA], cut.signals[Modality.BVP]
    np.testing.assert_array_equal(eda.values, whole.signals[Modality.EDA].values[41:61])
    assert eda.start_s == pytest.approx(10.25 - 10.1)
    assert bvp.start_s == pytest.approx(647 / 64 - 10.1)
    with pytest.raises(ConfigError, match="the recording is 60 s long"):
        part(whole, 61.0)
