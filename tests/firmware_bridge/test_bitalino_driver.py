"""A BITalino without a port: greeting, units, gaps, restarts, and a real recording."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepain.errors import ConfigError
from edgepain.firmware_bridge import device_kind
from edgepain.firmware_bridge.bitalino import pack
from edgepain.firmware_bridge.bitalino_driver import BitalinoDriver
from edgepain.firmware_bridge.block_mean import BlockMean
from edgepain.signal import DeviceInfo, Modality, Samples

BANNER = b"BITalino_v5.2\n"


def driver(**settings: str) -> BitalinoDriver:
    made = device_kind("bitalino").driver(settings)
    assert isinstance(made, BitalinoDriver)
    return made


def taken(events, modality: Modality) -> tuple[np.ndarray, np.ndarray]:
    parts = [event for event in events if isinstance(event, Samples) and event.modality is modality]
    return np.concatenate([p.times_s for p in parts]), np.concatenate([p.values for p in parts])


def wire(count: int, channels: int = 2, first: int = 0) -> bytes:
    return pack(np.full((count, channels), 512, np.uint16), first)


def test_it_is_stopped_greeted_and_started_one_command_at_a_time():
    bitalino = driver(rate_hz="100")
    sent = [(now_s / 100, bitalino.request(now_s / 100)) for now_s in range(260)]
    sent = [(now_s, command) for now_s, command in sent if command]
    assert [command for _, command in sent] == [b"\x00", b"\x07", b"\x00", b"\x07", b"\x00", b"\x07"]
    assert min(np.diff([now_s for now_s, _ in sent])) >= 0.1499
    assert not bitalino.introduced
    (info,) = bitalino.feed(b"\x85junk" + BANNER, 3.0)
    assert info == DeviceInfo("BITalino", "5.2", 1, info.streams)
    assert [(str(s.modality), s.unit, s.rate_hz) for s in info.streams] == [("eda", "uS", 20.0), ("ecg", "mV", 100.0)]
    sent = [command for now_s in range(300, 500) if (command := bitalino.request(now_s / 100))]
    assert sent == [b"\x83", bytes([0b011001])]
    assert bitalino.farewell() == b"\x00"


def test_a_device_that_falls_silent_is_greeted_anew():
    bitalino = driver()
    bitalino.feed(BANNER, 0.0)
    sent = [(t / 100, command) for t in range(2000) if (command := bitalino.request(t / 100))]
    again_s, command = sent[2]
    assert command == b"\x00"
    assert 2.0 < again_s < 2.6
    bitalino.feed(wire(100), 20.0)
    assert [bitalino.request(20.5 + t / 100) for t in range(150)] == [b""] * 150


def test_frames_before_the_answer_are_of_another_time():
    bitalino = driver()
    assert bitalino.feed(wire(100), 0.0) == []
    assert "no answer of a BITalino" in bitalino.complaint()
    bitalino.feed(wire(7)[:9] + BANNER[:5], 0.1)
    events = [*bitalino.feed(BANNER[5:] + wire(100), 0.2)]
    assert isinstance(events[0], DeviceInfo)
    assert taken(events, Modality.ECG)[0].tolist() == pytest.approx(np.arange(100) / 1000)
    assert bitalino.complaint() == ""
    bitalino.feed(bytes(range(1, 200)), 0.3)
    assert "no valid BITalino frame" in bitalino.complaint()


def test_units_are_those_of_the_data_sheets():
    counts = np.array([[0, 0], [512, 512], [700, 768], [1023, 1023]] * 5, np.uint16)

    def values(modality: Modality, **settings: str) -> list[float]:
        bitalino = driver(eda_rate_hz="1000", **settings)
        return taken(bitalino.feed(BANNER + pack(counts), 0.0), modality)[1][:4].tolist()

    assert values(Modality.ECG) == pytest.approx([-1.5, 0.0, 0.55078, 1.49707], abs=1e-4)
    assert values(Modality.EDA) == pytest.approx([0.0, 12.5, 18.75, 24.9756], abs=1e-4)
    assert values(Modality.EDA, eda_sensor="2013") == pytest.approx([1.0, 2.0, 4.0, 1024.0])
    assert values(Modality.EDA, eda_v_per_us="0.264", vcc_v="3.0") == pytest.approx(
        [0, 5.6818, 8.5227, 11.3525], abs=1e-4
    )
    assert values(Modality.BVP, bvp="A1", ecg="none") == pytest.approx([0.0, 0.5, 700 / 1024, 1023 / 1024])
    assert values(Modality.EDA, eda="A1") == pytest.approx([0, 12.5, 700 / 1024 * 25, 24.9756], abs=1e-4), "A1 is first"


def test_a_clipped_signal_is_flagged():
    counts = np.full((60, 2), 500, np.uint16)
    counts[45, 0] = 1023
    counts[50:52] = 0
    bitalino = driver()
    events = [e for e in bitalino.feed(BANNER + pack(counts[:50]), 0.0) if isinstance(e, Samples)]
    assert bitalino.stats(0).clipped == 1
    bitalino.feed(pack(counts[50:], 50), 0.01)
    assert bitalino.stats(0).clipped == 3
    assert bitalino.stats(0).lost_is_minimum
    assert any(e.clipped for e in events if e.modality is Modality.ECG)
    assert not any(e.clipped for e in events if e.modality is Modality.EDA)


def test_lost_frames_leave_a_gap_of_their_length():
    bitalino = driver()
    events = [*bitalino.feed(BANNER + wire(100), 0.1), *bitalino.feed(wire(100, first=107), 0.207)]
    times_s, _ = taken(events, Modality.ECG)
    assert times_s.tolist() == pytest.approx([*np.arange(100) / 1000, *np.arange(107, 207) / 1000])
    assert bitalino.stats(0).frames_lost == 7


def damaged(frames: bytes, *places: int) -> bytes:
    """One bit flipped in each of the frames at `places`."""
    flipped = bytearray(frames)
    for place in places:
        flipped[4 * place] ^= 0x10
    return bytes(flipped)


def test_how_long_a_long_gap_was_shows_when_frames_come_as_fast_as_they_are_measured():
    bitalino = driver()
    # 1207 frames are missing: 7 modulo 16.
    events = [*bitalino.feed(BANNER + wire(100), 0.1), *bitalino.feed(wire(100, first=1307), 1.407)]
    assert bitalino.stats(0).frames_lost == 7
    assert taken(events, Modality.ECG)[0].size == 100, "the others wait"
    for k in range(60):
        events += bitalino.feed(wire(20, first=1407 + 20 * k), 1.427 + 0.02 * k)
    times_s, _ = taken(events, Modality.ECG)
    np.testing.assert_allclose(times_s, np.array([*range(100), *range(1307, 2607)]) / 1000, atol=1e-9)
    assert bitalino.stats(0).frames_lost == 1207


def test_what_waits_is_given_before_the_device_starts_anew():
    bitalino = driver()
    events = [*bitalino.feed(BANNER + wire(100), 0.1), *bitalino.feed(wire(100, first=1307), 1.407)]
    events += bitalino.feed(BANNER + wire(100), 4.0)
    times_s, _ = taken(events, Modality.ECG)
    assert times_s.size == 300
    assert (np.diff(times_s) > 0).all()


@pytest.mark.parametrize("places", [(3,), (250,), (496,), tuple(range(20, 480, 23))])
def test_what_comes_at_once_after_a_stall_was_not_lost(places):
    bitalino = driver()
    events = [*bitalino.feed(BANNER + wire(100), 10.0)]
    events += bitalino.feed(damaged(wire(500, first=100), *places), 10.5)
    events += bitalino.feed(wire(100, first=600), 10.6)
    times_s, _ = taken(events, Modality.ECG)
    there = [k for k in range(700) if k - 100 not in places]
    np.testing.assert_allclose(times_s, np.array(there) / 1000, atol=1e-9)
    assert bitalino.stats(0).frames_lost == len(places)


def test_a_gap_in_the_first_frames_is_not_a_silence():
    bitalino = driver()
    events = bitalino.feed(BANNER + damaged(wire(100), 50), 5000.0)
    assert taken(events, Modality.ECG)[0][-1] == pytest.approx(0.099)
    assert bitalino.stats(0).frames_lost == 1


def test_a_restart_goes_on_by_the_hosts_clock():
    bitalino = driver()
    events = [*bitalino.feed(BANNER + wire(100), 10.0)]
    bitalino.cut()
    assert not bitalino.introduced
    events += bitalino.feed(BANNER + wire(100), 15.0)
    infos = [event.boot_id for event in events if isinstance(event, DeviceInfo)]
    assert infos == [1, 2]
    times_s, _ = taken(events, Modality.ECG)
    assert times_s[100] == pytest.approx(0.1 + 5.0)
    stats = bitalino.stats(1)
    assert (stats.restarts, stats.frames_lost) == (1, 0)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"rate_hz": "500"}, "rate_hz"),
        ({"eda": "A7"}, "eda"),
        ({"eda": "A2"}, "a port of its own"),
        ({"eda": "none", "ecg": "none"}, "at least one"),
        ({"vcc_v": "nan"}, "vcc_v"),
        ({"vcc_v": "0"}, "vcc_v"),
        ({"gain": "3"}, "it takes rate_hz=1000, eda=A3"),
    ],
)
def test_settings_that_no_device_has_are_refused(settings, complaint):
    with pytest.raises(ConfigError, match=complaint):
        driver(**settings)


@given(st.lists(st.tuples(st.binary(max_size=300) | st.just(BANNER) | st.just(wire(40)), st.booleans()), max_size=12))
def test_times_of_a_signal_always_increase(pieces):
    bitalino = driver(rate_hz="100")
    last_s: dict[Modality, float] = {}
    for arrival_s, (piece, cut) in enumerate(pieces):
        if cut:
            bitalino.cut()
        for event in bitalino.feed(piece, float(arrival_s)):
            if isinstance(event, Samples):
                assert event.times_s[0] > last_s.get(event.modality, -np.inf)
                last_s[event.modality] = event.times_s[-1]


@given(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 30), st.integers(1, 40)), min_size=1, max_size=8))
def test_block_means_are_those_of_the_samples_that_are_there(size, stretches):
    numbers, mean, found, at = [], BlockMean(size), {}, 0
    for gap, count in stretches:
        first, at = at + gap, at + gap + count
        numbers += range(first, at)
        for begin, values in mean.push(first, np.arange(first, at, dtype=float)):
            found |= {begin + k: value for k, value in enumerate(values)}
    numbers = np.array(numbers)
    blocks = numbers // size
    over = [b for b in np.unique(blocks) if b < blocks[-1] or (numbers[-1] + 1) % size == 0]
    assert list(found) == over
    assert [found[b] for b in over] == pytest.approx([numbers[blocks == b].mean() for b in over])


def test_a_real_recording_comes_out_in_its_own_units(shared_data: Path):
    table = np.loadtxt(shared_data / "bitalino_tumftm" / "XY12AB34_data.txt", usecols=(0, 5, 6), dtype=np.uint16)
    sequence, ecg, eda = table.T
    assert (sequence == np.arange(len(table)) % 16).all()
    bitalino = driver(eda_rate_hz="1000")
    sent = pack(table[:, 1:])
    events = [*bitalino.feed(BANNER, 0.0)]
    for begin in range(0, len(sent), 997):
        events += bitalino.feed(sent[begin : begin + 997], 1.0 + begin / 4000)
    times_s, ecg_mv = taken(events, Modality.ECG)
    np.testing.assert_allclose(times_s, np.arange(len(table)) / 1000, atol=1e-9)
    np.testing.assert_allclose(ecg_mv, (ecg / 1024 - 0.5) * 3.3 / 1100 * 1000, atol=1e-6)
    np.testing.assert_allclose(taken(events, Modality.EDA)[1], eda / 1024 * 3.3 / 0.132, rtol=1e-6)
    assert bitalino.stats(0).frames_lost == 0
    averaged = taken(driver().feed(BANNER + sent, 0.0), Modality.EDA)
    whole = eda[: len(eda) // 50 * 50].reshape(-1, 50).mean(axis=1) * 3.3 / 0.132 / 1024
    np.testing.assert_allclose(averaged[1], whole, rtol=1e-6)
    np.testing.assert_allclose(averaged[0], (np.arange(whole.size) * 50 + 24.5) / 1000)
