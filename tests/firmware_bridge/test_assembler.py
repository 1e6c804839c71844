"""Frames become samples on one session clock, whatever device and line do to them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepain.firmware_bridge.assembler import SampleAssembler
from edgepain.firmware_bridge.edgeframe import Flags, Frame, FrameType
from edgepain.firmware_bridge.hello import MISSING_I2, Hello, StreamHello, encode_hello
from edgepain.signal import DeviceInfo, Modality, Samples

BVP = StreamHello("bvp", "a.u.", 64.0, "f4")
EDA_I2 = StreamHello("eda", "uS", 4.0, "i2", 0.001, 2.0)
OTHER = StreamHello("glucose", "mmol/l", 1.0, "f4")
FRAME_US = 62_500  # 4 samples at 64 Hz


def hello(uptime_us: int = 0, boot_id: int = 1, streams=(BVP, EDA_I2, OTHER)) -> Frame:
    payload = encode_hello(Hello("band", "1", boot_id, uptime_us, tuple(streams)))
    return Frame(FrameType.HELLO, 255, 0, uptime_us & 0xFFFFFFFF, payload)


def bvp(seq: int, t_us: int, flags: int = 0) -> Frame:
    payload = np.arange(4, dtype="<f4").tobytes()
    return Frame(FrameType.DATA, 0, seq & 0xFFFF, t_us & 0xFFFFFFFF, payload, flags, 4)


def samples(assembler: SampleAssembler, *frames: Frame, arrival_s: float = 0.0) -> list[Samples]:
    events = [event for frame in frames for event in assembler.push(frame, arrival_s)]
    return [event for event in events if isinstance(event, Samples)]


@pytest.fixture
def assembler() -> SampleAssembler:
    made = SampleAssembler()
    made.push(hello(), 0.0)
    return made


def test_a_device_is_introduced_once():
    assembler = SampleAssembler()
    assert assembler.wants_hello
    (info,) = assembler.push(hello(), 0.0)
    assert isinstance(info, DeviceInfo)
    assert [s.modality for s in info.streams] == [Modality.BVP, Modality.EDA]
    assert assembler.push(hello(2_000_000), 2.0) == []
    assert not assembler.wants_hello


def test_samples_carry_values_times_and_flags(assembler):
    first, second = samples(
        assembler, bvp(0, 10 * FRAME_US), bvp(1, 11 * FRAME_US, Flags.OVERRUN | Flags.CLIPPED), arrival_s=3.5
    )
    assert first.modality is Modality.BVP
    assert first.times_s.tolist() == [0.0, 1 / 64, 2 / 64, 3 / 64]
    assert second.times_s[0] == FRAME_US / 1e6
    assert first.values.tolist() == [0, 1, 2, 3]
    assert first.values.dtype == np.float32
    assert (first.overrun, second.overrun, second.clipped, second.lead_off) == (False, True, True, False)
    assert first.arrival_s == 3.5
    samples(assembler, bvp(2, 12 * FRAME_US, Flags.RANGE_CHANGED))
    assert (assembler.counters.clipped, assembler.counters.range_switches) == (1, 1)


def test_int16_samples_are_scaled_and_may_be_missing(assembler):
    payload = np.array([0, 1000, -32767, MISSING_I2], "<i2").tobytes()
    (part,) = samples(assembler, Frame(FrameType.DATA, 1, 0, 0, payload, 0, 4))
    assert part.values[:3].tolist() == pytest.approx([2.0, 3.0, -30.767], rel=1e-6)
    assert np.isnan(part.values[3])


def test_values_beyond_float32_do_not_raise():
    assembler = SampleAssembler()
    assembler.push(hello(streams=[StreamHello("bvp", "a.u.", 64.0, "f4", 1e12, 0.0)]), 0.0)
    payload = np.array([3e38, np.nan, np.inf, 1], "<f4").tobytes()
    (part,) = samples(assembler, Frame(FrameType.DATA, 0, 0, 0, payload, 0, 4))
    assert part.values[3] == np.float32(1e12)


def test_data_before_hello_is_counted_and_hello_wanted():
    assembler = SampleAssembler()
    assert samples(assembler, bvp(5, 0), bvp(6, FRAME_US)) == []
    assert assembler.wants_hello
    assert len(samples(assembler, hello(), bvp(7, 2 * FRAME_US))) == 1
    assert assembler.counters.lost == 2


def test_lost_repeated_and_unknown_frames_are_counted(assembler):
    received = samples(assembler, *(bvp(seq, seq * FRAME_US) for seq in (0, 1, 1, 2, 6, 7)))
    assert len(received) == 5
    other = Frame(FrameType.DATA, 2, 0, 0, bytes(4), 0, 1)
    assert samples(assembler, other) == []
    counters = assembler.counters
    assert (counters.repeated, counters.lost, counters.unknown) == (1, 3, 1)
    assert counters.lost_by_modality == {Modality.BVP: 3}


def test_seq_wraps_without_loss(assembler):
    received = samples(assembler, *(bvp(65_530 + i, i * FRAME_US) for i in range(20)))
    assert len(received) == 20
    assert assembler.counters.lost == 0


def test_device_time_wraps_after_71_minutes():
    start_us = 2**32 - 5 * FRAME_US
    assembler = SampleAssembler()
    received = samples(
        assembler, hello(start_us), *(bvp(i, start_us + i * FRAME_US) for i in range(10)), hello(2**32 + 10**6)
    )
    times_s = np.concatenate([part.times_s for part in received])
    np.testing.assert_allclose(times_s, np.arange(40) / 64, atol=1e-9)


def test_samples_measured_just_before_hello_are_on_the_same_clock():
    assembler = SampleAssembler()
    wrap_us = 2**32
    received = samples(assembler, hello(wrap_us + 1000), bvp(0, wrap_us - FRAME_US + 1000), bvp(1, wrap_us + 1000))
    assert [part.times_s[0] for part in received] == [0.0, FRAME_US / 1e6]


def test_after_hours_without_a_line_hello_tells_which_wrap_it_is(assembler):
    samples(assembler, bvp(0, 0))
    assembler.link_lost()
    assert assembler.wants_hello
    assert samples(assembler, bvp(7, FRAME_US)) == [], "may come from a device that has restarted"
    away_us = 3 * 3600 * 10**6
    (part,) = samples(assembler, hello(away_us), bvp(4, away_us))
    assert part.times_s[0] == 3 * 3600.0
    assert assembler.counters.restarts == 0


def test_a_restart_goes_on_by_the_hosts_clock(assembler):
    samples(assembler, bvp(0, 50 * 10**6), arrival_s=100.0)
    info, *_ = assembler.push(hello(200_000, boot_id=2), 105.0)
    assert isinstance(info, DeviceInfo)
    assert info.boot_id == 2
    (part,) = samples(assembler, bvp(0, 200_000 + FRAME_US), arrival_s=105.1)
    assert part.times_s[0] == pytest.approx(4 / 64 + 5.0 + FRAME_US / 1e6)
    assert assembler.counters.restarts == 1
    assert assembler.counters.lost == 0


def test_a_restart_with_an_old_boot_id_shows_by_its_uptime(assembler):
    (before,) = samples(assembler, bvp(0, 50 * 10**6), arrival_s=1.0)
    (after,) = samples(assembler, hello(100_000), bvp(0, 150_000), arrival_s=1.1)
    assert assembler.counters.restarts == 1
    assert after.times_s[0] > before.times_s[-1] + 0.5, "a gap shows, and no time is used twice"


@pytest.mark.parametrize(
    "strange",
    [bvp(3, 9 * FRAME_US), bvp(11, 2 * FRAME_US), bvp(11, 700 * 10**6), bvp(11, 2**32 - 1)],
    ids=["seq back", "time back", "time far ahead", "time before the start"],
)
def test_what_runs_backwards_is_not_interpreted_until_hello(assembler, strange):
    samples(assembler, *(bvp(seq, seq * FRAME_US) for seq in range(11)))
    assert samples(assembler, strange, bvp(12, 12 * FRAME_US)) == []
    assert assembler.wants_hello
    assert assembler.counters.out_of_order == 1
    (part,) = samples(assembler, hello(13 * FRAME_US), bvp(13, 13 * FRAME_US))
    assert part.times_s[0] == pytest.approx(13 * FRAME_US / 1e6)
    assert assembler.counters.lost == 2


@pytest.mark.parametrize("boot_id", [1, 2], ids=["other streams", "a restart"])
def test_time_does_not_go_back_behind_a_hello_that_changes_everything(assembler, boot_id):
    before = samples(assembler, *(bvp(seq, 300 * 10**6 + seq * FRAME_US) for seq in range(5)), arrival_s=9.0)
    after = samples(assembler, hello(302 * 10**6, boot_id, (BVP, OTHER)), bvp(0, 2 * 10**6), arrival_s=9.1)
    assert (len(before), len(after)) == (5, 0)
    assert assembler.counters.out_of_order == 1
    (part,) = samples(assembler, hello(303 * 10**6, boot_id, (BVP, OTHER)), bvp(1, 303 * 10**6), arrival_s=10.0)
    assert part.times_s[0] > before[-1].times_s[-1]


@pytest.mark.parametrize(
    "frame",
    [
        Frame(FrameType.DATA, 0, 0, 0, bytes(15), 0, 4),
        Frame(FrameType.DATA, 0, 0, 0, b"", 0, 0),
        Frame(FrameType.DATA, 9, 0, 0, bytes(4), 0, 1),
        Frame(FrameType.HELLO, 255, 0, 1, hello().payload),
        Frame(FrameType.HELLO, 255, 0, 0, b"junk"),
    ],
    ids=["size", "empty", "stream", "uptime is not t_us", "no CBOR"],
)
def test_sound_frames_with_absurd_content_are_malformed(assembler, frame):
    assert assembler.push(frame, 0.0) == []
    assert assembler.counters.malformed == 1


DATA = st.builds(
    Frame,
    type=st.just(FrameType.DATA),
    stream=st.integers(0, 4),
    seq=st.integers(0, 0xFFFF) | st.integers(0, 5),
    t_us=st.integers(0, 0xFFFFFFFF) | st.integers(0, 10**6),
    payload=st.binary(min_size=4, max_size=4),
    flags=st.integers(0, 255),
    count=st.integers(0, 2),
)
HELLOS = st.builds(hello, st.integers(0, 2**40) | st.integers(0, 10**7), st.integers(0, 2))


@given(st.lists(DATA | HELLOS | st.just(None), max_size=60))
def test_times_of_a_signal_always_increase(frames):
    assembler = SampleAssembler()
    last_s: dict[Modality, float] = {}
    for arrival_s, frame in enumerate(frames):
        if frame is None:
            assembler.link_lost()
            continue
        for part in assembler.push(frame, float(arrival_s)):
            if isinstance(part, Samples):
                assert part.times_s[0] > last_s.get(part.modality, -np.inf)
                last_s[part.modality] = part.times_s[0]
