"""A session over sources that say exactly what a test wants: limits, silence, and how it ends."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from edgepain.bundle import Bundle
from edgepain.engine import Engine, open_engine
from edgepain.errors import BundleMismatchError, ConfigError, DataError, EdgepainError, PortError
from edgepain.runtime import Abstention, Decider, Decision, Limits, Session, Summary
from edgepain.signal import (
    ClockSkew,
    DeviceInfo,
    LinkChange,
    LinkState,
    LinkStats,
    Modality,
    Samples,
    StreamEvent,
    StreamInfo,
)

BAND = DeviceInfo("band", "1", 1, (StreamInfo(Modality.EDA, "uS", 4.0), StreamInfo(Modality.BVP, "a.u.", 64.0)))


class Script:
    """A source that gives one batch of events a call, raises what is an exception, and then stays silent."""

    def __init__(self, *batches: Sequence[StreamEvent] | BaseException, stats: LinkStats | None = None) -> None:
        self._batches = list(batches)
        self._stats = stats or LinkStats()
        self.closed = False
        self.taken_s: float | None = None
        self.skew = ClockSkew(None, "too early")

    def recv(self, timeout_s: float) -> Sequence[StreamEvent]:
        if not self._batches:
            time.sleep(timeout_s / 10)
            return []
        batch = self._batches.pop(0)
        if isinstance(batch, BaseException):
            raise batch
        return batch

    def stats(self) -> LinkStats:
        return self._stats

    def host_s(self, device_s: float) -> float | None:
        return self.taken_s

    def clock_skew(self) -> ClockSkew:
        return self.skew

    def close(self) -> None:
        self.closed = True


class Notes:
    """A sink that keeps everything it is told."""

    def __init__(self) -> None:
        self.devices: list[DeviceInfo] = []
        self.links: list[LinkChange] = []
        self.decisions: list[Decision] = []
        self.summaries: list[Summary] = []
        self.device, self.link = self.devices.append, self.links.append
        self.decision, self.summary = self.decisions.append, self.summaries.append


@pytest.fixture(scope="module")
def engine(exported: Bundle) -> Engine:
    return open_engine(exported)


@pytest.fixture
def decider(exported: Bundle, engine: Engine) -> Decider:
    return Decider(exported, engine)


def samples(begin_s: float, end_s: float, modality: Modality) -> Samples:
    rate_hz = 4.0 if modality is Modality.EDA else 64.0
    times_s = np.arange(int(begin_s * rate_hz), int(end_s * rate_hz)) / rate_hz
    return Samples(modality, times_s, (2 + np.sin(times_s)).astype(np.float32), rate_hz, time.monotonic())


def both(begin_s: float, end_s: float) -> list[Samples]:
    return [samples(begin_s, end_s, Modality.EDA), samples(begin_s, end_s, Modality.BVP)]


def failed(source: Script, decider: Decider, kind: type[EdgepainError], limits: Limits) -> tuple[str, Notes]:
    """What a session that must fail said, and what it told its sink."""
    notes = Notes()
    with pytest.raises(kind) as caught:
        Session(source, decider, [notes], replace(limits, duration_s=20)).run()
    assert source.closed
    assert [summary.ended for summary in notes.summaries] == [str(caught.value)]
    return str(caught.value), notes


def test_a_session_of_given_length_tells_everything_and_sums_it_up(decider: Decider) -> None:
    connected = LinkChange(LinkState.CONNECTED, 0.0, "a cable")
    stats = LinkStats(100, 9, 8, 7, 6, 5, 4, 3, 2, 1, 10, lost_is_minimum=True)
    source, notes = Script([connected, BAND], both(0, 10), both(10, 20), stats=stats), Notes()
    summary = Session(source, decider, [notes], Limits(duration_s=2.0)).run()
    assert source.closed
    assert (notes.devices, notes.links) == ([BAND], [connected])
    assert notes.summaries == [summary]
    assert summary.ended == "the time was up"
    assert summary.seconds >= 2.0
    assert [d.index for d in notes.decisions] == list(range(15))
    assert sum(d.frames_lost for d in notes.decisions) == 8
    judged = [d for d in notes.decisions if d.label]
    assert summary.decisions == sum(summary.labels.values()) == len(judged) > 0
    assert summary.abstentions == {"calibrating": 15 - len(judged)}
    assert summary.inference_ms is not None
    assert 0 < summary.inference_ms.p50 <= summary.inference_ms.p90 <= summary.inference_ms.p99
    assert (summary.bytes_read, summary.frames, summary.frames_lost, summary.crc_errors) == (100, 9, 8, 7)
    assert (summary.malformed, summary.repeated, summary.reconnects, summary.restarts) == (6, 5, 4, 3)
    assert (summary.out_of_order, summary.clipped, summary.range_switches) == (2, 1, 10)
    assert summary.lost_is_minimum
    assert summary.samples_out_of_order == 0


ENDED = LinkChange(LinkState.ENDED, 0.0, "the file was played")


def test_a_recording_ends_well_when_it_is_over(decider: Decider) -> None:
    source, notes = Script([BAND], both(0, 20), [ENDED]), Notes()
    summary = Session(source, decider, [notes]).run()
    assert (summary.ended, source.closed) == ("the file was played", True)
    assert len(notes.decisions) == 15


def test_a_recording_without_samples_is_no_data(decider: Decider) -> None:
    text, notes = failed(Script([BAND], [ENDED]), decider, DataError, Limits())
    assert text.startswith("the file was played: no sample that the bundle needs in it")
    assert notes.links == [ENDED]


def test_without_a_clock_there_is_no_latency(exported: Bundle, engine: Engine) -> None:
    source, notes = Script([BAND], both(0, 20), [ENDED]), Notes()
    source.taken_s, source.skew = 0.0, ClockSkew(12.5, uncertainty_ms=0.5)
    summary = Session(source, Decider(exported, engine, clock=None), [notes]).run()
    assert summary.decisions > 0
    assert {(d.latency_ms, d.sensor_latency_ms) for d in notes.decisions} == {(None, None)}
    assert (summary.latency_ms, summary.sensor_latency_ms, summary.clock_skew_ppm) == (None, None, 12.5)
    why = "the samples came at another time"
    assert summary.unknown == {"latency_ms": why, "sensor_latency_ms": why}


def test_a_known_clock_tells_how_old_samples_were(decider: Decider) -> None:
    source, notes = Script([BAND], both(0, 20), [ENDED]), Notes()
    source.taken_s, source.skew = time.monotonic() - 100.0, ClockSkew(-30.0, uncertainty_ms=1.5)
    summary = Session(source, decider, [notes]).run()
    assert summary.sensor_latency_ms is not None
    assert summary.latency_ms is not None
    assert summary.sensor_latency_ms.p50 >= summary.latency_ms.p50 + 99_000
    assert all((d.sensor_latency_ms or 0) >= 100_000 for d in notes.decisions)
    assert (summary.clock_skew_ppm, summary.clock_uncertainty_ms, summary.unknown) == (-30.0, 1.5, {})


@pytest.mark.parametrize("seconds", [8, 20])
def test_what_is_not_known_has_its_reason(decider: Decider, seconds: int) -> None:
    summary = Session(Script([BAND], both(0, seconds), [ENDED]), decider, []).run()
    none = "no decision"
    expected = dict.fromkeys(("clock_skew_ppm", "clock_uncertainty_ms", "sensor_latency_ms"), "too early")
    if not summary.decisions:
        expected |= {"sensor_latency_ms": none, "latency_ms": none, "inference_ms": none}
    assert summary.unknown == expected
    assert (summary.decisions > 0) == (seconds == 20)


def test_samples_that_come_twice_stand_in_the_summary(decider: Decider) -> None:
    summary = Session(Script([BAND], both(0, 1), both(0, 1), [ENDED]), decider, []).run()
    assert summary.samples_out_of_order == 68


def test_it_ends_when_it_is_told_to(decider: Decider) -> None:
    answers = iter([False, False, True])
    assert Session(Script(), decider, []).run(stop=lambda: next(answers)).ended == "stopped"


def test_an_interrupt_is_a_good_end(decider: Decider) -> None:
    source, notes = Script([BAND], both(0, 7), KeyboardInterrupt()), Notes()
    summary = Session(source, decider, [notes]).run()
    assert (summary.ended, source.closed, notes.summaries) == ("interrupted", True, [summary])


def test_silence_gives_up_one_window_a_hop_and_data_take_over_again(decider: Decider) -> None:
    quiet: list[Sequence[StreamEvent]] = [[]] * 3
    source = Script([BAND], both(0, 20), *quiet, both(20, 30))
    notes = Notes()
    pauses_s = iter([0.0, 0.0, 0.35, 1.0, 0.0, 0.0])

    def stop() -> bool:
        pause_s = next(pauses_s, None)
        time.sleep(pause_s or 0.0)
        return pause_s is None

    Session(source, decider, [notes], Limits(patience_s=0.3)).run(stop)
    given_up = [d for d in notes.decisions if d.abstain is Abstention.NO_DATA]
    assert [d.index for d in given_up[:2]] == [15, 16]
    assert given_up[0].reason.startswith("no sample for ")
    assert [d.index for d in notes.decisions] == list(range(len(notes.decisions)))
    assert notes.decisions[24].label, "the last window of the data that came later"


def test_nothing_is_given_up_before_the_first_sample(decider: Decider) -> None:
    """Session time begins with it: windows given up before would be missing after."""
    text, notes = failed(Script([BAND]), decider, PortError, Limits(introduction_s=0.3, patience_s=0.05))
    assert text == "the device introduced itself but sends no sample; start the measurement on it, or restart it"
    assert notes.decisions == []


def test_signals_that_the_bundle_does_not_use_are_no_sign_of_life(decider: Decider) -> None:
    breath = replace(samples(0, 1, Modality.EDA), modality=Modality.RESP)
    text, _ = failed(Script([BAND], *[[breath]] * 20), decider, PortError, Limits(introduction_s=0.2))
    assert "sends no sample" in text


@pytest.mark.parametrize(
    ("stats", "complaint"),
    [
        (LinkStats(), r"^nothing arrives \(connected: a cable\); check that the device is on"),
        (LinkStats(bytes_read=70, frames=2), r"^70 bytes arrived, 2 sound frames .* check the baud rate"),
    ],
)
def test_a_line_without_a_device_says_what_came(decider: Decider, stats: LinkStats, complaint: str) -> None:
    source = Script([LinkChange(LinkState.CONNECTED, 0.0, "a cable")], stats=stats)
    text, _ = failed(source, decider, PortError, Limits(introduction_s=0.1))
    assert re.search(complaint, text)


def test_a_sensor_that_stops_ends_the_session_where_asked(decider: Decider) -> None:
    lost = LinkChange(LinkState.LOST, 0.0, "cable pulled")
    limits = Limits(silence_s=0.2, patience_s=0.1)
    text, notes = failed(Script([BAND], both(0, 6), [lost]), decider, PortError, limits)
    assert re.fullmatch(r"no sample for \d s \(lost: cable pulled\); check the sensor's battery and cable, .*", text)
    assert notes.links == [lost]


def test_a_port_that_is_gone_for_good_ends_the_session(decider: Decider) -> None:
    gone = LinkChange(LinkState.CLOSED, 0.0, "gave up")
    text, notes = failed(Script([BAND], both(0, 6), [gone]), decider, PortError, Limits())
    assert text.startswith("the port is gone for good (gave up); check cable and power")
    assert notes.links == [gone]


def test_another_device_on_the_port_is_looked_at_too(decider: Decider) -> None:
    other = replace(BAND, boot_id=2, streams=BAND.streams[:1])
    text, notes = failed(Script([BAND], both(0, 6), [other]), decider, BundleMismatchError, Limits())
    assert "needs bvp" in text
    assert notes.devices == [BAND]


def test_a_sink_that_fails_does_not_keep_the_port(decider: Decider) -> None:
    source, notes = Script([BAND], both(0, 6)), Notes()

    def broken(decision: Decision) -> None:
        raise BrokenPipeError

    notes.decision = broken  # type: ignore[assignment]
    with pytest.raises(BrokenPipeError):
        Session(source, decider, [notes]).run()
    assert source.closed


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("name", ["duration_s", "introduction_s", "silence_s", "patience_s"])
def test_a_limit_is_a_time_above_zero(name: str, seconds: float) -> None:
    with pytest.raises(ConfigError, match="above 0 s"):
        Limits(**{name: seconds})
