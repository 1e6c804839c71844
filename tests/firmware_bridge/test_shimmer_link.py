"""A Shimmer3: units, ranges and greeting without a port, and `edgepain simulate --device shimmer3` over a real one."""

import numpy as np
import pytest
import serial

from edgepain.firmware_bridge import DeviceSource, ReplaySource, device_kind, read_e4
from edgepain.firmware_bridge.shimmer import GSR, INT_A12, INT_A13, encode_packets
from edgepain.firmware_bridge.shimmer_driver import ShimmerDriver
from edgepain.signal import DeviceInfo, Modality, Samples

INQUIRED = b"\xff\x02" + (256).to_bytes(2, "little") + bytes(4) + bytes([2, 1, INT_A13, GSR])
DEVICE = ["--device", "shimmer3"]


def driver(**settings: str) -> ShimmerDriver:
    made = device_kind("shimmer3").driver(settings)
    assert isinstance(made, ShimmerDriver)
    return made


def wire(raw: np.ndarray, first: int = 0) -> bytes:
    return encode_packets((first + np.arange(len(raw))) * 256, raw.astype(np.uint16)).tobytes()


def test_it_is_set_up_one_acknowledged_command_after_the_other():
    shimmer, sent = driver(), []
    for tick in range(600):
        command = shimmer.request(tick / 100)
        if command:
            sent.append(command)
            reply = {b"\x2e": b"\x2f\x03\x00\x00\x00\x10\x09", b"\x01": INQUIRED[1:]}.get(command, b"")
            shimmer.feed(b"\xff" + reply, tick / 100)
        if shimmer.introduced and command == b"\x07":
            break
    expected = ["20", "2e", "050001", "08040100", "2104", "5e01", "8b02", "01", "07"]
    assert [command.hex() for command in sent] == expected


def test_without_an_answer_it_is_asked_from_the_beginning():
    shimmer = driver()
    sent = [command for tick in range(400) if (command := shimmer.request(tick / 100))]
    assert [command.hex() for command in sent] == ["20", "2e", "20", "2e", "20", "2e"]
    shimmer.feed(b"BITalino_v5.2\n", 4.0)
    assert "no answer to an inquiry" in shimmer.complaint()


@pytest.mark.parametrize("refusal", [b"\xfe\xfe", b""])
def test_firmware_that_knows_no_crc_is_told_from_another_device(refusal):
    shimmer, sent = driver(), []
    for tick in range(250):
        if command := shimmer.request(tick / 100):
            sent.append(command.hex())
            reply = b"\x2f\x03\x00\x00\x00\x0b\x00" if command == b"\x2e" else b""
            shimmer.feed(refusal if command == b"\x8b\x02" else b"\xff" + reply, tick / 100)
        if refusal and sent[-1] == "8b02":
            break
    assert "8b02" in sent
    assert "01" not in sent
    assert not shimmer.introduced
    assert "firmware 0.11.0" in shimmer.complaint()
    assert "--device-option crc=false" in shimmer.complaint()
    shimmer.cut()
    shimmer.feed(b"BITalino_v5.2\n", 4.0)
    assert "no answer to an inquiry" in shimmer.complaint(), "another device may be there now"


def test_units_are_those_of_the_data_sheet():
    raw = np.array([[0, 1000], [2048, 1 << 14 | 1000], [4095, 2 << 14 | 1000], [1, 3 << 14 | 600]])
    events = driver().feed(INQUIRED + wire(np.repeat(raw, 5, axis=0)), 0.0)
    assert isinstance(events[0], DeviceInfo)
    samples = [event for event in events if isinstance(event, Samples)]
    values = {
        m: np.concatenate([e.values for e in samples if e.modality is m])[::5] for m in (Modality.EDA, Modality.BVP)
    }
    volts = np.array([1000, 1000, 1000, 683]) * 3 / 4095
    assert values[Modality.EDA] == pytest.approx(1000 * (volts / 0.5 - 1) / [40.2, 287, 1000, 3300], rel=1e-5)
    assert values[Modality.BVP] == pytest.approx(np.array([0, 2048, 4095, 1]) * 3000 / 4095, rel=1e-5)


def test_columns_are_taken_as_the_device_lists_them():
    def answer(*ids: int) -> bytes:
        return INQUIRED[: -len(ids)] + bytes(ids)

    raw = np.tile([1000, 2048], (5, 1))
    for ids, sent in (((GSR, INT_A13), raw), ((INT_A13, GSR), raw[:, ::-1])):
        info, *samples = driver().feed(answer(*ids) + wire(sent), 0.0)
        assert isinstance(info, DeviceInfo)
        assert [stream.modality for stream in info.streams] == [Modality.EDA, Modality.BVP]
        (eda, bvp) = samples
        assert isinstance(eda, Samples)
        assert isinstance(bvp, Samples)
        assert eda.values == pytest.approx(1000 * (1000 * 3 / 4095 / 0.5 - 1) / 40.2, rel=1e-5)
        assert bvp.values == pytest.approx(2048 * 3000 / 4095, rel=1e-5)
    for ids in ((GSR, GSR), (INT_A13, INT_A13), (GSR, INT_A12)):
        assert driver().feed(answer(*ids) + wire(raw), 0.0) == [], "not what was asked for"


def test_a_change_of_range_is_flagged_for_80_ms():
    raw = np.full((60, 2), 1000)
    raw[20:, 1] |= 1 << 14
    shimmer, flagged = driver(), []
    shimmer.feed(INQUIRED, 0.0)
    data = wire(raw)
    for k in range(60):
        for event in shimmer.feed(data[10 * k : 10 * k + 10], k / 128):
            assert isinstance(event, Samples)
            if event.range_changed:
                assert event.modality is Modality.EDA
                flagged.append(round(event.times_s[0] * 128))
    assert flagged == list(range(20, 31)), "10.24 samples and the first"
    assert shimmer.stats(0).range_switches == 1


def test_a_sample_at_an_end_of_its_range_is_clipped():
    raw = np.full((60, 2), 1000)
    raw[[20, 21], [0, 1]] = 4095, 0
    raw[30:, 1] |= 3 << 14
    raw[40:50, 1] = 3 << 14 | 600
    shimmer = driver()
    events = [
        event for k in range(6) for event in shimmer.feed(INQUIRED * (k == 0) + wire(raw[10 * k :][:10], 10 * k), k)
    ]
    clipped = [(event.modality, round(event.times_s[0] * 128)) for event in events[1:] if event.clipped]
    assert clipped == [(Modality.EDA, 20), (Modality.BVP, 20), (Modality.EDA, 40)]
    assert shimmer.stats(0).clipped == 12


def test_a_recording_comes_through_whole_and_is_replayed_to_the_bit(e4_session, simulate, receive_all, tmp_path):
    log = tmp_path / "shimmer.wire"
    with simulate(e4_session, *DEVICE, "--speed", 20) as device:
        received = receive_all(live := DeviceSource(device.port, device="shimmer3", reconnect_s=0.5, record_to=log))
        report = device.report()
    stats = live.stats()
    assert report["frames"]["shimmer3"]["sent"] == stats.frames == pytest.approx(60 * 128, abs=30)
    assert (stats.frames_lost, stats.crc_errors, stats.restarts) == (0, 0, 0)
    (info,) = received.info
    assert (info.name, info.firmware, [s.rate_hz for s in info.streams]) == ("Shimmer3 GSR+", "0.16.9", [128, 128])
    played = read_e4(e4_session).signals[Modality.EDA]
    eda, times_s = received.values(Modality.EDA), received.times_s(Modality.EDA)
    # The session's clock begins with the first packet, which is not the recording's first moment.
    offset_s = 60.0 - (times_s[-1] + 1 / 128)
    expected = np.interp(times_s + offset_s, played.times_s, played.values)
    assert np.abs(eda - expected)[:-128].max() < 0.05
    again = receive_all(ReplaySource(log))
    np.testing.assert_array_equal(again.values(Modality.EDA), eda)
    np.testing.assert_array_equal(again.times_s(Modality.BVP), received.times_s(Modality.BVP))


def test_losses_are_counted_and_a_restart_is_set_up_again(e4_session, simulate, receive_all):
    faults = ["--drop-frames", 0.005, "--bit-errors", 1e-5, "--reboot", "15", "--seed", 2]
    with simulate(e4_session, *DEVICE, "--speed", 10, *faults) as device:
        received = receive_all(live := DeviceSource(device.port, device="shimmer3", reconnect_s=0.5))
        report = device.report()
    fates, stats = report["frames"]["shimmer3"], live.stats()
    assert stats.restarts == 1
    assert stats.frames + stats.frames_lost == pytest.approx(fates["sent"] + fates["swallowed"], abs=20)
    assert stats.frames_lost >= 5
    assert (np.diff(received.times_s(Modality.EDA)) > 0).all()


def test_another_program_may_talk_to_it(simulate):
    with simulate(*DEVICE) as device, serial.Serial(device.port, 115_200, timeout=5) as port:
        for command, answer in (
            ("3f", "ff2503"),
            ("2e", "ff2f030000001009"),
            ("050002", "ff"),
            ("03", "ff040002"),
            ("99", "fe"),
            ("8b01", "fe"),
            ("72", "ff8a7100"),
            ("6300000a", "ff620a" + "00" * 10),
            ("01", "ff020002" + "00" * 4 + "01011c"),
        ):
            port.write(bytes.fromhex(command))
            assert port.read(len(answer) // 2).hex() == answer
        port.write(b"\x07")
        assert port.read(1) == b"\xff"
        assert port.read(7)[0] == 0


def test_gsr_is_the_last_channel_as_on_the_real_board(simulate):
    with simulate(*DEVICE) as device, serial.Serial(device.port, 115_200, timeout=5) as port:
        port.write(bytes.fromhex("0804010001"))
        assert port.read(13).hex() == "ffff028002" + "00" * 4 + "0201121c"
