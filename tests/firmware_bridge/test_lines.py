"""Text lines without a port: sketches, columns, times, any split of the bytes, and noise."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepain.errors import ConfigError
from edgepain.firmware_bridge import device_kind
from edgepain.firmware_bridge.line_times import HostTimes, rate_of
from edgepain.firmware_bridge.lines import MAX_LINE_BYTES, LineSplitter
from edgepain.firmware_bridge.lines_driver import LEARNING_LINES, LinesDriver
from edgepain.signal import DeviceInfo, Modality, Samples

TIMED = {"columns": "time_ms,eda_us,bvp", "rate_hz": "10"}


def driver(**options: str) -> LinesDriver:
    made = device_kind("lines").driver(options)
    assert isinstance(made, LinesDriver)
    return made


def samples(events: list[DeviceInfo | Samples], modality: Modality) -> tuple[list[float], list[float]]:
    found = [event for event in events if isinstance(event, Samples) and event.modality is modality]
    return [t for s in found for t in s.times_s.tolist()], [v for s in found for v in s.values.tolist()]


@pytest.mark.parametrize(
    ("options", "line", "expected"),
    [
        ({"sketch": "pulsesensor_plotter"}, b"72,833,540", 540),
        ({"sketch": "pulsesensor_visualizer"}, b"S540", 540),
        ({"sketch": "pulsesensor_visualizer"}, b"B72", None),
        ({"sketch": "max3010x_value", "rate_hz": "50"}, b"115234", 115234),
        ({"sketch": "max3010x_bpm", "rate_hz": "50"}, b"IR=115234, BPM=71.43, Avg BPM=70", 115234),
        ({"sketch": "max3010x_bpm", "rate_hz": "50"}, b"IR=1152, BPM=71.43, Avg BPM=70 No finger?", 1152),
        ({"sketch": "max3010x_rate", "rate_hz": "50"}, b" R[1] IR[20] G[300] Hz[49.80]", 20),
        ({"sketch": "max3010x_rate", "rate_hz": "50", "led": "green"}, b" R[1] IR[20] G[300] Hz[49.80]", 300),
        ({"sketch": "max3010x_spo2", "rate_hz": "25", "led": "red"}, b"red=7, ir=8, HR=71, HRvalid=1", 7),
        ({"sketch": "emotibit"}, b"21599,869,1,PI,1,100,145489", 145489),
        ({"sketch": "emotibit"}, b"21599,869,1,PR,1,100,127995", None),
        ({"sketch": "emotibit", "led": "red"}, b"21599,869,1,PR,1,100,127995", 127995),
        ({"columns": "-,bvp", "separator": "tab", "rate_hz": "20", "scale": "bvp:0.5"}, b"on\t3e2", 150),
        ({"columns": "bvp,time_us", "separator": "space", "rate_hz": "20"}, b"-7.5   1000", -7.5),
    ],
)
def test_every_sketch_is_read(options, line, expected):
    board = driver(**options)
    events = board.feed(b"half a line\n" + line + b"\r\n", 5.0)
    assert samples(events, Modality.BVP)[1] == ([] if expected is None else [expected])
    assert board.frames == 1
    assert board.stats(0).malformed == 0
    assert [s.lead_off for s in events if isinstance(s, Samples)] == ([b"No finger" in line] if events else [])


def test_a_grove_gsr_is_in_microsiemens_by_its_makers_formula():
    counts = [0, 200, 511, 512, 600]
    board = driver(sketch="grove_gsr", cal="512")
    events = board.feed(b"\n" + b"".join(b"%d\r\n" % x for x in counts), 5.0)
    _, eda_us = samples(events, Modality.EDA)
    with np.errstate(divide="ignore"):
        resistance = [(1024 + 2 * x) * 10_000 / (512 - x) for x in counts[:3]]
    assert eda_us == pytest.approx([*(1e6 / r for r in resistance), 0, 0])
    assert (events[1].lead_off, events[1].clipped) == (True, True)


def test_an_emotibit_spreads_the_values_of_a_packet_over_the_time_since_the_last():
    wire = b"\n1000,1,1,EA,1,100,0.97\n1010,2,2,PI,1,100,5,6\n1133,3,2,EA,1,100,0.98,0.99\n1170,4,4,PI,1,100,1,2,3,4\n"
    events = driver(sketch="emotibit").feed(wire, 5.0)
    times_s, values = samples(events, Modality.EDA)
    assert times_s == pytest.approx([0, 0.0665, 0.133])
    assert values == pytest.approx([0.97, 0.98, 0.99])
    assert samples(events, Modality.BVP)[0] == pytest.approx([-0.03, 0.01, 0.05, 0.09, 0.13, 0.17])


@pytest.mark.parametrize(
    "line", [b"1000,1,2,EA,1,100,0.97", b"1000,1,1,EA,1,100,0.97,0.98", b"1000,1,0,EA,1,100", b"1000,1,1,EA,1,100,x"]
)
def test_an_emotibit_packet_that_has_not_as_many_values_as_it_says_is_malformed(line):
    board = driver(sketch="emotibit")
    assert board.feed(b"\n" + line + b"\n", 5.0) == []
    assert board.counters.malformed == 1


def test_a_real_emotibit_log_comes_out_as_it_stands_in_the_file(shared_data):
    text = (shared_data / "emotibit" / "2025-06-27_09-56-59-929206.csv").read_bytes()
    board = driver(sketch="emotibit")
    events = [event for k in range(0, len(text), 4096) for event in board.feed(text[k : k + 4096], k / 4096)]
    rows = [line.split(",") for line in text.decode().splitlines()]
    for tag, modality, rate_hz in (("EA", Modality.EDA, 15), ("PI", Modality.BVP, 25)):
        times_s, values = samples(events, modality)
        assert values == pytest.approx([float(v) for row in rows if row[3] == tag for v in row[6:]])
        assert (np.diff(times_s) > 0).all()
        assert len(times_s) / (times_s[-1] - times_s[0]) == pytest.approx(rate_hz, rel=0.01)
    assert board.stats(0).malformed == 0


def test_the_rate_is_measured_by_the_times_where_nobody_says_it():
    board = driver(columns="time_us,bvp")
    wire = b"\n" + b"".join(b"%d,%d\n" % (k * 7812 % 2**32, k) for k in range(50))
    events = board.feed(wire, 1.0)
    assert isinstance(events[0], DeviceInfo)
    assert events[0].streams[0].rate_hz == pytest.approx(128, rel=1e-3)
    assert samples(events, Modality.BVP)[1] == list(range(LEARNING_LINES, 50))
    assert rate_of([0, 0.1, 0.2, 0.4, 0.4, 0.5]) == pytest.approx((10, 0))
    assert rate_of([1.0] * 16) == (0, 0)


@pytest.mark.parametrize("rate_hz", [30.0, 51.2, 60.0, 128.0, 256.0])
@pytest.mark.parametrize(("wrong", "share"), [((), 500e-6), ((10,), 2e-3), ((5, 31), 2e-3)])
def test_the_rate_is_measured_by_times_in_milliseconds(rate_hz, wrong, share):
    ticks_ms = [100 + int(1e3 * k / rate_hz) + (4000 if k in wrong else 0) for k in range(1000)]
    events = driver(columns="time_ms,bvp").feed(b"\n" + b"".join(b"%d,1\n" % t for t in ticks_ms), 5.0)
    assert isinstance(events[0], DeviceInfo)
    assert events[0].streams[0].rate_hz == pytest.approx(rate_hz, rel=share)
    # It took a second at most.
    assert len(samples(events, Modality.BVP)[1]) >= 1000 - max(1.1 * rate_hz, LEARNING_LINES + 1) - len(wrong)


@pytest.mark.parametrize("wrong", [90_000_000, 2_000_000])
def test_time_goes_on_through_its_wrap_and_over_one_wrong_time(wrong):
    board = driver(columns="time_us,bvp", rate_hz="10")
    ticks = [(2**32 - 500_000 + k * 100_000) % 2**32 for k in range(12)]
    ticks[8] += wrong
    events = board.feed(b"\n" + b"".join(b"%d,1\n" % t for t in ticks), 1.0)
    assert samples(events, Modality.BVP)[0] == pytest.approx([k / 10 for k in range(12) if k != 8])
    assert (board.counters.doubtful, board.stats(0).restarts) == (1, 0)


def test_a_restart_goes_on_by_the_hosts_clock_and_is_told():
    board = driver(**TIMED)
    board.feed(b"\n" + b"".join(b"%d,1,2\n" % (60_000 + 100 * k) for k in range(10)), 100.0)
    events = board.feed(b"Starting...\n0,1,2\n100,1,2\n200,1,2\n", 104.0)
    assert isinstance(events[0], DeviceInfo)
    assert events[0].boot_id == 2
    assert samples(events, Modality.EDA)[0] == pytest.approx([4.9, 5.0])
    assert (board.stats(0).restarts, board.counters.malformed) == (1, 1)


def test_what_no_sensor_gives_is_missing_and_counted():
    board = driver(**TIMED)
    events = board.feed(b"\n0,1,2\n100,1e5,2\n200,nan,2\n300,1\n400,1e400,2\n500,1,2,3\n-1,1,2\n", 1.0)
    assert samples(events, Modality.EDA)[1] == pytest.approx([1, np.nan, np.nan], nan_ok=True)
    assert samples(events, Modality.BVP)[1] == [2, 2, 2]
    assert (board.counters.out_of_range, board.counters.malformed) == (2, 4)
    plotter = driver(sketch="pulsesensor_plotter", adc_max="1023")
    plotter.feed(b"\n72,833,1024\n72,833,1023\n", 1.0)
    assert plotter.counters.out_of_range == 1


def test_times_by_the_hosts_clock_follow_a_board_that_is_not_as_fast_as_it_says():
    """21 lines a second stated as 20, read every 50 ms with stalls; the first second is for finding it out."""
    random = np.random.default_rng(3)
    host, read, placed = HostTimes(20.0), 0, []
    for tick in range(1, 60 * 20):
        now_s = tick / 20
        if tick % 200 > 184:
            continue
        due = int(now_s * 21)
        if due > read:
            placed += host.place(due - read, 1000 + now_s + random.exponential(0.005))
            read = due
    true_s = np.arange(1, len(placed) + 1) / 21
    assert (np.diff(placed) > 0).all()
    error_s = (np.array(placed) - placed[0]) - (true_s - true_s[0])
    assert np.abs(error_s).max() < 0.15
    assert np.ptp(error_s[10 * 21 :]) < 0.1


def test_a_gap_is_found_by_the_hosts_clock():
    host = HostTimes(20.0)
    before = [t for k in range(100) for t in host.place(1, k / 20)]
    after = [t for k in range(100) for t in host.place(1, 5 + 1.5 + k / 20)]
    assert before[-1] == pytest.approx(4.95)
    assert after[-1] == pytest.approx(6.5 + 4.95, abs=0.05)
    again = host.place(1, 100.0)
    assert again == pytest.approx([100.0], abs=0.1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sketch": "grove_gsr"}, "needs cal="),
        ({"sketch": "max3010x_value"}, "give rate_hz="),
        ({"sketch": "max3010x_spo2", "rate_hz": "25", "led": "green"}, "sends no led=green"),
        ({"columns": "eda_us"}, "without a column of times"),
        ({"columns": "time_ms,pulse"}, "columns=time_ms,pulse: expected"),
        ({"columns": "time_ms"}, "expected, in the order"),
        ({"columns": "time_ms,bvp,bvp_au"}, "each signal once"),
        ({"scale": "bvp"}, "expected COLUMN:NUMBER"),
        ({"sketch": "toaster"}, "Invalid enum value 'toaster'"),
    ],
)
def test_options_that_do_not_fit_together_are_said(options, told):
    with pytest.raises(ConfigError, match="device lines: ") as caught:
        driver(**options)
    assert told in str(caught.value)


_LINES = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([b"\n", b"\r\n", b"x" * (MAX_LINE_BYTES + 1)]),
    st.builds(b"%d,%d,%d\r\n".__mod__, st.tuples(st.integers(0, 2**33), st.integers(0, 2000), st.integers(0, 99))),
)


@given(st.lists(_LINES, max_size=40).map(b"".join), st.data())
def test_any_split_of_the_bytes_gives_the_same(wire, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=20)))
    whole, split = driver(**TIMED), driver(**TIMED)
    expected = whole.feed(wire, 9.0)
    events = [e for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True) for e in split.feed(wire[a:b], 9.0)]
    for modality in (Modality.EDA, Modality.BVP):
        np.testing.assert_array_equal(samples(events, modality), samples(expected, modality))
    assert split.counters == whole.counters
    assert split.stats(0) == whole.stats(0)


_OPTIONS = [
    TIMED,
    {"columns": "eda_us,bvp", "rate_hz": "20"},
    {"columns": "time_ms,bvp"},
    {"sketch": "emotibit"},
    {"sketch": "grove_gsr", "cal": "512"},
    {"sketch": "pulsesensor_visualizer"},
]


@settings(max_examples=200)
@given(
    st.sampled_from(_OPTIONS),
    st.lists(st.tuples(st.lists(_LINES, max_size=10).map(b"".join), st.floats(0, 10), st.booleans()), max_size=8),
)
def test_nothing_raises_and_time_never_goes_back(options, reads):
    board, now_s = driver(**options), 0.0
    last_s: dict[Modality, float] = {}
    for data, wait_s, cut in reads:
        now_s += wait_s
        if cut:
            board.cut()
        for event in board.feed(data, now_s):
            if isinstance(event, Samples):
                assert (np.diff([last_s.get(event.modality, -np.inf), *event.times_s]) > 0).all()
                assert event.times_s.shape == event.values.shape
                last_s[event.modality] = float(event.times_s[-1])


def test_lines_are_whole_or_not_there():
    splitter = LineSplitter()
    assert splitter.feed(b"40\n540\r") == []
    assert splitter.feed(b"\n\n\r\n 541 \n" + b"5" * 2000) == [b"540", b"541"]
    assert splitter.feed(b"5\n542\n54") == [b"542"]
    splitter.restart()
    assert splitter.feed(b"3\n544\n") == [b"544"]
    assert splitter.too_long == 1


def test_ten_million_bytes_of_noise_take_no_memory():
    random = np.random.default_rng(1)
    board = driver(**TIMED)
    board.feed(random.bytes(100_000), 0.0)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for k in range(100):
        board.feed(random.bytes(100_000).replace(b"\n", b"") if k % 2 else random.bytes(100_000), float(k))
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 100_000
    assert board.frames == 0
    assert "no line of sketch=columns" in board.complaint()


def test_repeated_and_earlier_times_and_clipped_lines_are_counted():
    board = driver(**TIMED)
    board.feed(b"\n100,1,2\n200,1,2\n200,1,2\n150,1,2\n300,1,2\n", 1.0)
    stats = board.stats(0)
    assert (stats.frames, stats.repeated, stats.out_of_order, stats.lost_is_minimum) == (5, 2, 2, True)
    pulse = driver(sketch="pulsesensor_plotter")
    pulse.feed(b"\n72,833,1023\n72,833,0\n72,833,1\n", 1.0)
    assert pulse.stats(0).clipped == 2
