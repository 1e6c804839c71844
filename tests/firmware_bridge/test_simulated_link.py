"""DeviceSource against `edgepain simulate`: a real process on a real pseudo-terminal."""

import json
import signal
import time

import numpy as np

from edgepain.firmware_bridge import DeviceSource, ReplaySource, read_e4, read_recording
from edgepain.signal import LinkState, Modality, Samples

BOTH = (Modality.EDA, Modality.BVP)


def test_a_recording_arrives_bit_for_bit(e4_session, simulate, receive_all):
    with simulate(e4_session, "--speed", 60) as device:
        received = receive_all(source := DeviceSource(device.port, reconnect_s=0.2))
        report = device.report()
    recording = read_e4(e4_session)
    for modality in BOTH:
        original = recording.signals[modality]
        np.testing.assert_array_equal(received.values(modality), original.values)
        np.testing.assert_array_equal(received.times_s(modality), original.times_s)
    assert len(received.info) == 1
    stats = source.stats()
    assert stats.frames == sum(fates["sent"] for fates in report["frames"].values())
    assert (stats.frames_lost, stats.crc_errors, stats.malformed, stats.repeated) == (0, 0, 0, 0)
    assert (report["unread_bytes"], set(received.states[1:])) == (0, {LinkState.LOST, LinkState.CLOSED})


def test_a_real_recording_arrives_bit_for_bit(shared_data, simulate, receive_all):
    folder = shared_data / "stress_predict" / "raw" / "S05"
    with simulate(folder, "--start", 600, "--duration", 200, "--speed", 200) as device:
        received = receive_all(DeviceSource(device.port, reconnect_s=0.2))
        device.report()
    recording = read_e4(folder)
    for modality in BOTH:
        original = recording.signals[modality]
        begin, end = (int(s * original.rate_hz) for s in (600, 800))
        np.testing.assert_array_equal(received.values(modality), original.values[begin:end])


def test_int16_loses_only_half_a_step(e4_session, simulate, receive_all):
    with simulate(e4_session, "--speed", 60, "--sample-type", "i2") as device:
        received = receive_all(DeviceSource(device.port, reconnect_s=0.2))
    for modality, original in read_e4(e4_session).signals.items():
        step = np.ptp(original.values) / 65_000
        assert np.abs(received.values(modality) - original.values).max() < 0.51 * step + 1e-6


def test_dropped_frames_are_counted_exactly(e4_session, simulate, receive_all):
    with simulate(e4_session, "--speed", 60, "--drop-frames", 0.05, "--seed", 3) as device:
        received = receive_all(source := DeviceSource(device.port, reconnect_s=0.2))
        report = device.report()
    dropped = sum(report["frames"][m.value]["swallowed"] for m in BOTH)
    assert source.stats().frames_lost == dropped > 20
    for modality in BOTH:
        assert received.values(modality).size == report["samples"][modality.value]


def test_line_noise_costs_frames_and_lets_no_wrong_value_through(e4_session, simulate, receive_all):
    noise = ("--bit-errors", 2e-4, "--drop-bytes", 1e-3, "--repeat-bytes", 1e-3, "--seed", 4)
    with simulate(e4_session, "--speed", 60, *noise) as device:
        received = receive_all(source := DeviceSource(device.port, reconnect_s=0.2))
        report = device.report()
    stats = source.stats()
    assert stats.crc_errors > 0
    assert stats.malformed > 0
    signals = read_e4(e4_session).signals

    def fits(zero_s: float) -> bool:
        """Whether every sample is that of the file, where the session began `zero_s` into it."""
        for modality in BOTH:
            index = np.rint((received.times_s(modality) + zero_s) * signals[modality].rate_hz).astype(int)
            if not np.array_equal(received.values(modality), signals[modality].values[index]):
                return False
        return True

    # Noise may have hit the first HELLOs, and then the session begins with the next one.
    late_s = 60 - max(received.times_s(modality)[-1] for modality in BOTH)
    assert any(fits(k / 64) for k in range(int(late_s * 64)))
    sent = sum(fates["sent"] for fates in report["frames"].values())
    assert 0.5 * sent < stats.frames < sent


def test_unplugging_is_survived_and_only_its_time_is_lost(e4_session, simulate, receive_all, tmp_path):
    link = tmp_path / "wearable"
    with simulate(e4_session, "--speed", 20, "--duration", 40, "--unplug", "20:10", "--link", link) as device:
        received = receive_all(source := DeviceSource(str(link), reconnect_s=3.0))
        report = device.report()
    assert received.states[:3] == [LinkState.CONNECTED, LinkState.LOST, LinkState.CONNECTED]
    stats = source.stats()
    assert (stats.reconnects, stats.restarts, len(received.info)) == (1, 0, 1)
    original = read_e4(e4_session).signals[Modality.BVP]
    times_s = received.times_s(Modality.BVP)
    index = np.rint(times_s * original.rate_hz).astype(int)
    np.testing.assert_array_equal(received.values(Modality.BVP), original.values[index])
    gap = int(np.argmax(np.diff(times_s)))
    assert times_s[gap] < 20.0
    assert times_s[gap + 1] > 29.0
    silent = sum(report["frames"][m.value]["silent"] for m in BOTH)
    assert stats.frames_lost >= silent > 100
    assert not link.is_symlink(), "removed at the end"


def test_a_reboot_is_a_new_introduction_on_one_session_clock(e4_session, simulate, receive_all):
    with simulate(e4_session, "--speed", 40, "--reboot", 30) as device:
        received = receive_all(source := DeviceSource(device.port, reconnect_s=0.2))
    assert [info.boot_id - received.info[0].boot_id for info in received.info] in ([0, 1], [0, 1 - 2**32])
    assert (source.stats().restarts, source.stats().frames_lost) == (1, 0)
    for modality in BOTH:
        steps_s = np.diff(received.times_s(modality))
        assert steps_s.min() > 0
        assert np.count_nonzero(steps_s > 0.9) == 1


def test_a_pause_stalls_the_link_and_data_bring_it_back(e4_session, simulate, receive_all):
    with simulate(e4_session, "--speed", 20, "--duration", 40, "--pause", "20:16") as device:
        received = receive_all(source := DeviceSource(device.port, stall_s=0.4, reconnect_s=0.2))
        report = device.report()
    assert received.states[:3] == [LinkState.CONNECTED, LinkState.STALLED, LinkState.CONNECTED]
    assert "no data for" in received.changes[1].detail
    assert source.stats().frames_lost == sum(report["frames"][m.value]["silent"] for m in BOTH)


def test_a_slow_reader_of_a_device_that_cannot_wait_sees_overruns(e4_session, simulate):
    with simulate(e4_session, "--speed", 1000, "--loop", "--drop-when-full") as device:
        with DeviceSource(device.port) as source:
            parts: list[Samples] = []
            while not any(part.overrun for part in parts):
                parts += [event for event in source.recv(1.0) if isinstance(event, Samples)]
                time.sleep(0.1)  # more of the recording goes by than the kernel keeps
            lost = source.stats().frames_lost
        device.process.send_signal(signal.SIGINT)
        _, errors = device.process.communicate(timeout=120)
    full = sum(json.loads(errors.splitlines()[0])["frames"][m.value]["full"] for m in BOTH)
    assert 0 < lost <= full


def test_a_slow_reader_of_a_device_that_waits_loses_nothing(e4_session, simulate, receive_all):
    with simulate(e4_session, "--speed", 2000) as device:
        source = DeviceSource(device.port, reconnect_s=0.2)
        first = [event for event in source.recv(1.0) if isinstance(event, Samples)]
        time.sleep(0.3)
        received = receive_all(source)
    received.samples[:0] = first
    for modality, original in read_e4(e4_session).signals.items():
        np.testing.assert_array_equal(received.values(modality), original.values)
    assert source.stats().frames_lost == 0


def test_nothing_is_lost_while_the_consumer_works(e4_session, simulate):
    values = []
    with (
        simulate(e4_session, "--speed", 5, "--duration", 20, "--drop-when-full") as device,
        DeviceSource(device.port, reconnect_s=0.2) as source,
    ):
        closed = False
        while not closed:
            for event in source.recv(1.0):
                if isinstance(event, Samples) and event.modality is Modality.BVP:
                    values.append(event.values)
                closed |= getattr(event, "state", None) is LinkState.CLOSED
            time.sleep(0.1)
        assert source.stats().frames_lost == 0
    expected = read_e4(e4_session).signals[Modality.BVP].values[: 20 * 64]
    np.testing.assert_array_equal(np.concatenate(values), expected)


def test_a_wire_log_replays_to_the_same_samples(e4_session, simulate, receive_all, tmp_path):
    log, link = tmp_path / "wire.log", tmp_path / "wearable"
    with simulate(
        e4_session, "--speed", 30, "--duration", 40, "--unplug", "20:5", "--bit-errors", 1e-4, "--link", link
    ) as device:
        received = receive_all(source := DeviceSource(str(link), record_to=log, reconnect_s=3.0))
        device.report()
    assert sum(len(chunk.data) for chunk in read_recording(log).chunks) == source.stats().bytes_read
    again = receive_all(played := ReplaySource(log))
    assert len(again.samples) == len(received.samples)
    for before, after in zip(received.samples, again.samples, strict=True):
        np.testing.assert_array_equal(after.values, before.values)
        np.testing.assert_array_equal(after.times_s, before.times_s)
        assert after.arrival_s == before.arrival_s
    assert again.info == received.info
    assert again.states == [LinkState.CONNECTED, LinkState.CONNECTED, LinkState.ENDED]
    assert played.stats() == source.stats()
    assert played.clock_skew() == source.clock_skew()
    assert played.host_s(20.0) is None
    assert played.recv(10.0) == []
