"""One continuous session of a simulated person in a heat-pain protocol: EDA, ECG and BVP on one clock.

The shapes of a skin conductance response, of a heart beat and of a pulse wave come from NeuroKit2; when
they occur and how large they are is decided here, by the stimuli and by the person.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from edgepain.errors import ConfigError, MissingExtraError

Array = npt.NDArray[np.float64]

# Rate at which EDA and heart rate are worked out before they are brought to the session's rate.
SLOW_HZ = 32.0
TEMPLATE_HZ = 512
# How likely a stimulus of level 0 … 4 is to be answered by the skin, and how strongly, for a person who reacts.
ANSWER_PROBABILITY = (0.0, 0.25, 0.5, 0.7, 0.92)
ANSWER_SIZE = (0.0, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Protocol:
    """Baseline, then stimuli in random order with a rest of random length after each.

    levels: one entry a stimulus, 0 (none) to 4 (strongest). rest_s: shortest and longest rest.
    """

    levels: tuple[int, ...]
    baseline_s: float = 60.0
    stimulus_s: float = 4.0
    rest_s: tuple[float, float] = (8.0, 12.0)

    def __post_init__(self) -> None:
        if not self.levels or not set(self.levels) <= set(range(5)):
            raise ConfigError("levels must be one or more numbers from 0 to 4")


@dataclass(frozen=True)
class Stimulus:
    """Heat from `onset_s` to `end_s`; level 0 is a stretch without heat."""

    level: int
    onset_s: float
    end_s: float


@dataclass(frozen=True)
class Session:
    """eda_us (µS), ecg_mv (mV), bvp_au (a.u.): [n] float64 each, at rate_hz from time 0."""

    rate_hz: float
    eda_us: Array
    ecg_mv: Array
    bvp_au: Array
    stimuli: tuple[Stimulus, ...]


@dataclass(frozen=True)
class _Person:
    tonic_us: float
    answer_us: float
    reactivity: float
    spontaneous_per_min: float
    scr_stretch: float
    heart_bpm: float
    heart_gain_bpm: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Person:
        # About one person in five hardly answers (BioVid's owners name 20 of 87).
        reactivity = rng.uniform(0.1, 0.35) if rng.random() < 0.2 else rng.uniform(0.85, 1.0)
        return cls(
            tonic_us=float(rng.lognormal(np.log(4.0), 0.5)),
            answer_us=float(rng.lognormal(np.log(0.45), 0.5)),
            reactivity=float(reactivity),
            spontaneous_per_min=float(rng.uniform(1.0, 4.0)),
            scr_stretch=float(rng.uniform(2.0, 3.2)),
            heart_bpm=float(rng.uniform(58.0, 85.0)),
            heart_gain_bpm=float(reactivity * rng.uniform(2.0, 9.0)),
        )


def simulate_session(seed: int, protocol: Protocol, rate_hz: float = 512.0, duration_s: float | None = None) -> Session:
    """Simulate one person; the same seed and arguments give the same session.

    The session ends with the last rest, or after `duration_s` if that is given (it may cut stimuli off).
    Raises MissingExtraError without NeuroKit2.
    """
    rng = np.random.default_rng(seed)
    person = _Person.draw(rng)
    stimuli, end_s = _schedule(rng, protocol)
    if duration_s is not None:
        end_s = duration_s
        stimuli = tuple(s for s in stimuli if s.onset_s < end_s)
    times_s = np.arange(round(end_s * rate_hz)) / rate_hz
    slow_s = np.arange(int(np.ceil(end_s * SLOW_HZ)) + 2) / SLOW_HZ
    eda_us = np.interp(times_s, slow_s, _skin_conductance(rng, person, stimuli, slow_s))
    eda_us = np.maximum(eda_us + rng.normal(0.0, 0.004, times_s.size), 0.05)
    beats_s = _beats(rng, person, stimuli, slow_s)
    return Session(rate_hz, eda_us, _ecg(rng, beats_s, times_s), _bvp(rng, beats_s, times_s), stimuli)


def _schedule(rng: np.random.Generator, protocol: Protocol) -> tuple[tuple[Stimulus, ...], float]:
    """The stimuli in the order of time, and when the session ends."""
    stimuli: list[Stimulus] = []
    now_s = protocol.baseline_s
    for level in rng.permutation(protocol.levels):
        stimuli.append(Stimulus(int(level), now_s, now_s + protocol.stimulus_s))
        now_s += protocol.stimulus_s + float(rng.uniform(*protocol.rest_s))
    return tuple(stimuli), now_s


def _skin_conductance(rng: np.random.Generator, person: _Person, stimuli: tuple[Stimulus, ...], slow_s: Array) -> Array:
    impulses = np.zeros(slow_s.size)

    def add(at_s: float, size_us: float) -> None:
        index = int(at_s * SLOW_HZ)
        if index < impulses.size:
            impulses[index] += size_us

    for stimulus in stimuli:
        answered = rng.random() < person.reactivity * ANSWER_PROBABILITY[stimulus.level]
        size_us = person.answer_us * ANSWER_SIZE[stimulus.level] * rng.lognormal(0.0, 0.4)
        at_s = stimulus.onset_s + rng.uniform(1.0, 3.0)
        if answered:
            # A third of the answer wears off, most of it in the first ten minutes.
            add(at_s, size_us * (2.0 + np.exp(-stimulus.onset_s / 600.0)) / 3.0)
    spontaneous = rng.poisson(person.spontaneous_per_min * slow_s[-1] / 60.0)
    for at_s in rng.uniform(0.0, slow_s[-1], spontaneous):
        add(float(at_s), 0.4 * person.answer_us * rng.lognormal(0.0, 0.6))
    scr = _scr_shape(round(person.scr_stretch, 1))
    phasic = np.convolve(impulses, scr)[: slow_s.size]
    return person.tonic_us * (1.0 + 0.1 * _drift(rng, slow_s)) + phasic


def _beats(rng: np.random.Generator, person: _Person, stimuli: tuple[Stimulus, ...], slow_s: Array) -> Array:
    """Times of the R peaks, from a heart rate with breathing, drift and an answer to every stimulus."""
    bpm = person.heart_bpm + 3.0 * _drift(rng, slow_s)
    bpm += rng.uniform(1.0, 3.0) * np.sin(2 * np.pi * rng.uniform(0.2, 0.3) * slow_s)
    for stimulus in stimuli:
        since_s = np.clip(slow_s - stimulus.onset_s - 1.0, 0.0, None) / 3.5
        gain = person.heart_gain_bpm * ANSWER_SIZE[stimulus.level] * rng.normal(1.0, 0.5)
        bpm += gain * since_s * np.exp(1.0 - since_s)
    beat_number = np.cumsum(np.clip(bpm, 35.0, 180.0) / 60.0) / SLOW_HZ
    beats_s: Array = np.interp(np.arange(1, int(beat_number[-1]) + 1), beat_number, slow_s)
    return beats_s


def _ecg(rng: np.random.Generator, beats_s: Array, times_s: Array) -> Array:
    shape_s, shape_mv = _ecg_shape()
    after = np.clip(np.searchsorted(beats_s, times_s - shape_s[0]) - 1, 0, beats_s.size - 1)
    ecg_mv = np.interp(times_s - beats_s[after], shape_s, shape_mv, left=0.0, right=0.0)
    wander_mv = 0.08 * np.sin(2 * np.pi * 0.23 * times_s + rng.uniform(0, 6))
    noisy_mv: Array = ecg_mv + wander_mv + rng.normal(0.0, 0.02, times_s.size)
    return noisy_mv


def _bvp(rng: np.random.Generator, beats_s: Array, times_s: Array) -> Array:
    """Pulse waves that reach the wrist 0.2 s after the R peak, stretched to the length of their beat."""
    phase = np.interp(times_s - 0.2, beats_s, np.arange(beats_s.size, dtype=np.float64)) % 1.0
    wave = _pulse_shape()
    bvp_au = np.interp(phase, np.linspace(0.0, 1.0, wave.size), wave)
    strength = 1.0 + 0.15 * np.interp(times_s, times_s[::64], _drift(rng, times_s[::64]))
    return strength * bvp_au + rng.normal(0.0, 0.02, times_s.size)


def _drift(rng: np.random.Generator, times_s: Array) -> Array:
    """A slow wander within about ±1: a few sines with periods from one to ten minutes."""
    drift: Array = np.zeros(times_s.size)
    for period_s in rng.uniform(60.0, 600.0, 4):
        drift += 0.35 * np.sin(2 * np.pi * times_s / period_s + rng.uniform(0.0, 2 * np.pi))
    return drift


@cache
def _scr_shape(stretch: float) -> Array:
    """NeuroKit's response, peak 1, slowed down by `stretch` to the rise of about 2 s seen on skin."""
    eda = neurokit().eda_simulate(
        duration=12, sampling_rate=round(SLOW_HZ * stretch), scr_number=1, drift=0, noise=0, random_state=0
    )
    shape: Array = np.asarray(eda, np.float64) - float(eda[-1])
    shape[0] = 0.0
    shape /= shape.max()
    return shape


@cache
def _ecg_shape() -> tuple[Array, Array]:
    """Seconds around the R peak, and one beat in mV without its offset."""
    ecg = neurokit().ecg_simulate(
        duration=6, sampling_rate=TEMPLATE_HZ, heart_rate=70, noise=0, method="ecgsyn", random_state=0
    )
    middle = slice(2 * TEMPLATE_HZ, 4 * TEMPLATE_HZ)
    peak = middle.start + int(np.argmax(ecg[middle]))
    offsets = np.arange(round(-0.25 * TEMPLATE_HZ), round(0.42 * TEMPLATE_HZ))
    beat = np.asarray(ecg[peak + offsets], np.float64) - float(np.median(ecg))
    edge = np.minimum(np.arange(beat.size), np.arange(beat.size)[::-1]) / (0.04 * TEMPLATE_HZ)
    return offsets / TEMPLATE_HZ, beat * np.clip(edge, 0.0, 1.0)


@cache
def _pulse_shape() -> Array:
    """One pulse wave from foot to foot, mean 0 and 1 high."""
    ppg = neurokit().ppg_simulate(
        duration=6,
        sampling_rate=TEMPLATE_HZ,
        heart_rate=60,
        frequency_modulation=0,
        ibi_randomness=0,
        drift=0,
        motion_amplitude=0,
        powerline_amplitude=0,
        burst_number=0,
        burst_amplitude=0,
        random_state=0,
    )
    wave: Array = np.asarray(ppg[2 * TEMPLATE_HZ : 3 * TEMPLATE_HZ], np.float64)
    wave -= wave.mean()
    wave /= np.ptp(wave)
    return wave


@cache
def neurokit():  # type: ignore[no-untyped-def]
    """The library that simulates. Raises MissingExtraError."""
    try:
        import neurokit2
    except ImportError:
        raise MissingExtraError("neurokit2", "train") from None
    return neurokit2
