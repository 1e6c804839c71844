"""Signals of different rates that begin at different times lie on one clock, and that on the host's."""

import numpy as np
import pytest

from edgepain.firmware_bridge import Driver, device_kind
from edgepain.firmware_bridge.edgeframe import Frame, FrameType, encode
from edgepain.firmware_bridge.hello import Hello, StreamHello, encode_hello
from edgepain.signal import Modality, Samples

BEGIN_S, SECONDS, EVENT_S = 500.0, 90.0, 40.3
SKEW = 1 + 60e-6
EDA_HZ, BVP_HZ = 4.0, 64.0


def step(at_s: np.ndarray | float) -> np.ndarray | float:
    """What both sensors feel: something happens at EVENT_S."""
    return np.where(np.asarray(at_s) < EVENT_S, 1.0, 2.0)


def edgeframe_wire(eda_late_s: float) -> list[tuple[float, bytes]]:
    """(true time, frame): BVP 4 samples a frame from 0 on, EDA one a frame from `eda_late_s` on."""
    streams = (StreamHello("eda", "uS", EDA_HZ, "f4"), StreamHello("bvp", "a.u.", BVP_HZ, "f4"))

    def t_us(at_s: float) -> int:
        return round((7.0 + at_s * SKEW) * 1e6)

    hello = encode_hello(Hello("band", "1", 1, t_us(0.0), streams))
    frames = [(0.0, encode(Frame(FrameType.HELLO, 255, 0, t_us(0.0), hello)))]
    for stream, rate_hz, first_s, count in ((0, EDA_HZ, eda_late_s, 1), (1, BVP_HZ, 0.0, 4)):
        for seq in range(int(SECONDS * rate_hz / count)):
            # The device samples by its own clock.
            begin_s = first_s + seq * count / rate_hz / SKEW
            times_s = begin_s + np.arange(count) / rate_hz / SKEW
            payload = np.asarray(step(times_s)).astype("<f4").tobytes()
            frame = encode(Frame(FrameType.DATA, stream, seq, t_us(begin_s), payload, 0, count))
            frames.append((float(times_s[-1]), frame))
    return sorted(frames, key=lambda pair: pair[0])


def lines_wire(eda_late_s: float) -> list[tuple[float, bytes]]:
    """An EmotiBit: EDA at 15 Hz and PPG at 25 Hz, each line with the time of its value."""
    lines = [(0.0, b"\n")]
    for tag, rate_hz, first_s in ((b"EA", 15.0, eda_late_s), (b"PI", 25.0, 0.0)):
        for k in range(int(SECONDS * rate_hz)):
            at_s = first_s + k / rate_hz / SKEW
            ms = round((7.0 + at_s * SKEW) * 1e3)
            lines.append((at_s, b"%d,%d,1,%s,1,100,%g\n" % (ms, k, tag, float(step(at_s)))))
    return sorted(lines, key=lambda pair: pair[0])


def played(driver: Driver, wire: list[tuple[float, bytes]]) -> dict[Modality, tuple[np.ndarray, np.ndarray]]:
    """Times and values of each signal, read with a jitter of some milliseconds."""
    random, found = np.random.default_rng(1), {Modality.EDA: [], Modality.BVP: []}
    now_s = BEGIN_S
    for at_s, data in wire:
        now_s = max(now_s, BEGIN_S + at_s + random.exponential(0.004))
        for event in driver.feed(data, now_s):
            if isinstance(event, Samples):
                found[event.modality].append((event.times_s, event.values))
    return {m: tuple(np.concatenate(part) for part in zip(*parts, strict=True)) for m, parts in found.items()}


@pytest.mark.parametrize("eda_late_s", [0.0, 0.11, 2.9])
@pytest.mark.parametrize(
    ("device", "options", "make"),
    [("edgeframe", {}, edgeframe_wire), ("lines", {"sketch": "emotibit"}, lines_wire)],
    ids=["edgeframe", "emotibit"],
)
def test_what_both_signals_feel_at_once_stands_at_one_time(device, options, make, eda_late_s):
    driver = device_kind(device).driver(options)
    signals = played(driver, make(eda_late_s))
    seen_s = {}
    for modality, (times_s, values) in signals.items():
        first = int(np.argmax(values > 1.5))
        seen_s[modality] = times_s[first]
        # The event was between the sample before and this one, by the host's clock too, which starts 7 s later.
        before_s, after_s = (driver.clock.host_s(float(times_s[k])) - BEGIN_S for k in (first - 1, first))
        assert before_s - 0.005 < EVENT_S <= after_s + 0.005
    slower_hz = min(1 / np.median(np.diff(times_s)) for times_s, _ in signals.values())
    assert abs(seen_s[Modality.EDA] - seen_s[Modality.BVP]) <= 1 / slower_hz
    begins = [times_s[0] for times_s, _ in signals.values()]
    assert begins[0] - begins[1] == pytest.approx(eda_late_s, abs=0.002)
    assert driver.clock.skew().ppm == pytest.approx(60.0, abs=15.0)
