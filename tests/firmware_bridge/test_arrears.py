"""What is missing of a BITalino's frames, by when they arrive: stalls, backlog in any number of reads, real losses."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edgepain.firmware_bridge import device_kind
from edgepain.firmware_bridge.arrears import Arrears
from edgepain.firmware_bridge.bitalino import pack
from edgepain.firmware_bridge.bitalino_driver import BitalinoDriver
from edgepain.signal import Modality, Samples

BANNER = b"BITalino_v5.2\n"


@dataclass
class Line:
    """20 s of frames over a link that stalls.

    stalls: (begin, length) s, nothing arrives; what was measured comes afterwards, `catch_up` times as fast as it was
    measured. lost: (first, count) of frames that never come. bad: frames with a flipped bit.
    """

    seed: int
    rate_hz: int = 1000
    stalls: list[tuple[float, float]] = field(default_factory=list)
    lost: list[tuple[int, int]] = field(default_factory=list)
    bad: list[int] = field(default_factory=list)
    catch_up: float = 8.0
    seconds: float = 20.0

    def reads(self) -> list[tuple[float, list[int]]]:
        """(time, numbers of the frames that were read then)."""
        random = np.random.default_rng(self.seed)
        there = np.ones(int(self.seconds * self.rate_hz), bool)
        for first, count in self.lost:
            there[first : first + count] = False
        numbers = np.flatnonzero(there)
        due_s = (numbers + 1) / self.rate_hz + 0.004 + random.exponential(0.003, numbers.size)
        for begin, length in self.stalls:
            stalled = (due_s >= begin) & (due_s < begin + length)
            due_s[stalled] = begin + length
        in_line_s = np.arange(due_s.size) / (self.catch_up * self.rate_hz)
        arrival_s = np.maximum.accumulate(due_s - in_line_s) + in_line_s
        polls = np.cumsum(random.uniform(0.001, 0.04, int(self.seconds / 0.0205) + 600))
        ends = np.searchsorted(arrival_s, polls, side="right")
        starts = [0, *ends[:-1]]
        return [(t, numbers[a:b].tolist()) for t, a, b in zip(polls, starts, ends, strict=True) if a < b]

    def play(self) -> tuple[BitalinoDriver, list[int]]:
        """The driver after it, and the number of every ECG sample by its time."""
        bitalino = device_kind("bitalino").driver({"rate_hz": str(self.rate_hz)})
        assert isinstance(bitalino, BitalinoDriver)
        # Noise, as 15 lost between equal samples look like a frame that came twice.
        samples = np.random.default_rng(self.seed).integers(0, 1024, (int(self.seconds * self.rate_hz), 2))
        frames = np.frombuffer(pack(samples.astype(np.uint16)), np.uint8).reshape(-1, 4).copy()
        frames[self.bad, 0] ^= 0x10
        events = [*bitalino.feed(BANNER, 99.9)]
        for at_s, numbers in self.reads():
            events += bitalino.feed(frames[numbers].tobytes(), 100.0 + at_s)
        parts = [e.times_s for e in events if isinstance(e, Samples) and e.modality is Modality.ECG]
        return bitalino, np.round(np.concatenate(parts) * self.rate_hz).astype(int).tolist()

    @property
    def missing(self) -> int:
        return sum(count for _, count in self.lost) + len(self.bad)


@pytest.mark.parametrize("rate_hz", [100, 1000])
@pytest.mark.parametrize("catch_up", [1.3, 3.0, 50.0])
@pytest.mark.parametrize("length_s", [0.3, 0.8, 1.9])
def test_a_bad_frame_in_a_backlog_of_several_reads_is_one_lost(rate_hz, catch_up, length_s):
    bad = [int((5 + share * length_s) * rate_hz) for share in (0.02, 0.4, 0.9)]
    line = Line(3, rate_hz, stalls=[(5.0, length_s)], bad=bad, catch_up=catch_up)
    bitalino, numbers = line.play()
    assert bitalino.stats(0).frames_lost == 3
    assert numbers == [k for k in range(20 * rate_hz) if k not in bad][: len(numbers)]
    assert len(numbers) > 19 * rate_hz


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("lost", "backlog"), [(700, 0), (1207, 0), (500, 700), (333, 1500)])
def test_what_a_silence_swallowed_is_counted_whole_and_leaves_a_gap_of_its_length(seed, lost, backlog):
    line = Line(seed, stalls=[(5.0, (lost + backlog) / 1000)], lost=[(5000, lost)])
    bitalino, numbers = line.play()
    assert bitalino.stats(0).frames_lost == lost
    assert numbers == [k for k in range(20_000) if not 5000 <= k < 5000 + lost][: len(numbers)]


# No shrinking: half a second an example.
@settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.tuples(st.floats(0.05, 2.0), st.floats(0.0, 1.8), st.integers(0, 1500) | st.just(0)), max_size=6),
    st.sets(st.integers(20, 2400), max_size=12),
    st.sampled_from([1.2, 2.0, 10.0]),
)
def test_no_more_is_counted_than_is_lost_and_that_modulo_16(seed, stalls, eighths, catch_up):
    """stalls: (pause before, length, frames lost in it). eighths: of the bad frames, as two good ones are no lock."""
    begin_s, placed, lost = 3.0, [], []
    for pause_s, length_s, count in stalls:
        begin_s += pause_s
        placed.append((begin_s, length_s))
        lost += [(int(1000 * begin_s), min(count, int(1000 * length_s)))]
        begin_s += length_s
    far = [8 * k for k in eighths if not any(first - 20 < 8 * k < first + count + 20 for first, count in lost)]
    line = Line(seed, stalls=placed, lost=lost, bad=sorted(far), catch_up=catch_up)
    bitalino, _ = line.play()
    counted = bitalino.stats(0).frames_lost
    assert counted <= line.missing
    assert (line.missing - counted) % 16 == 0


@pytest.mark.parametrize("rate_hz", [1, 10, 100, 1000])
def test_a_line_that_never_comes_to_rest_is_given_up(rate_hz):
    arrears, count, now_s = Arrears(rate_hz, 16), 0, 0.0
    for _ in range(100):
        count, now_s = count + 1, now_s + 1 / rate_hz
        assert arrears.missing(count, now_s) == 0
    now_s += 40 / rate_hz + 2
    answers = []
    for _ in range(max(1000, 7 * rate_hz)):
        count, now_s = count + 1, now_s + 0.9 / rate_hz + 0.1 * (count % 7 == 0) / rate_hz
        answers.append(arrears.missing(count, now_s))
    assert answers[0] is None
    assert {answer for answer in answers if answer} == set()
    assert answers[-1] == 0
