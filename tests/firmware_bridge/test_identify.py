"""What speaks on a port: every simulated device, garbage and silence, and a session with `--device auto`."""

import os
import termios
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st

from edgepain.errors import ConfigError, PortError
from edgepain.firmware_bridge import DeviceSource, ReplaySource, device_kind, packaged_recording, read_recording
from edgepain.firmware_bridge.bitalino_board import SimulatedBitalino
from edgepain.firmware_bridge.bitalino_driver import BitalinoOptions
from edgepain.firmware_bridge.identify import identify
from edgepain.firmware_bridge.recognise import recognise
from edgepain.signal import Modality

BITALINO = ["--device", "bitalino", "--device-option", "bvp=A1", "--device-option", "ecg=none"]


@pytest.fixture(autouse=True)
def no_boot_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is simulated speaks at once, and is listened to for less long."""
    monkeypatch.setattr("edgepain.firmware_bridge.identify.LISTEN_S", 0.8)
    monkeypatch.setattr("edgepain.firmware_bridge.identify.LISTEN_AT_OTHERS_S", 0.3)


@contextmanager
def talker(piece: bytes, only_at: int | None = None) -> Iterator[str]:
    """A port on which `piece` comes again and again; garbage while it is open at another speed than `only_at`."""
    master, slave = os.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    over = threading.Event()

    def talk() -> None:
        while not over.wait(0.02):
            try:
                right = only_at in (None, termios.tcgetattr(slave)[4])
                os.write(master, piece if right else bytes(byte | 0x80 for byte in piece))
                os.read(master, 1000)
            except BlockingIOError:
                pass

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield os.ttyname(slave)
    finally:
        over.set()
        thread.join()
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize(
    ("arguments", "device", "why", "options"),
    [
        (["--no-wait"], "edgeframe", "frames with the right CRC-32", {}),
        ([], "edgeframe", "it answered with HELLO of 'simulated wearable'", {}),
        (BITALINO, "bitalino", "it answered as BITalino v5.2", {}),
        (["--device", "shimmer3"], "shimmer3", "it answered as a Shimmer of hardware 3, firmware 0.16.9", {}),
        (["--device", "lines"], "lines", "the first one a time", {"columns": "time_ms,eda_us,bvp"}),
        (
            ["--device", "lines", "--device-option", "sketch=pulsesensor_plotter"],
            "lines",
            "PulseSensor",
            {"sketch": "pulsesensor_plotter"},
        ),
        (["--device", "lines", "--device-option", "sketch=emotibit"], "lines", "emotibit", {"sketch": "emotibit"}),
    ],
)
def test_every_simulated_device_is_found(simulate, arguments, device, why, options):
    with simulate(*arguments, "--loop") as simulated:
        found = identify(simulated.port)
    assert (found.finding.device, dict(found.finding.options)) == (device, options)
    assert why in found.finding.why
    device_kind(device).driver(found.finding.options)


@pytest.mark.parametrize(("device", "start"), [("bitalino", b"\xc3\x05"), ("shimmer3", b"\x07")])
def test_one_that_measures_already_is_found(simulate, device, start):
    with simulate("--device", device, "--loop") as simulated:
        with serial.Serial(simulated.port, 115_200) as port:
            for command in start:
                port.write(bytes([command]))
                time.sleep(0.1)
        found = identify(simulated.port)
    assert (found.finding.device, found.finding.certain) == (device, True)


def test_a_session_finds_out_and_its_recording_is_replayed(simulate, receive_all, tmp_path):
    log = tmp_path / "auto.wire"
    with simulate(*BITALINO, "--duration", 5) as simulated:
        settings = {"bvp": "A1", "ecg": "none"}
        live = DeviceSource(simulated.port, device="auto", options=settings, record_to=log, reconnect_s=0.3)
        received = receive_all(live)
    assert live.device == "bitalino"
    assert "bitalino at 115200 baud (certain: it answered as BITalino v5.2)" in received.changes[0].detail
    assert read_recording(log).metadata["device"] == "bitalino"
    eda = received.values(Modality.EDA)
    assert eda.size > 60
    np.testing.assert_array_equal(receive_all(ReplaySource(log)).values(Modality.EDA), eda)


def test_settings_that_do_not_fit_what_was_found_are_refused(simulate):
    with simulate(*BITALINO) as simulated, pytest.raises(ConfigError, match="device bitalino"):
        DeviceSource(simulated.port, device="auto", options={"sketch": "columns"})


def test_silence_is_said():
    with talker(b"") as port, pytest.raises(PortError, match="nothing arrives and nothing answers"):
        identify(port)


def test_garbage_is_shown(monkeypatch):
    monkeypatch.setattr("edgepain.firmware_bridge.identify.OTHER_BAUDS", (9600, 57_600))
    with (
        talker(bytes(range(120, 250)) + b"abc\xff") as port,
        pytest.raises(PortError, match=r"at 3 baud rates; of \d+ bytes at \d+ baud the first are .*\|.*\|") as error,
    ):
        identify(port)
    assert "--device" in str(error.value)


def test_another_speed_is_found_and_read_at():
    with talker(b"S540\r\nB72\r\n", only_at=termios.B57600) as port:
        found = identify(port)
        assert (found.baud, found.finding.options) == (57_600, {"sketch": "pulsesensor_visualizer"})
        with DeviceSource(port, device="auto") as source:
            end_s = time.monotonic() + 10
            while not source.stats().frames and time.monotonic() < end_s:
                source.recv(0.2)
            assert source.stats().frames


def test_one_baud_rate_is_tried_where_it_is_given():
    with talker(b"\x81\x82\xf3") as port, pytest.raises(PortError, match="at one baud rate"):
        identify(port, 9600)


def test_what_text_alone_does_not_say_has_to_be_given():
    with talker(b"512\r\n") as port:
        found = identify(port, 9600)
        assert (found.finding.device, found.finding.certain) == ("lines", False)
        assert "cal=NUMBER" in str(found)
        with pytest.raises(PortError, match="cal=NUMBER"):
            DeviceSource(port, device="auto", baud=9600)
        with DeviceSource(port, device="auto", baud=9600, options={"cal": "520"}) as source:
            assert source.device == "lines"


@pytest.mark.parametrize(
    ("text", "sketch", "wants"),
    [
        (b"S%d\r\nB72\r\nQ833\r\n", "pulsesensor_visualizer", ""),
        (b"IR=1152%02d, BPM=71.43, Avg BPM=70\r\n", "max3010x_bpm", "rate_hz"),
        (b" R[1%02d] IR[200] G[300] Hz[25.00]\r\n", "max3010x_rate", "rate_hz"),
        (b"red=1%02d, ir=200, HR=71, HRvalid=1, SPO2=98, SPO2Valid=1\r\n", "max3010x_spo2", "rate_hz"),
        (b"1152%02d\r\n", "max3010x_value", "rate_hz"),
    ],
)
def test_sketches_are_told_apart(text, sketch, wants):
    data = b"Starting...\r\n" + b"".join(text % k for k in range(20))
    found = recognise(data, 115_200)
    assert found is not None
    assert found.options == {"sketch": sketch}
    assert wants in found.wants


@given(st.binary(max_size=600), st.sampled_from([9600, 115_200]))
def test_nothing_raises(data, baud):
    recognise(data, baud)


def test_noise_is_nothing():
    random = np.random.default_rng(0)
    for _ in range(200):
        assert recognise(random.bytes(2000), 115_200) is None


@pytest.mark.parametrize("device", ["shimmer3", "bitalino"])
def test_a_device_at_rest_is_left_at_rest(simulate, device):
    """No question that is meant for others starts it: what to one is 'version' is 'measure' to another."""
    with simulate("--device", device, "--loop") as simulated:
        identify(simulated.port)
        with serial.Serial(simulated.port, 115_200, timeout=0.5) as port:
            assert port.read(1) == b""
            if device == "shimmer3":
                port.write(b"\x72")
                assert port.read(4) == b"\xff\x8a\x71\x00", "it does not measure"


def test_what_asks_a_shimmer_starts_no_bitalino():
    bitalino = SimulatedBitalino(packaged_recording(), BitalinoOptions(bvp="A1", ecg="none"))
    bitalino.obey(b"\x3f", 0.0)
    assert not bitalino.measuring
    assert bitalino.obey(b"\x00\x07", 0.3).startswith(b"BITalino_v")
