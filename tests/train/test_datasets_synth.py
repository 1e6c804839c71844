"""Simulated people: the same seed, the same files; protocol, labels and plausible signals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas
import pytest
from scipy.signal import find_peaks

from edgepain.errors import ConfigError, DataError
from edgepain.train.datasets.synth import (
    Protocol,
    simulate_session,
    write_ai4pain,
    write_biovid,
    write_recording,
    write_recordings,
)

PROTOCOL = Protocol(levels=(0, 1, 2, 3, 4) * 8)


def test_the_same_seed_gives_the_same_person() -> None:
    first, again, other = (simulate_session(seed, PROTOCOL, 64.0) for seed in (3, 3, 4))
    for name in ("eda_us", "ecg_mv", "bvp_au"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
        assert not np.array_equal(getattr(first, name)[:1000], getattr(other, name)[:1000])


def test_protocol() -> None:
    session = simulate_session(1, PROTOCOL, 64.0)
    assert sorted(s.level for s in session.stimuli) == sorted(PROTOCOL.levels)
    assert session.stimuli[0].onset_s == PROTOCOL.baseline_s
    rests = [b.onset_s - a.end_s for a, b in zip(session.stimuli, session.stimuli[1:], strict=False)]
    assert 8.0 <= min(rests) < max(rests) <= 12.0
    assert [s.end_s - s.onset_s for s in session.stimuli] == pytest.approx([4.0] * 40)
    with pytest.raises(ConfigError, match="from 0 to 4"):
        Protocol(levels=(5,))


@pytest.mark.parametrize("seed", range(4))
def test_signals_are_plausible(seed: int) -> None:
    session = simulate_session(seed, PROTOCOL, 256.0)
    assert 0.05 <= session.eda_us.min() < session.eda_us.max() < 40.0
    minutes = session.ecg_mv.size / 256.0 / 60.0
    r_peaks, _ = find_peaks(session.ecg_mv, height=0.6, distance=80)
    assert 50 < r_peaks.size / minutes < 100
    pulses, _ = find_peaks(session.bvp_au, prominence=0.5, distance=80)
    assert pulses.size == pytest.approx(r_peaks.size, rel=0.02)


def test_pain_raises_skin_conductance_over_a_group() -> None:
    rises: dict[int, list[float]] = {0: [], 4: []}
    for seed in range(12):
        session = simulate_session(seed, PROTOCOL, 32.0)
        for stimulus in session.stimuli:
            if stimulus.level in rises:
                begin, end = (round((stimulus.onset_s + s) * 32.0) for s in (0.0, 8.5))
                eda_us = session.eda_us[begin:end]
                rises[stimulus.level].append(float(eda_us.max() - eda_us[0]))
    assert np.median(rises[4]) > 2 * np.median(rises[0])


def test_a_recording_names_its_columns_and_labels(tmp_path: Path) -> None:
    path = tmp_path / "person.csv.gz"
    write_recording(path, seed=2, duration_s=180.0)
    table = pandas.read_csv(path)
    assert list(table.columns) == ["time_s", "eda_us", "ecg_mv", "bvp_au", "label"]
    assert len(table) == 180 * 64
    np.testing.assert_allclose(np.diff(table["time_s"]), 1 / 64, atol=2e-6)
    session = simulate_session(2, Protocol(levels=tuple(range(5)) * 4), 64.0, 180.0)
    expected = np.zeros(len(table), bool)
    for stimulus in session.stimuli:
        if stimulus.level == 4:
            expected |= (table["time_s"] - stimulus.onset_s).between(3.0, 8.5).to_numpy()
    assert expected.any()
    np.testing.assert_array_equal(table["label"] == 1, expected)
    assert "simulated" in (tmp_path / "person.SYNTHETIC.txt").read_text()


def test_recordings_are_reproducible_bytes(tmp_path: Path) -> None:
    first = write_recordings(tmp_path / "a", 2, seed=1, duration_s=20.0)
    again = write_recordings(tmp_path / "b", 2, seed=1, duration_s=20.0)
    assert [p.name for p in first] == ["S01.csv.gz", "S02.csv.gz"]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]
    assert first[0].read_bytes() != first[1].read_bytes()
    # Bytes 4 to 7 of gzip are the time of writing.
    assert first[0].read_bytes()[4:8] == bytes(4)


def test_biovid_files_have_the_true_names_and_columns(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    write_biovid(root, 1, seed=1, trials=1)
    samples = pandas.read_csv(root / "PartA" / "starting_point" / "samples.csv", sep="\t")
    assert list(samples.columns) == [
        "subject_id", "subject_name", "class_id", "class_name", "sample_id", "sample_name",
    ]  # fmt: skip
    assert sorted(samples["class_name"]) == ["BL1", "PA1", "PA2", "PA3", "PA4"]
    for row in samples.itertuples():
        path = root / "PartA" / "biosignals_filtered" / row.subject_name / f"{row.sample_name}_bio.csv"
        clip = pandas.read_csv(path, sep="\t")
        assert list(clip.columns) == ["time", "gsr", "ecg", "emg_trapezius"]
        assert len(clip) == 2816
    assert "no person was measured" in (root / "SYNTHETIC.txt").read_text()


def test_ai4pain_test_subjects_have_29_columns_without_labels(tmp_path: Path) -> None:
    write_ai4pain(tmp_path / "tree", 5, seed=1)
    for name in ("Bvp", "Eda"):
        hidden = pandas.read_csv(tmp_path / "tree" / "test" / name / "3.csv")
        assert list(hidden.columns) == [f"3_{n}" for n in range(1, 30)]
        rows = sorted(hidden.notna().sum())
        assert rows == [1022] * 24 + [3934] * 4 + [5950]
        assert len(pandas.read_csv(tmp_path / "tree" / "train" / name / "1.csv").columns) == 1 + 12 + 12 + 23


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("precious")
    with pytest.raises(DataError, match="not an empty folder"):
        write_biovid(tmp_path, 1, seed=1)
    with pytest.raises(DataError, match="exists already"):
        write_recording(tmp_path / "mine.csv", 1, 60.0)
    with pytest.raises(DataError, match="not an empty folder"):
        write_ai4pain(tmp_path / "mine.csv", 1, seed=1)
    with pytest.raises(DataError, match="cannot be written"):
        write_recording(tmp_path / "mine.csv" / "person.csv", 1, 10.0)
    assert (tmp_path / "mine.csv").read_text() == "precious"


def test_impossible_wishes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 to 87"):
        write_biovid(tmp_path, 88, seed=1)
    with pytest.raises(ConfigError, match="1 to 65"):
        write_ai4pain(tmp_path, 66, seed=1)
    with pytest.raises(ConfigError, match=r"\.csv or \.csv\.gz"):
        write_recording(tmp_path / "person.txt", 1, 60.0)
    with pytest.raises(ConfigError, match="10 s to a day"):
        write_recording(tmp_path / "person.csv", 1, 1.0)
    assert list(tmp_path.iterdir()) == []
