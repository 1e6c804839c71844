"""Samples in, decisions out: one for each window, with a reason where there is none."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepain.bundle import Bundle
from edgepain.engine import Engine, open_engine
from edgepain.errors import BundleMismatchError, ConfigError
from edgepain.firmware_bridge import DeviceClock
from edgepain.runtime import Abstention, Decider, Decision
from edgepain.signal import DeviceInfo, Modality, Samples, StreamInfo

RATES_HZ = {Modality.EDA: 4.0, Modality.BVP: 64.0}
# What the bundle of the tests asks for.
CALIBRATION_S = 10.0
Edit = Callable[[Samples], Samples | None]


@pytest.fixture(scope="module")
def engine(exported: Bundle) -> Engine:
    return open_engine(exported)


def second(at_s: int, modality: Modality) -> Samples:
    """The samples of one second, the last of which has just arrived."""
    rate_hz = RATES_HZ[modality]
    times_s = at_s + np.arange(int(rate_hz)) / rate_hz
    return Samples(modality, times_s, wave(times_s), rate_hz, arrival_s=at_s + 1.0)


def wave(times_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return (2 + np.sin(times_s) + 0.1 * np.sin(7.3 * times_s)).astype(np.float32)


def decide(decider: Decider, begin_s: int, end_s: int, edit: Edit = lambda samples: samples) -> Iterator[Decision]:
    for at_s in range(begin_s, end_s):
        for modality in RATES_HZ:
            samples = edit(second(at_s, modality))
            if samples is not None:
                decider.push(samples)
                yield from decider.decisions()


def between(begin_s: float, end_s: float, modality: Modality, change: Edit) -> Edit:
    """`change` applied to the seconds of one modality that begin in [begin_s, end_s)."""

    def edit(samples: Samples) -> Samples | None:
        hit = samples.modality is modality and begin_s <= samples.times_s[0] < end_s
        return change(samples) if hit else samples

    return edit


def test_a_decision_says_what_it_rests_on(exported: Bundle, engine: Engine) -> None:
    decider = Decider(exported, engine, clock=lambda: 0.0)
    *_, last = decide(decider, 0, 30)
    assert last.label in exported.manifest.labels
    assert last.probabilities is not None
    assert sum(last.probabilities.values()) == pytest.approx(1.0, abs=1e-9)
    assert max(last.probabilities, key=last.probabilities.__getitem__) == last.label
    assert (last.abstain, last.reason, last.frames_lost) == (None, "", 0)
    assert set(last.signals) == {"eda", "bvp"}
    for signal in last.signals.values():
        assert (signal.quality, signal.valid_fraction, signal.flags) == ("ok", 1.0, ())
        assert signal.history_s == pytest.approx(last.start_s, abs=0.5)
    assert last.inference_ms is not None
    assert last.inference_ms > 0


def test_latency_counts_from_the_arrival_that_completed_the_window(exported: Bundle, engine: Engine) -> None:
    now_s = 0.0
    decider = Decider(exported, engine, clock=lambda: now_s)
    for samples in (second(at_s, m) for at_s in range(8) for m in RATES_HZ):
        # BVP completes the window that ends at 5.5 s in the second that arrives at 6.0 s; it is decided on at 8.25 s.
        decider.push(samples)
    now_s = 8.25
    first = next(decider.decisions())
    assert first.end_s == 5.5
    assert first.latency_ms == pytest.approx(2250.0)


def test_latency_from_the_sensor_sees_what_a_late_reader_does_to_arrivals(exported: Bundle, engine: Engine) -> None:
    """The reader sleeps from 100 to 103 s: what it finds then has arrived just now, but is old."""
    skew, delay_s, begin_s = 1 + 80e-6, 0.004, 7000.0
    clock, now_s = DeviceClock(), 0.0
    decider = Decider(exported, engine, clock=lambda: now_s)
    decider.follow(clock.host_s)
    decisions: dict[float, Decision] = {}
    for at_s in range(120):
        taken_s = (at_s + 1) / skew
        now_s = begin_s + delay_s + (max(taken_s, 103.0) if taken_s >= 100 else taken_s)
        for modality in RATES_HZ:
            samples = replace(second(at_s, modality), arrival_s=now_s)
            clock.update(at_s + 1.0, now_s)
            decider.push(samples)
        now_s += 0.010
        decisions |= {d.end_s: d for d in decider.decisions()}
    assert {d.sensor_latency_ms for end_s, d in decisions.items() if end_s < 9} == {None}
    for end_s, expected_ms in ((30.5, 510), (80.5, 510), (99.5, 510), (100.5, 2518), (101.5, 1518), (110.5, 510)):
        decided = decisions[end_s]
        assert decided.latency_ms == pytest.approx(10.0)
        assert decided.sensor_latency_ms == pytest.approx(expected_ms, abs=5), end_s


@settings(max_examples=20, deadline=None)
@given(hop_s=st.sampled_from([0.3, 1.0, 2.5, 9.0]), packets_s=st.lists(st.floats(0.02, 1.5), min_size=1, max_size=8))
def test_every_window_is_judged_once_and_in_order(
    exported: Bundle, engine: Engine, hop_s: float, packets_s: list[float]
) -> None:
    """However samples are cut into packets, the same windows get the same answers."""
    expected = list(decide(Decider(exported, engine, hop_s=hop_s), 0, 40))
    assert [d.index for d in expected] == list(range(len(expected)))
    assert [d.start_s for d in expected] == [k * hop_s for k in range(len(expected))]
    assert expected[-1].end_s + hop_s > 39.7

    decider = Decider(exported, engine, hop_s=hop_s)
    decisions, sent_s, turns = [], 0.0, cycle(packets_s)
    signals = [(m, np.arange(40 * rate_hz) / rate_hz) for m, rate_hz in RATES_HZ.items()]
    while sent_s < 40:
        until_s = sent_s + next(turns)
        for m, times_s in signals:
            due_s = times_s[(times_s >= sent_s) & (times_s < until_s)]
            decider.push(Samples(m, due_s, wave(due_s), RATES_HZ[m], 0.0))
            decisions += decider.decisions()
        sent_s = until_s
    assert [(d.index, d.probabilities) for d in decisions] == [(d.index, d.probabilities) for d in expected]


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_whatever_a_device_measures_there_is_an_answer_or_a_reason(
    exported: Bundle, engine: Engine, data: st.DataObject
) -> None:
    values = st.one_of(st.floats(width=32), st.sampled_from([0.0, 1.0, 1e-45, 3e38, -3e38, float("inf"), float("nan")]))
    begin_s = data.draw(st.integers(0, 28))

    def odd(samples: Samples) -> Samples:
        if not begin_s <= samples.times_s[0] < begin_s + 5:
            return samples
        few = data.draw(st.lists(values, min_size=1, max_size=4))
        return replace(samples, values=np.resize(np.array(few, np.float32), samples.values.size))

    decisions = list(decide(Decider(exported, engine), 0, 30, odd))
    assert [d.index for d in decisions] == list(range(25))
    for decision in decisions:
        if decision.probabilities is None:
            assert decision.reason
        else:
            assert sum(decision.probabilities.values()) == pytest.approx(1.0, abs=1e-9)


def test_a_value_that_cannot_be_scaled_is_abstained_on(exported: Bundle, engine: Engine) -> None:
    quiet: Edit = lambda s: replace(s, values=(s.values * np.float32(1e-20)))  # noqa: E731
    glitch = between(0, 25, Modality.BVP, quiet)
    huge = between(25, 26, Modality.BVP, lambda s: replace(s, values=s.values * np.float32(1e38)))
    decisions = list(decide(Decider(exported, engine), 0, 26, lambda s: huge(glitch(s))))
    assert decisions[18].label
    assert decisions[20].abstain is Abstention.OUT_OF_RANGE
    assert decisions[20].reason == "values are too far from those before to be scaled"


@pytest.mark.parametrize(("calibration_s", "rest_s"), [(None, CALIBRATION_S), (20.0, 20.0), (0.0, 0.0)])
def test_no_label_before_the_calibration_is_over(
    exported: Bundle, engine: Engine, calibration_s: float | None, rest_s: float
) -> None:
    decisions = list(decide(Decider(exported, engine, calibration_s=calibration_s), 0, 40))
    first = next(d for d in decisions if d.label)
    assert 0 <= min(s.history_s for s in first.signals.values()) - rest_s <= 1.5
    before = decisions[: first.index]
    assert {d.abstain for d in before} == {Abstention.CALIBRATING}
    assert before[0].reason == f"0 of {rest_s:g} s at rest"
    assert all(d.label for d in decisions[first.index :])


def test_a_calibration_longer_than_the_horizon_survives_a_gap(exported: Bundle, engine: Engine) -> None:
    """Else the history could never again be as long as the calibration asks for."""
    decider = Decider(exported, engine, calibration_s=110.0)
    drop = between(125, 127, Modality.EDA, lambda samples: None)
    after = [d for d in decide(decider, 0, 160, drop) if d.start_s > 135]
    assert len(after) > 10
    assert all(d.label for d in after)


def _without(samples: Samples) -> None:
    return None


def _filled(value: float) -> Edit:
    return lambda samples: replace(samples, values=np.full_like(samples.values, value))


@pytest.mark.parametrize(
    ("modality", "change", "abstention", "reason"),
    [
        (Modality.EDA, _without, Abstention.GAPS, "eda: 100 % of the window is missing"),
        (Modality.BVP, _filled(float("nan")), Abstention.GAPS, "bvp: 100 % of the window is missing"),
        (Modality.EDA, _filled(0.0), Abstention.NO_CONTACT, "eda: values say that the electrode does not touch skin"),
        (Modality.BVP, _filled(7.0), Abstention.FLAT, "bvp: the signal does not move"),
        (
            Modality.BVP,
            lambda samples: replace(samples, lead_off=True),
            Abstention.NO_CONTACT,
            "bvp: the device says that the electrode is off",
        ),
    ],
)
def test_ten_bad_seconds_are_abstained_on_with_the_reason(
    exported: Bundle, engine: Engine, modality: Modality, change: Edit, abstention: Abstention, reason: str
) -> None:
    decisions = list(decide(Decider(exported, engine), 0, 60, between(30, 40, modality, change)))
    assert [d.index for d in decisions] == list(range(55))
    bad = [d for d in decisions if d.abstain is abstention and d.start_s > 15]
    inside = [d for d in bad if d.start_s >= 31 and d.end_s <= 39]
    assert len(inside) == 3
    assert {d.reason for d in inside} == {reason}
    assert all(d.signals[modality.value].quality != "ok" for d in inside)
    missing = inside[0].signals[modality.value].quality == "gaps"
    assert {d.signals[modality.value].gap_s for d in inside} == {5.5 if missing else 0.0}
    good = [d for d in decisions if d.end_s < 30 or d.start_s > 41]
    assert all(d.label for d in good if d.start_s > 12)
    assert {d.label is None for d in decisions if d.abstain} == {True}
    assert all((d.probabilities is None) == (d.abstain is not None) for d in decisions)


def test_what_the_device_says_of_samples_stands_in_the_decision(exported: Bundle, engine: Engine) -> None:
    flag = between(30, 31, Modality.BVP, lambda s: replace(s, overrun=True, clipped=True, range_changed=True))
    for decision in decide(Decider(exported, engine), 0, 45, flag):
        touched = decision.start_s <= 30.99 and decision.end_s >= 30
        expected = ("overrun", "clipped", "range_changed") if touched else ()
        assert decision.signals["bvp"].flags == expected
        assert decision.signals["eda"].flags == ()


def test_a_dead_signal_does_not_hold_up_the_other(exported: Bundle, engine: Engine) -> None:
    decider = Decider(exported, engine)
    dead = between(30, 50, Modality.EDA, _without)
    decisions = list(decide(decider, 0, 50, dead))
    # Two seconds later than otherwise, and still one a second.
    assert [d.index for d in decisions] == list(range(43))
    assert decisions[-1].abstain is Abstention.GAPS
    assert decisions[-1].latency_ms is None
    again = list(decide(decider, 50, 80))
    assert [d.index for d in again] == list(range(43, 75))
    assert again[-1].label


def test_a_window_may_be_given_up_and_the_next_ones_go_on(exported: Bundle, engine: Engine) -> None:
    decider = Decider(exported, engine)
    decisions = list(decide(decider, 0, 30))
    given_up = [decider.give_up_window("silence") for _ in range(4)]
    assert {(d.abstain, d.reason) for d in given_up} == {(Abstention.NO_DATA, "silence")}
    decisions += [*given_up, *decide(decider, 36, 60)]
    assert [d.index for d in decisions] == list(range(55))
    assert decisions[-1].label


def test_lost_frames_are_stated_once(exported: Bundle, engine: Engine) -> None:
    decider = Decider(exported, engine)
    decider.note_frames_lost(3)
    assert [d.frames_lost for d in decide(decider, 0, 8)] == [3, 0, 0]
    decider.note_frames_lost(5)
    assert [d.frames_lost for d in decide(decider, 8, 10)] == [2, 0]


def test_samples_that_come_again_are_left_out_and_counted(exported: Bundle, engine: Engine) -> None:
    decider = Decider(exported, engine)
    assert decider.push(second(3, Modality.EDA)) == 0
    assert decider.push(second(3, Modality.EDA)) == 4
    assert decider.push(replace(second(4, Modality.EDA), modality=Modality.RESP)) == 0


def test_a_device_that_does_not_fit_is_refused(exported: Bundle, engine: Engine) -> None:
    eda, bvp = StreamInfo(Modality.EDA, "uS", 4.0), StreamInfo(Modality.BVP, "a.u.", 64.0)
    decider = Decider(exported, engine)
    decider.accept(DeviceInfo("band", "1", 1, (eda, bvp)))
    for streams, complaint in (
        ((eda,), "needs bvp, but band gives eda"),
        ((eda, replace(bvp, unit="mV")), "needs bvp in a.u., but band gives it in mV"),
        ((replace(eda, rate_hz=2.0), bvp), "accepts eda at 4 to 1000 Hz, but band gives 2 Hz"),
    ):
        with pytest.raises(BundleMismatchError, match=complaint):
            decider.accept(DeviceInfo("band", "1", 1, streams))


@pytest.mark.parametrize(
    "options", [{"hop_s": 0.0}, {"hop_s": float("nan")}, {"calibration_s": -1.0}, {"calibration_s": float("nan")}]
)
def test_senseless_times_are_refused(exported: Bundle, engine: Engine, options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="hop must be in"):
        Decider(exported, engine, **options)


def test_memory_of_a_long_session_stays_bounded(exported: Bundle, engine: Engine) -> None:
    """Three hours, one signal dead in the last; 20 s between windows, so that it is over soon."""
    decider = Decider(exported, engine, hop_s=20.0)
    dead = between(7200, 10800, Modality.BVP, _without)
    flagged: Edit = lambda samples: dead(replace(samples, overrun=True))  # noqa: E731
    held = []
    tracemalloc.start()
    try:
        for begin_s in range(0, 10_800, 1200):
            for _ in decide(decider, begin_s, begin_s + 1200, flagged):
                pass
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    # What came in these three hours takes 8 MB, and the arrivals 3 MB.
    assert max(held) - held[0] < 300_000


@pytest.fixture(scope="module")
def tolerant(exported: Bundle) -> Bundle:
    """The same bundle, trained to answer without one of its modalities."""
    training = msgspec.structs.replace(exported.manifest.training, modality_dropout=0.3)
    return replace(exported, manifest=msgspec.structs.replace(exported.manifest, training=training))


def test_a_network_that_can_do_without_answers_without_and_says_so(tolerant: Bundle, engine: Engine) -> None:
    lost = between(30, 40, Modality.EDA, lambda samples: replace(samples, lead_off=True))
    decider = Decider(tolerant, engine)
    decisions = [d for d in decide(decider, 0, 60, lost) if d.start_s >= CALIBRATION_S]
    touched = [d for d in decisions if d.end_s > 31.5 and d.start_s < 38.5]
    assert touched
    for decision in touched:
        assert decision.label is not None
        assert decision.without == ("eda",)
        assert decision.reason == "without eda: eda: the device says that the electrode is off"
    whole = [d for d in decisions if d.end_s < 30 or d.start_s > 40]
    assert {d.without for d in whole} == {()}
    # The other signal decides alone: what EDA was before it was lost changes nothing.
    other = Decider(tolerant, engine)

    def shift(samples: Samples) -> Samples | None:
        return lost(replace(samples, values=samples.values + (samples.modality is Modality.EDA)))

    again = {d.index: d for d in decide(other, 0, 60, shift)}
    for decision in touched:
        assert again[decision.index].probabilities == decision.probabilities


def test_without_both_signals_there_is_no_label(tolerant: Bundle, engine: Engine) -> None:
    decisions = list(
        decide(Decider(tolerant, engine), 0, 60, lambda s: replace(s, lead_off=True) if 30 <= s.times_s[0] < 40 else s)
    )
    bad = [d for d in decisions if d.start_s >= 30 and d.end_s <= 40]
    assert bad
    assert {(d.label, d.abstain, d.without) for d in bad} == {(None, Abstention.NO_CONTACT, ())}


def test_a_network_that_needs_both_abstains(exported: Bundle, engine: Engine) -> None:
    lost = between(30, 40, Modality.EDA, lambda samples: replace(samples, lead_off=True))
    bad = [d for d in decide(Decider(exported, engine), 0, 60, lost) if d.start_s >= 30 and d.end_s <= 40]
    assert {(d.label, d.abstain) for d in bad} == {(None, Abstention.NO_CONTACT)}
