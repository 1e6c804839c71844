"""`edgepain simulate --device lines` as a process, read over a real pseudo-terminal."""

import numpy as np
import pytest

from edgepain.errors import ConfigError
from edgepain.firmware_bridge import DeviceSource, ReplaySource, device_kind, packaged_recording, read_e4
from edgepain.firmware_bridge.lines_board import SimulatedLines
from edgepain.signal import LinkState, Modality

DEVICE = ["--device", "lines"]
COLUMNS = {"columns": "time_us,bvp,eda_us", "rate_hz": "64"}


def given(options: dict[str, str]) -> list[str]:
    return [part for name, value in options.items() for part in ("--device-option", f"{name}={value}")]


def test_columns_come_through_whole_and_are_replayed_to_the_bit(e4_session, simulate, receive_all, tmp_path):
    log = tmp_path / "lines.wire"
    with simulate(e4_session, *DEVICE, *given(COLUMNS), "--speed", 20) as device:
        live = DeviceSource(device.port, device="lines", options=COLUMNS, reconnect_s=0.5, record_to=log)
        received = receive_all(live)
        report = device.report()
    assert report["unread_bytes"] == 0
    stats = live.stats()
    assert stats.frames == report["frames"]["lines"]["sent"] == 60 * 64
    assert (stats.malformed, stats.repeated, stats.restarts) == (0, 0, 0)
    played = read_e4(e4_session).signals
    times_s = received.times_s(Modality.EDA)
    assert np.diff(times_s) == pytest.approx(1 / 64, abs=2e-6)
    for modality in (Modality.EDA, Modality.BVP):
        expected = np.interp(times_s, played[modality].times_s, played[modality].values)
        np.testing.assert_allclose(received.values(modality), expected, atol=1e-5)
    again = receive_all(ReplaySource(log))
    np.testing.assert_array_equal(again.values(Modality.EDA), received.values(Modality.EDA))
    np.testing.assert_array_equal(again.times_s(Modality.BVP), received.times_s(Modality.BVP))


def test_damage_restarts_and_a_replug_are_counted_and_got_over(e4_session, simulate, receive_all, tmp_path):
    link = tmp_path / "board"
    faults = ["--bit-errors", 1e-4, "--drop-bytes", 1e-4, "--reboot", 20, "--unplug", "40:5", "--seed", 4]
    with simulate(e4_session, *DEVICE, *given(COLUMNS), "--speed", 10, "--link", link, *faults) as device:
        received = receive_all(live := DeviceSource(str(link), device="lines", options=COLUMNS, reconnect_s=2.0))
        report = device.report()
    stats = live.stats()
    assert report["injected"]["bits_flipped"] > 10
    assert stats.malformed > 5
    assert (stats.restarts, stats.reconnects) == (2, 1)
    assert [info.boot_id for info in received.info] == [1, 2, 3]
    assert LinkState.LOST in received.states
    assert stats.frames > 0.9 * report["frames"]["lines"]["sent"]
    assert (np.diff(received.times_s(Modality.EDA)) > 0).all()


@pytest.mark.parametrize(
    ("options", "modality"),
    [
        ({"sketch": "pulsesensor_plotter"}, Modality.BVP),
        ({"sketch": "pulsesensor_visualizer"}, Modality.BVP),
        ({"sketch": "max3010x_value", "rate_hz": "50"}, Modality.BVP),
        ({"sketch": "max3010x_bpm", "rate_hz": "50"}, Modality.BVP),
        ({"sketch": "max3010x_rate", "rate_hz": "50"}, Modality.BVP),
        ({"sketch": "max3010x_spo2", "rate_hz": "25", "led": "red"}, Modality.BVP),
        ({"sketch": "grove_gsr", "cal": "512"}, Modality.EDA),
        ({"sketch": "emotibit", "led": "green"}, Modality.EDA),
        ({"columns": "bvp,-,eda_us", "separator": "semicolon", "rate_hz": "50"}, Modality.EDA),
    ],
)
def test_every_sketch_is_simulated_as_it_is_read(options, modality):
    kind, recording = device_kind("lines"), packaged_recording()
    board, driver = SimulatedLines(recording, kind.parse(options), lambda: True), kind.driver(options)
    seconds = [driver.feed(b"".join(board.frames(t / 10)), t / 10) for t in range(1, 201)]
    parts = [event for events in seconds for event in events if getattr(event, "modality", None) is modality]
    values = np.concatenate([part.values for part in parts])
    times_s = np.concatenate([part.times_s for part in parts])
    assert driver.counters.malformed == 0
    assert len(values) == pytest.approx(20 * parts[0].rate_hz, abs=2)
    played = recording.signals[modality]
    expected = np.interp(times_s, played.times_s, played.values)
    if modality is Modality.EDA:
        # One step of a Grove GSR is 0.1 µS at that conductance.
        assert np.abs(values - expected).max() < 0.2
    else:
        assert np.corrcoef(values, expected)[0, 1] > 0.9


def test_a_recording_without_the_signal_is_refused(e4_session):
    options = device_kind("lines").parse({"columns": "time_ms,ecg_mv"})
    with pytest.raises(ConfigError, match="the recording has no ecg"):
        SimulatedLines(read_e4(e4_session), options, lambda: True)
