"""A Shimmer3: units, ranges and greeting without a port, and `edgepain simulate --device shimmer3` over a real one."""

from pathlib import Path

import numpy as np
import pytest
import serial

from edgepain.firmware_bridge import DeviceSource, ReplaySource, device_kind, read_csv, read_e4
from edgepain.firmware_bridge.shimmer import GSR, INT_A12, INT_A13, encode_packets
from edgepain.firmware_bridge.shimmer_driver import ShimmerDriver
from edgepain.signal import DeviceInfo, Modality, Samples

INQUIRED = b"\xff\x02" + (256).to_bytes(2, "little") + bytes(4) + bytes([2, 1, INT_A13, GSR])
REPLIES = {
    b"\x2e": b"\x2f\x03\x00\x00\x00\x10\x09",
    b"\x66\x03\x00": b"\x65\x03\x30\x03\x00",
    b"\x01": INQUIRED[1:],
}
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
            reply = REPLIES.get(command, b"")
            shimmer.feed(b"\xff" + reply, tick / 100)
        if shimmer.introduced and command == b"\x07":
            break
    expected = ["20", "2e", "660300", "050001", "08040100", "2104", "5e01", "8b02", "01", "07"]
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
            reply = {**REPLIES, b"\x2e": b"\x2f\x03\x00\x00\x00\x0b\x00"}.get(command, b"")
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
            ("6300000a", "ff620a02801000000000000201"),
            ("61010301" + "50", "ff"),
            ("6301000a", "ff620a02801050000000000201"),
            ("660300", "ff6503300300"),
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


EXG_IDS = {24: (0x1D, 0x1E, 0x1F), 16: (0x1D, 0x23, 0x24)}


def exg_answers(gain_bits: int, ids: tuple[int, ...], chip_registers: int = 3) -> bytes:
    """What an ExG unit says before it measures at 512 Hz: its firmware, board, registers and channels."""
    registers = bytearray(10)
    registers[chip_registers] = gain_bits << 4
    said = b"\xff\x2f\x03\x00\x00\x00\x10\x09" + b"\xff\x65\x03\x2f\x04\x00"
    said += b"\xff\x62\x0a" + bytes(registers)
    return said + b"\xff\x02\x40\x00" + bytes(4) + bytes([len(ids), 1, *ids])


@pytest.mark.parametrize(("gain_bits", "gain"), [(0, 6), (1, 1), (2, 2), (3, 3), (4, 4), (5, 8), (6, 12)])
@pytest.mark.parametrize("bits", [16, 24])
def test_ecg_is_in_mv_by_the_gain_that_the_registers_hold(gain_bits, gain, bits):
    ids = EXG_IDS[bits]
    counts = np.array([0, 1, -1, 1000, -(1 << bits - 1), (1 << bits - 1) - 1])
    raw = np.stack([np.full(6, 0x80), counts, counts // 2], axis=1)
    data = encode_packets(np.arange(6) * 64, raw, channels=ids).tobytes()
    info, *samples = driver(ecg_bits=str(bits)).feed(exg_answers(gain_bits, ids) + data, 0.0)
    assert isinstance(info, DeviceInfo)
    assert (info.name, [(s.modality, s.unit, s.rate_hz) for s in info.streams]) == (
        "Shimmer3 ECG",
        [(Modality.ECG, "mV", 512.0)],
    )
    values = np.concatenate([s.values for s in samples if isinstance(s, Samples)])
    full_mv = 2420 / gain if bits == 24 else 2420 / gain / 2
    assert values == pytest.approx(counts * full_mv / ((1 << bits - 1) - 1), rel=1e-5)
    assert any(s.clipped for s in samples if isinstance(s, Samples))


@pytest.mark.parametrize(("lead", "column"), [("LL-RA", 1), ("LA-RA", 2), ("VX-RL", 5)])
def test_the_lead_is_chosen(lead, column):
    ids = (0x1D, 0x1E, 0x1F) if lead != "VX-RL" else (0x1D, 0x1E, 0x1F, 0x20, 0x21, 0x22)
    raw = np.zeros((5, len(ids)), int)
    raw[:, column] = 100_000
    said = exg_answers(4, ids, 3 if lead == "LL-RA" else 4)
    _, *samples = driver(lead=lead).feed(said + encode_packets(np.arange(5) * 64, raw, channels=ids).tobytes(), 0.0)
    (ecg,) = (s for s in samples if isinstance(s, Samples))
    assert ecg.values == pytest.approx(100_000 * 2420 / 4 / (2**23 - 1), rel=1e-5)


def test_without_its_gain_an_ecg_unit_is_not_read():
    ids = EXG_IDS[24]
    shimmer = driver()
    said = exg_answers(4, ids)
    assert shimmer.feed(said[: said.index(b"\xff\x62")] + said[said.index(b"\xff\x02") :], 0.0) == []
    assert "does not tell the registers" in shimmer.complaint()


def test_a_unit_that_does_not_say_its_board_is_to_be_named():
    shimmer = driver()
    for tick in range(250):
        if command := shimmer.request(tick / 100):
            reply = {b"\x66\x03\x00": b"\xfe", b"\x2e": b"\xff" + REPLIES[b"\x2e"]}.get(command, b"\xff")
            shimmer.feed(reply, tick / 100)
    assert "unit=gsr or unit=exg" in shimmer.complaint()


@pytest.mark.parametrize(("firmware", "size"), [((3, 0, 5), 2), ((3, 0, 6), 3), ((1, 0, 7), 2), ((1, 0, 8), 3)])
def test_the_firmware_tells_how_long_its_time_is(firmware, size):
    kind, major, minor = firmware
    said = b"\xff\x2f" + bytes([kind, 0, major, 0, minor, 0])
    raw = np.full((600, 2), 1000)
    data = encode_packets(np.arange(600) * 256, raw, crc=False, time_bytes=size).tobytes()
    events = driver(unit="gsr", crc="false").feed(said + INQUIRED + data, 0.0)
    times_s = np.concatenate([e.times_s for e in events if isinstance(e, Samples) and e.modality is Modality.EDA])
    np.testing.assert_allclose(times_s, np.arange(600) / 128)


def short_times(first: int, last: int) -> bytes:
    """Packets of these numbers at 128 Hz, with times of 16 bits."""
    return encode_packets(np.arange(first, last) * 256, np.full((last - first, 2), 1000), time_bytes=2).tobytes()


@pytest.mark.parametrize("gap_s", [0.5, 1.5, 1.9, 2.0, 2.5, 6.25])
def test_whole_turns_of_a_short_time_show_when_packets_come_as_they_are_measured(gap_s):
    begin = 128 + round(gap_s * 128)
    shimmer = driver(time_bits="16", unit="gsr")
    events = [*shimmer.feed(INQUIRED + short_times(0, 128), 1.0)]
    for k in range(150):
        events += shimmer.feed(short_times(begin + 2 * k, begin + 2 * k + 2), (begin + 2 * k + 2) / 128)
    times_s = np.concatenate([e.times_s for e in events if isinstance(e, Samples) and e.modality is Modality.EDA])
    np.testing.assert_allclose(times_s, [k / 128 for k in (*range(128), *range(begin, begin + 300))])
    assert shimmer.stats(0).frames_lost == round(gap_s * 128)
    assert shimmer.stats(0).lost_is_minimum


@pytest.mark.parametrize("stall_s", [1.2, 1.9, 3.0, 7.5])
def test_a_backlog_in_several_reads_is_no_turn_of_a_short_time(stall_s):
    shimmer, last = driver(time_bits="16", unit="gsr"), 128 + round(stall_s * 128)
    events, now_s = [*shimmer.feed(INQUIRED + short_times(0, 128), 1.0)], 1.0 + stall_s
    for begin in range(128, last, 20):
        events += shimmer.feed(short_times(begin, min(begin + 20, last)), now_s)
        now_s += 0.02
    for begin in range(last, last + 300, 2):
        events += shimmer.feed(short_times(begin, begin + 2), max((begin + 2) / 128, now_s))
    times_s = np.concatenate([e.times_s for e in events if isinstance(e, Samples) and e.modality is Modality.EDA])
    np.testing.assert_allclose(times_s, np.arange(last + 300) / 128)
    assert shimmer.stats(0).frames_lost == 0


@pytest.fixture(scope="session")
def ecg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 s of something like an ECG at 256 Hz."""
    path = tmp_path_factory.mktemp("ecg") / "ecg.csv"
    times_s = np.arange(20 * 256) / 256
    ecg_mv = np.exp(-(((times_s % 0.8) - 0.4) ** 2) / 2e-4) + 0.1 * np.sin(times_s)
    lines = [f"{t:.6f},{v:.6f}" for t, v in zip(times_s, ecg_mv, strict=True)]
    path.write_text("time_s,ecg_mv\n" + "\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    "settings",
    [
        {"lead": "LA-RA", "ecg_gain": "6"},
        {"ecg_bits": "16", "ecg_gain": "12", "rate_hz": "256"},
        {"lead": "VX-RL", "time_bits": "16", "crc": "false"},
    ],
)
def test_an_ecg_unit_comes_through_in_mv(ecg_file, settings, simulate, receive_all, tmp_path):
    options = [text for item in settings.items() for text in ("--device-option", "=".join(item))]
    log = tmp_path / "ecg.wire"
    with simulate(ecg_file, *DEVICE, *options, "--speed", 10) as device:
        live = DeviceSource(device.port, device="shimmer3", options=settings, reconnect_s=0.5, record_to=log)
        received = receive_all(live)
        report = device.report()
    rate_hz = float(settings.get("rate_hz", 512))
    (info,) = received.info
    assert (info.name, [(s.modality, s.rate_hz) for s in info.streams]) == ("Shimmer3 ECG", [(Modality.ECG, rate_hz)])
    assert info.firmware == ("0.5.4" if "time_bits" in settings else "0.16.9")
    assert live.stats().frames == report["frames"]["shimmer3"]["sent"]
    played = read_csv(ecg_file).signals[Modality.ECG]
    ecg, times_s = received.values(Modality.ECG), received.times_s(Modality.ECG)
    offset_s = 20.0 - (times_s[-1] + 1 / rate_hz)
    expected = np.interp(times_s + offset_s, played.times_s, played.values)
    step_mv = 2420 / 12 / 2 / 2**15 if "ecg_bits" in settings else 1e-4
    assert np.abs(ecg - expected)[: -int(rate_hz)].max() < step_mv + 1.0 / rate_hz * 60
    again = receive_all(ReplaySource(log))
    np.testing.assert_array_equal(again.values(Modality.ECG), ecg)
