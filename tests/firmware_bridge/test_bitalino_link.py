"""`edgepain simulate --device bitalino` as a process, read over a real pseudo-terminal."""

import os
import time

import numpy as np
import pytest
import serial

from edgepain.errors import ConfigError
from edgepain.firmware_bridge import DeviceSource, ReplaySource, read_e4
from edgepain.firmware_bridge.bitalino import BitalinoDecoder
from edgepain.firmware_bridge.bitalino_board import SimulatedBitalino
from edgepain.firmware_bridge.bitalino_driver import BitalinoOptions
from edgepain.signal import LinkState, Modality, Recording, Signal

WIRING = {"bvp": "A1", "ecg": "none", "rate_hz": "100"}
OPTIONS = [part for name, value in WIRING.items() for part in ("--device-option", f"{name}={value}")]


def source(port: str, **settings) -> DeviceSource:
    return DeviceSource(port, device="bitalino", options=WIRING, reconnect_s=0.5, **settings)


def test_a_recording_comes_through_whole_and_is_replayed_to_the_bit(e4_session, simulate, receive_all, tmp_path):
    log = tmp_path / "bitalino.wire"
    with simulate(e4_session, "--device", "bitalino", *OPTIONS, "--speed", 20) as device:
        received = receive_all(live := source(device.port, record_to=log))
        report = device.report()
    assert report["frames"]["bitalino"]["sent"] == 6000
    assert report["unread_bytes"] == 0
    stats = live.stats()
    assert (stats.frames, stats.frames_lost, stats.crc_errors, stats.restarts) == (6000, 0, 0, 0)
    (info,) = received.info
    assert (info.name, info.firmware, len(info.streams)) == ("BITalino", "5.2", 2)

    eda, played = received.values(Modality.EDA), read_e4(e4_session).signals[Modality.EDA]
    times_s = received.times_s(Modality.EDA)
    assert np.diff(times_s) == pytest.approx(0.05)
    expected = np.interp(times_s, played.times_s, played.values)
    assert np.abs(eda - expected).max() < 0.02, "within the steps of 10 bits"

    again = receive_all(ReplaySource(log))
    for modality in (Modality.EDA, Modality.BVP):
        np.testing.assert_array_equal(again.values(modality), received.values(modality))
        np.testing.assert_array_equal(again.times_s(modality), received.times_s(modality))
    assert again.info == received.info


def test_what_is_lost_on_the_way_is_counted(e4_session, simulate, receive_all):
    faults = ["--drop-frames", 0.002, "--bit-errors", 2e-5, "--seed", 3]
    with simulate(e4_session, "--device", "bitalino", *OPTIONS, "--speed", 20, *faults) as device:
        receive_all(live := source(device.port))
        report = device.report()
    fates, injected, stats = report["frames"]["bitalino"], report["injected"], live.stats()
    assert fates["swallowed"] > 3
    assert injected["bits_flipped"] > 1
    # A flip in the sequence or beside it may pass CRC4; one in the last frames has none after it to prove it.
    assert stats.frames + stats.frames_lost == pytest.approx(6000, abs=4)
    assert stats.frames_lost >= fates["swallowed"]
    assert abs(stats.crc_errors - injected["bits_flipped"]) <= 2


def test_an_unplugged_board_is_greeted_and_started_again(e4_session, simulate, receive_all, tmp_path):
    link = tmp_path / "bitalino"
    faults = ["--unplug", "5:5", "--reboot", "20", "--link", link]
    with simulate(e4_session, "--device", "bitalino", *OPTIONS, "--speed", 10, *faults) as device:
        live = DeviceSource(str(link), device="bitalino", options=WIRING, reconnect_s=2.0)
        received = receive_all(live)
        report = device.report()
    assert report["injected"] | {"unplugs": 1, "reboots": 1} == report["injected"]
    stats = live.stats()
    assert (stats.reconnects, stats.restarts) == (1, 2)
    assert received.states[:3] == [LinkState.CONNECTED, LinkState.LOST, LinkState.CONNECTED]
    assert [info.boot_id for info in received.info] == [1, 2, 3]
    assert (np.diff(received.times_s(Modality.BVP)) > 0).all()


def test_another_program_may_talk_to_it(simulate):
    """With pyserial alone, as the maker's protocol page has it."""
    with simulate("--device", "bitalino") as device, serial.Serial(device.port, 115_200, timeout=5) as port:
        port.write(b"\x00")
        port.write(b"\x07")
        assert port.read_until(b"\n") == b"BITalino_v5.2\n"
        port.write(b"\x43")
        port.write(b"\xfd")
        decoder, blocks = BitalinoDecoder(6), []
        while not blocks:
            blocks = decoder.feed(port.read(8))
        assert blocks[0].analog.shape[1] == 6
        port.write(b"\x00\x07")
        assert port.read_until(b"\n").endswith(b"BITalino_v5.2\n")


def test_a_board_measures_at_the_rate_it_was_told():
    person = Recording("s", "r", {Modality.ECG: Signal(Modality.ECG, np.linspace(-2, 2, 200, dtype=np.float32), 10.0)})
    board = SimulatedBitalino(person, BitalinoOptions())
    assert board.obey(b"\x07\x83", 3.0) == b"BITalino_v5.2\n"
    assert not board.measuring
    assert board.obey(bytes([0b1001]), 3.0) == b""
    first = board.frames(5.0)
    assert first.shape == (200, 3)
    assert board.obey(b"\x07", 5.0) == b"", "it measures"
    (block, *_) = BitalinoDecoder(1).feed(first.tobytes())
    # -2 mV is below what the sensor can show.
    played_mv = np.interp(3.0 + np.arange(len(block.analog)) / 100, np.arange(200) / 10, np.linspace(-2, 2, 200))
    expected = np.clip((played_mv * 1100 / 3300 + 0.5) * 1024, 0, 1023)
    np.testing.assert_allclose(block.analog[:, 0], expected, atol=0.51)
    board.obey(b"\x00", 5.0)
    assert not board.measuring


def test_what_cannot_be_played_is_said(e4_session):
    with pytest.raises(ConfigError, match="none of it is on a port"):
        SimulatedBitalino(read_e4(e4_session), BitalinoOptions(eda="none"))


def test_options_of_other_devices_are_refused(simulate):
    with simulate("--device", "bitalino", "--no-wait") as device:
        _, errors = device.process.communicate(timeout=60)
        assert device.process.returncode == 2
        assert "for edgeframe only" in errors


def test_a_reader_that_only_listens_gets_nothing(e4_session, simulate):
    with simulate(e4_session, "--device", "bitalino") as device:
        port = os.open(device.port, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            time.sleep(0.5)
            with pytest.raises(BlockingIOError):
                os.read(port, 100)
        finally:
            os.close(port)
