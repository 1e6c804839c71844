"""Messages become samples: times, gaps, bursts, clocks, restarts, and anything at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepain.firmware_bridge.channels import ChannelOptions
from edgepain.firmware_bridge.messages import Channel, Chunk, Described, Message, Offset, Stream, pack
from edgepain.firmware_bridge.streams_driver import StreamsDriver
from edgepain.signal import DeviceInfo, Modality, Samples

EDA = Stream("EDA", "EDA", 16.0, (Channel("", "", "uS"),))
BVP = Stream("BVP", "BVP", 64.0, (Channel(),))
RATE_HZ = 64.0


def described(*streams: Stream, source: str = "1", clock: str = "lab") -> Described:
    return Described("sender", source, clock, streams or (BVP,))


def chunk(stamps_s: np.ndarray, values: np.ndarray | None = None, stream: int = 0, value_type: str = "<f8") -> Chunk:
    values = np.zeros(stamps_s.size) if values is None else values
    return Chunk(stream, stamps_s.astype("<f8").tobytes(), values.astype(value_type).tobytes(), value_type)


def fed(driver: StreamsDriver, *messages: Message, at_s: float = 0.0) -> list[Samples]:
    events = driver.feed(b"".join(map(pack, messages)), at_s)
    return [event for event in events if isinstance(event, Samples)]


def regular(first: int, count: int, start_s: float = 1000.0) -> np.ndarray:
    return start_s + np.arange(first, first + count) / RATE_HZ


def times(samples: list[Samples], modality: Modality = Modality.BVP) -> np.ndarray:
    return np.concatenate([s.times_s for s in samples if s.modality is modality])


def test_a_sender_introduces_itself_and_its_values_come_through():
    driver = StreamsDriver(ChannelOptions())
    (info,) = driver.feed(pack(described()), 0.0)
    assert isinstance(info, DeviceInfo)
    assert [(s.modality, s.unit, s.rate_hz) for s in info.streams] == [(Modality.BVP, "a.u.", 64.0)]
    values = np.random.default_rng(1).normal(size=32).astype(np.float32)
    (samples,) = fed(driver, chunk(regular(0, 32), values, value_type="<f4"), at_s=0.5)
    np.testing.assert_array_equal(samples.values, values)
    np.testing.assert_array_equal(samples.times_s, np.arange(32) / RATE_HZ)
    assert samples.arrival_s == 0.5


@pytest.mark.parametrize("value_type", ["<f4", "<f8", "<i8", "<i4", "<i2", "|i1"])
def test_values_of_every_type_and_a_factor(value_type: str):
    driver = StreamsDriver(ChannelOptions(eda_factor=0.5))
    (samples,) = fed(
        driver, described(EDA), chunk(regular(0, 3)[:, np.newaxis][:, 0], np.array([2, -4, 6]), value_type=value_type)
    )
    assert samples.values.tolist() == [1, -2, 3]


def test_a_gap_stands_in_the_times_and_is_counted():
    driver = StreamsDriver(ChannelOptions())
    samples = fed(driver, described(), chunk(regular(0, 10)), chunk(regular(15, 10)))
    np.testing.assert_allclose(times(samples), np.r_[0:10, 15:25] / RATE_HZ, atol=1e-12)
    stats = driver.stats(0)
    assert (stats.frames, stats.frames_lost, stats.lost_is_minimum) == (20, 5, False)


def test_a_loss_within_a_chunk_is_counted_too():
    driver = StreamsDriver(ChannelOptions())
    samples = fed(driver, described(), chunk(np.delete(regular(0, 20), [7, 8])))
    assert times(samples).size == 18
    assert driver.stats(0).frames_lost == 2


def test_samples_that_are_not_later_are_left_out():
    driver = StreamsDriver(ChannelOptions())
    samples = fed(driver, described(), chunk(regular(0, 10)), chunk(regular(8, 2)), chunk(regular(10, 5)))
    np.testing.assert_allclose(times(samples), np.arange(15) / RATE_HZ, atol=1e-12)
    assert driver.stats(0).out_of_order == 2


def test_bursts_are_spread_evenly_and_gaps_in_them_stay():
    """A radio link: 16 samples at once, stamped when they were sent, some of them late; then a gap of half a minute."""
    driver = StreamsDriver(ChannelOptions())
    rng = np.random.default_rng(2)
    sent_s = np.repeat(np.arange(1, 241) * 0.25, 16) + np.repeat(
        np.where(np.arange(240) % 9, 0, rng.uniform(0, 0.1, 240)), 16
    )
    late = [chunk(1000 + part) for part in np.split(sent_s, 240)]
    samples = fed(driver, described(), *late, chunk(1000 + np.full(16, 90.25)))
    found_s, stats = times(samples), driver.stats(0)
    assert stats.lost_is_minimum
    # The last sample of a burst is taken when it is sent: the first quarter of a second is not known from the rest.
    settled = slice(16 * 60, 16 * 240)
    true_s = np.arange(1, 16 * 240 + 1) / RATE_HZ
    off_s = found_s[settled] - true_s[settled]
    assert np.ptp(off_s) < 0.01
    steps_s = np.diff(found_s)
    assert steps_s[settled][:-1].max() < 1.1 / RATE_HZ
    assert steps_s.max() == pytest.approx(30, abs=1)
    assert (steps_s > 0).all()


def test_one_hiccup_does_not_make_stamps_unbelieved():
    driver = StreamsDriver(ChannelOptions())
    stamps_s = regular(0, 640)
    stamps_s[100] = stamps_s[101] - 1e-4
    samples = fed(driver, described(), *(chunk(part) for part in np.split(stamps_s, 20)))
    np.testing.assert_allclose(times(samples), stamps_s - 1000, atol=1e-6)
    assert not driver.stats(0).lost_is_minimum


def test_two_streams_of_two_clocks_are_laid_on_one():
    """The second sender's clock is 500 s behind and loses 200 ppm: its samples stay with those of the first."""
    driver = StreamsDriver(ChannelOptions())
    fed(driver, described(BVP, EDA))
    found: list[Samples] = []
    for second in range(300):
        bvp_s = second + np.arange(64) / 64
        eda_s = second + np.arange(16) / 16
        slow = 1 - 200e-6
        found += fed(
            driver,
            Offset(0, -900.0),
            Offset(1, second - (100.0 + second * slow)),
            chunk(1000 + 900 - 1000 + bvp_s),
            chunk(100.0 + eda_s * slow, stream=1),
            at_s=second + 1.0,
        )
    np.testing.assert_allclose(times(found, Modality.BVP), np.arange(300 * 64) / 64, atol=1e-9)
    off_s = times(found, Modality.EDA) - np.arange(300 * 16) / 16
    assert np.abs(off_s).max() < 3e-3
    assert np.abs(np.diff(times(found, Modality.EDA)) * 16 - 1).max() < 1e-2


def test_streams_of_one_machine_stay_together_whatever_the_network_does():
    driver = StreamsDriver(ChannelOptions())
    fed(driver, described(BVP, EDA))
    rng = np.random.default_rng(5)
    found: list[Samples] = []
    for second in range(60):
        offsets = [Offset(k, 7.0 + rng.normal(0, 2e-3)) for k in range(2)]
        eda = chunk(1000.0 + second + np.arange(16) / 16, stream=1)
        found += fed(driver, *offsets, chunk(regular(second * 64, 64)), eda, at_s=second + 1.0)
    np.testing.assert_array_equal(times(found, Modality.EDA), np.arange(60 * 16) / 16)


def test_the_clock_is_told_by_offsets_where_there_are_some():
    """Arrivals jitter by 0.2 s; LSL's offsets are good to a fraction of a millisecond."""
    driver = StreamsDriver(ChannelOptions())
    fed(driver, described())
    rng = np.random.default_rng(4)
    for second in range(90):
        stamps_s = regular(second * 64, 64) * (1 + 50e-6)
        here_s = second + 1 + 7.0
        fed(driver, Offset(0, here_s - float(stamps_s[-1])), chunk(stamps_s), at_s=here_s + rng.uniform(0.1, 0.3))
    assert driver.clock.skew().ppm == pytest.approx(50, abs=1)
    # Of the first sample, which was taken a period after the second began.
    assert driver.clock.host_s(0.0) == pytest.approx(7.0 + 1 - 63 / 64, abs=1e-3)


def test_a_sender_that_started_again_goes_on_by_its_clock():
    driver = StreamsDriver(ChannelOptions())
    before = fed(driver, described(), chunk(regular(0, 64)), at_s=1.0)
    driver.cut()
    assert not driver.introduced
    (info, *after) = driver.feed(pack(described(source="2")) + pack(chunk(regular(640, 64))), 11.0)
    assert isinstance(info, DeviceInfo)
    assert info.boot_id == 2
    assert times(before)[-1] == 63 / 64
    assert after[0].times_s[0] == 10.0
    assert driver.stats(1).restarts == 1


def test_what_a_sender_sends_again_after_a_restart_is_left_out():
    driver = StreamsDriver(ChannelOptions())
    before = fed(driver, described(), chunk(regular(0, 64)), at_s=1.0)
    after = fed(driver, described(source="2"), chunk(regular(32, 64)), at_s=1.5)
    np.testing.assert_allclose(times(before + after), np.arange(96) / RATE_HZ, atol=1e-6)
    assert driver.stats(0).out_of_order == 32
    (further_back,) = fed(driver, described(source="3"), chunk(regular(-640, 64)), at_s=2.0)
    assert further_back.times_s[0] > 95 / RATE_HZ


@pytest.mark.parametrize("stamp_s", [3.0, 5e9])
def test_a_clock_that_was_set_anew_goes_on_by_the_hosts(stamp_s: float):
    driver = StreamsDriver(ChannelOptions())
    fed(driver, described(), chunk(regular(0, 64)), at_s=1.0)
    (samples,) = fed(driver, chunk(regular(0, 64, stamp_s)), at_s=6.0)
    assert samples.times_s[0] == pytest.approx(63 / 64 + 5.0)
    (samples,) = fed(driver, chunk(regular(64, 64, stamp_s)), at_s=7.0)
    assert samples.times_s[0] == pytest.approx(63 / 64 + 6.0, abs=1e-6)


def test_another_machines_clock_after_a_reconnect_goes_on_by_the_hosts():
    driver = StreamsDriver(ChannelOptions())
    fed(driver, described(), chunk(regular(0, 64)), at_s=1.0)
    driver.cut()
    (samples,) = fed(driver, described(source="2", clock="other"), chunk(regular(0, 8, 1100.0)), at_s=3.0)
    assert samples.times_s[0] == pytest.approx(63 / 64 + 2.0)


def test_what_cannot_be_read_is_complained_of():
    driver = StreamsDriver(ChannelOptions())
    assert driver.complaint() == ""
    driver.feed(pack(Offset(0, 1.0)), 0.0)
    assert driver.complaint() == "messages arrive but no description of their streams"
    driver.feed(pack(described(Stream("ECG", "", 100.0, (Channel(),)))), 0.0)
    assert "in no stated unit; give ecg_factor" in driver.complaint()
    assert fed(driver, chunk(regular(0, 4))) == []
    assert not driver.introduced


@pytest.mark.parametrize(
    "bad",
    [
        chunk(regular(0, 4), np.zeros(5)),
        chunk(regular(0, 4), stream=1),
        chunk(regular(0, 4), stream=-1),
        chunk(np.array([1.0, np.nan])),
        chunk(np.array([1.0, 1e12])),
        chunk(np.array([1.0, 1e6])),
        Chunk(0, b"", b"", "<f4"),
        Chunk(0, b"1234567", b"", "<f4"),
        Chunk(0, b"12345678", b"1234", "object"),
        Offset(3, 0.0),
        Offset(0, float("nan")),
        Offset(0, 1e300),
    ],
)
def test_absurd_content_is_counted_and_left_out(bad: Message):
    driver = StreamsDriver(ChannelOptions())
    assert fed(driver, described(), bad) == []
    assert driver.stats(0).malformed == 1
    assert len(fed(driver, chunk(regular(0, 4)))) == 1


FLOATS = st.floats(width=64) | st.floats(990, 1100)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.builds(lambda s: chunk(np.array(s)), st.lists(FLOATS, max_size=6)),
            st.builds(
                Chunk, st.integers(-2, 3), st.binary(max_size=32), st.binary(max_size=32), st.sampled_from(["<f4", "x"])
            ),
            st.builds(Offset, st.integers(-2, 3), FLOATS),
            st.builds(
                lambda r, u: described(Stream("b", "BVP", r, (Channel("", "", u),) * 2), BVP),
                FLOATS,
                st.text(max_size=3),
            ),
            st.just(described()),
        ),
        max_size=12,
    ),
    st.data(),
)
def test_nothing_makes_it_raise_and_times_only_grow(messages: list[Message], data: st.DataObject):
    driver = StreamsDriver(ChannelOptions())
    latest: dict[Modality, float] = {}
    for at, message in enumerate(messages):
        wire = bytearray(pack(message))
        if data.draw(st.booleans()):
            wire[data.draw(st.integers(0, len(wire) - 1))] ^= data.draw(st.integers(0, 255))
        if data.draw(st.integers(0, 9)) == 0:
            driver.cut()
        for event in driver.feed(bytes(wire), float(at)):
            if isinstance(event, Samples):
                assert event.times_s.size == event.values.size > 0
                assert np.isfinite(event.times_s).all()
                assert (np.diff(event.times_s) > 0).all()
                latest[event.modality] = float(event.times_s[-1])
        driver.clock.skew()
        driver.complaint()
        driver.stats(0)


def test_a_replay_gives_the_same_to_the_bit():
    rng = np.random.default_rng(8)
    wire = pack(described(BVP, EDA))
    for k in range(60):
        wire += pack(Offset(0, 1.0)) + pack(Offset(1, 1.0 + rng.normal(0, 1e-3)))
        wire += pack(chunk(regular(k * 16, 16) + rng.normal(0, 0.01, 16)))
        wire += pack(chunk(1000 + (k * 4 + np.arange(4)) / 16, stream=1))
    arrivals = [(wire[at : at + 100], at / 1e4) for at in range(0, len(wire), 100)]
    runs = []
    for _ in range(2):
        driver = StreamsDriver(ChannelOptions())
        events = [event for data, at_s in arrivals for event in driver.feed(data, at_s)]
        runs.append([(e.modality, e.times_s.tobytes(), e.values.tobytes()) for e in events if isinstance(e, Samples)])
    assert runs[0] == runs[1]
    assert len(runs[0]) == 120
