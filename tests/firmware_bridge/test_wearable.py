"""The simulated device without a port: what it sends, hour after hour, and what it answers."""

import struct

import numpy as np
import pytest

from edgepain.errors import ConfigError
from edgepain.firmware_bridge.assembler import SampleAssembler
from edgepain.firmware_bridge.clock import DeviceClock
from edgepain.firmware_bridge.edgeframe import Command, Flags, Frame, FrameType
from edgepain.firmware_bridge.faults import FaultPlan, FaultyLine, Outage
from edgepain.firmware_bridge.pty_link import PtyLink
from edgepain.firmware_bridge.simulator import PlayOptions, Simulator
from edgepain.firmware_bridge.wearable import HELLO, STATUS, Wearable
from edgepain.signal import Modality, Recording, Samples, Signal


def recording(seconds: float = 10.0, rate_hz: float = 64.0, modality: Modality = Modality.BVP) -> Recording:
    values = np.arange(round(seconds * rate_hz), dtype=np.float32)
    return Recording("s", "r", {modality: Signal(modality, values, rate_hz)})


def frames(wearable: Wearable, until_s: float, *, loop: bool = False):
    for due in wearable.schedule(loop=loop):
        if due.at_s > until_s:
            return
        if due.stream == HELLO:
            yield due, wearable.hello(due.at_s)
        elif due.stream == STATUS:
            yield due, wearable.status(due.at_s)
        else:
            yield due, wearable.data(due)


def test_a_loop_of_80_minutes_stays_on_one_clock_through_its_wrap():
    assembler = SampleAssembler()
    times_s = [
        event.times_s
        for due, frame in frames(Wearable(recording()), 4800.0, loop=True)
        for event in assembler.push(frame, due.at_s)
        if isinstance(event, Samples)
    ]
    steps_s = np.diff(np.concatenate(times_s))
    assert np.abs(steps_s - 1 / 64).max() < 2e-6
    assert times_s[-1][-1] > 4799.0
    assert assembler.counters.lost == 0


@pytest.mark.parametrize(("rate_hz", "sample_type"), [(4.0, "f4"), (64.0, "f4"), (512.0, "i2"), (1000.0, "f4")])
def test_frames_hold_40_to_100_ms_and_fit(rate_hz, sample_type):
    wearable = Wearable(recording(5.0, rate_hz), sample_type=sample_type)
    data = [frame for due, frame in frames(wearable, 10.0) if due.stream >= 0]
    assert sum(frame.count for frame in data) == 5 * rate_hz
    assert all(len(frame.payload) <= 240 for frame in data)
    assert all(frame.count == 1 or 0.04 <= frame.count / rate_hz <= 0.1 for frame in data[:-1])


def test_a_skewed_clock_is_measured_as_such():
    clock, assembler = DeviceClock(), SampleAssembler()
    for due, frame in frames(Wearable(recording(200.0), skew_ppm=150.0), 200.0):
        for event in assembler.push(frame, due.at_s):
            if isinstance(event, Samples):
                clock.update(float(event.times_s[-1]), event.arrival_s)
    assert clock.skew().ppm == pytest.approx(150.0, abs=2.0)


def test_commands_are_acknowledged_and_pings_answered():
    wearable = Wearable(recording())
    ask = Frame(FrameType.COMMAND, 255, 77, 0, bytes([Command.SEND_HELLO]))
    ack, hello = wearable.answer(ask, 1.0)
    assert (ack.type, ack.seq, ack.payload, hello.type) == (FrameType.ACK, 77, b"\x00", FrameType.HELLO)
    (refusal,) = wearable.answer(Frame(FrameType.COMMAND, 255, 78, 0, b"\xee"), 1.0)
    assert (refusal.type, refusal.payload) == (FrameType.ACK, b"\x01")
    (reply,) = wearable.answer(Frame(FrameType.TIME, 255, 1, 0, struct.pack("<Q", 123)), 1.5)
    assert struct.unpack("<QQ", reply.payload) == (123, 1_500_000)
    assert wearable.answer(Frame(FrameType.DATA, 0, 0, 0), 1.0) == []


def test_an_overrun_is_flagged_in_the_next_frame_of_that_signal():
    wearable = Wearable(recording())
    first, second, third = [due for due in wearable.schedule() if due.stream >= 0][:3]
    wearable.data(first)
    wearable.overrun(first)
    frame = wearable.data(second)
    assert frame is not None
    assert (frame.seq, frame.flags) == (1, Flags.OVERRUN)
    frame = wearable.data(third)
    assert frame is not None
    assert frame.flags == Flags.NONE


def test_missing_samples_stay_missing_in_int16():
    values = np.array([1, np.nan, 3, 5], np.float32)
    one = Recording("s", "r", {Modality.EDA: Signal(Modality.EDA, values, 4.0)})
    assembler = SampleAssembler()
    received = [
        event.values[0]
        for due, frame in frames(Wearable(one, sample_type="i2"), 2.0)
        for event in assembler.push(frame, due.at_s)
        if isinstance(event, Samples)
    ]
    assert received == pytest.approx([1, np.nan, 3, 5], nan_ok=True, abs=1e-4)


def test_faults_are_reproducible_and_counted():
    data = bytes(range(256)) * 40

    def carry(seed: int) -> tuple[bytes, FaultyLine]:
        line = FaultyLine(FaultPlan(seed=seed, bit_errors=1e-3, drop_bytes=0.01, repeat_bytes=0.02))
        return b"".join(line.carry(data[i : i + 256]) for i in range(0, len(data), 256)), line

    once, line = carry(1)
    assert carry(1)[0] == once != carry(2)[0]
    counters = line.counters
    assert len(once) == len(data) - counters.bytes_dropped + counters.bytes_repeated
    assert min(counters.bits_flipped, counters.bytes_dropped, counters.bytes_repeated) > 20


def test_plans_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="probability"):
        FaultPlan(bit_errors=1.5)
    with pytest.raises(ConfigError, match="SECONDS above 0"):
        Outage(1.0, 0.0)
    with pytest.raises(ConfigError, match="ends at 10 s"):
        Simulator(Wearable(recording()), PtyLink(), PlayOptions(), FaultPlan(pauses=[Outage(10.0, 1.0)]))
    with pytest.raises(ConfigError, match="speed"):
        Simulator(Wearable(recording()), PtyLink(), PlayOptions(speed=0.0), FaultPlan())
