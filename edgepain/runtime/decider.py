"""Samples in, decisions out: no port, no thread, and no clock but the one it is handed."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edgepain.bundle import Bundle
from edgepain.engine import Engine, softmax
from edgepain.errors import ConfigError
from edgepain.runtime.decision import Abstention, Decision, SignalState, utc
from edgepain.signal import DeviceInfo, Modality, QualityCode, Samples, Window, WindowCutter

FLAGS = ("overrun", "lead_off", "clipped", "range_changed")
# A window is judged without a modality that lags this far behind the others.
LAG_S = 2.0


@dataclass(frozen=True)
class _Flagged:
    modality: Modality
    name: str
    first_s: float
    last_s: float


class Decider:
    """Judges the window that starts at 0, at `hop_s`, at 2·`hop_s`, … of session time.

    Exactly one decision is given for each of these windows, in order. Windows are cut and scaled by the code
    that cuts training windows; the scaling looks only at what came before the window.

    calibration_s: seconds of valid signal needed before the first label, instead of the bundle's.
    clock: seconds, monotonic; the one that `Samples.arrival_s` is on. None: they arrived at another time, and there
    is no latency.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        *,
        hop_s: float = 1.0,
        calibration_s: float | None = None,
        clock: Callable[[], float] | None = time.monotonic,
    ) -> None:
        manifest = bundle.manifest
        scaling_spec = manifest.scaling_spec
        if calibration_s is not None:
            # Twice as long: a gap in the last minutes must not put an end to the calibration reached.
            horizon_s = max(scaling_spec.horizon_s, 2 * calibration_s)
            scaling_spec = replace(scaling_spec, min_history_s=calibration_s, horizon_s=horizon_s)
        if not 0 < hop_s <= 3600 or not 0 <= scaling_spec.min_history_s <= 86400:
            raise ConfigError("hop must be in (0, 3600] seconds and calibration in [0, 86400] seconds")
        self.hop_s = hop_s
        self.calibration_s = scaling_spec.min_history_s
        self._can_do_without = manifest.training.modality_dropout > 0
        self._bundle = bundle
        self._engine = engine
        self._clock = clock
        self._host_s: Callable[[float], float | None] = lambda device_s: None
        self._cutter = WindowCutter(manifest.network.modalities, manifest.window_spec, scaling_spec)
        self._index = 0
        self._frontier_s = float("-inf")
        self._arrivals: dict[Modality, deque[tuple[float, float]]] = {m: deque() for m in self.modalities}
        self._flagged: deque[_Flagged] = deque()
        self._frames_lost = 0
        self._frames_lost_told = 0

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The signals that decisions rest on."""
        return self._cutter.modalities

    @property
    def next_end_s(self) -> float:
        """Session time at which the next window is complete."""
        return self._index * self.hop_s + self._cutter.spec.seconds

    @property
    def live(self) -> bool:
        """Whether decisions have a latency."""
        return self._clock is not None

    def follow(self, host_s: Callable[[float], float | None]) -> None:
        """Tell how session time maps to `clock`: see `Source.host_s`."""
        self._host_s = host_s

    def accept(self, device: DeviceInfo) -> None:
        """Raises BundleMismatchError where the device's streams do not fit the bundle."""
        self._bundle.require(device.streams, device.name)

    def push(self, samples: Samples) -> int:
        """Add samples; returns how many were left out because they are not later than those before.

        Samples with the electrode off are no samples of the skin: they leave a gap.
        """
        if samples.times_s.size == 0 or samples.modality not in self.modalities:
            return 0
        first_s, last_s = float(samples.times_s[0]), float(samples.times_s[-1])
        self._flagged.extend(
            _Flagged(samples.modality, name, first_s, last_s) for name in FLAGS if getattr(samples, name)
        )
        values = np.full_like(samples.values, np.nan) if samples.lead_off else samples.values
        self._frontier_s = max(self._frontier_s, last_s)
        self._arrivals[samples.modality].append((last_s, samples.arrival_s))
        return self._cutter.push(samples.modality, samples.times_s, values, samples.rate_hz)

    def note_frames_lost(self, total: int) -> None:
        """Tell how many frames were lost on the wire so far, to be stated with the next decision."""
        self._frames_lost = total

    def decisions(self) -> Iterator[Decision]:
        """Decisions on every window that is complete by now, or that a lagging modality keeps open too long."""
        while self._cutter.covered_s() >= self.next_end_s or self._frontier_s >= self.next_end_s + LAG_S:
            yield self._decide()

    def give_up_window(self, reason: str) -> Decision:
        """Abstain on the next window because its samples do not come."""
        return self._abstain(self._cut(), Abstention.NO_DATA, reason)

    def _decide(self) -> Decision:
        window = self._cut()
        refused = self._refused(window)
        if refused and not self._can_go_on(refused):
            return self._abstain(window, *next(iter(refused.values())))
        begin = time.perf_counter()
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = window.scaled(without=tuple(refused))
            probabilities = softmax(self._engine.predict(scaled[np.newaxis]))[0]
        inference_ms = 1e3 * (time.perf_counter() - begin)
        if not (np.isfinite(scaled).all() and np.isfinite(probabilities).all()):
            return self._abstain(window, Abstention.OUT_OF_RANGE, "values are too far from those before to be scaled")
        labels = self._bundle.manifest.labels
        label = labels[int(probabilities.argmax())]
        named = {name: float(p) for name, p in zip(labels, probabilities, strict=True)}
        reason = "; ".join(f"without {modality}: {why}" for modality, (_, why) in refused.items())
        return self._finish(window, label, named, None, reason, inference_ms, tuple(map(str, refused)))

    def _can_go_on(self, refused: Mapping[Modality, tuple[Abstention, str]]) -> bool:
        """Whether the other modalities can decide alone. One that only lacks history is waited for."""
        waiting = any(abstention is Abstention.CALIBRATING for abstention, _ in refused.values())
        return self._can_do_without and not waiting and len(refused) < len(self.modalities)

    def _refused(self, window: Window) -> dict[Modality, tuple[Abstention, str]]:
        """Modalities that this window cannot be judged by, each with a reason, the gravest first."""
        checks = (self._bad_signal, self._no_history, self._never_moved)
        refused: dict[Modality, tuple[Abstention, str]] = {}
        for check in checks:
            for index, modality in enumerate(window.modalities):
                reason = check(window, index)
                if reason is not None:
                    refused.setdefault(modality, reason)
        return refused

    def _bad_signal(self, window: Window, index: int) -> tuple[Abstention, str] | None:
        modality, quality = window.modalities[index], window.quality[index]
        if quality.code is QualityCode.GAPS:
            if "lead_off" in self._flags(window, modality):
                return Abstention.NO_CONTACT, f"{modality}: the device says that the electrode is off"
            return (
                Abstention.GAPS,
                f"{modality}: {100 * (1 - quality.valid_fraction):.0f} % of the window is missing",
            )
        if quality.code is QualityCode.NO_CONTACT:
            return Abstention.NO_CONTACT, f"{modality}: values say that the electrode does not touch skin"
        if quality.code is QualityCode.FLAT:
            return Abstention.FLAT, f"{modality}: the signal does not move"
        return None

    def _no_history(self, window: Window, index: int) -> tuple[Abstention, str] | None:
        history_s = self._cutter.history_seconds(window.history[index])
        if history_s == 0 or history_s < self.calibration_s:
            least_s = min(self._cutter.history_seconds(stats) for stats in window.history)
            return Abstention.CALIBRATING, f"{math.floor(least_s)} of {self.calibration_s:g} s at rest"
        return None

    def _never_moved(self, window: Window, index: int) -> tuple[Abstention, str] | None:
        if not window.history[index].usable:
            return Abstention.FLAT, f"{window.modalities[index]}: nothing but a flat signal so far"
        return None

    def _cut(self) -> Window:
        return self._cutter.cut(self._index * self.hop_s)

    def _abstain(self, window: Window, why: Abstention, reason: str) -> Decision:
        return self._finish(window, None, None, why, reason, None)

    def _finish(
        self,
        window: Window,
        label: str | None,
        probabilities: dict[str, float] | None,
        abstain: Abstention | None,
        reason: str,
        inference_ms: float | None,
        without: tuple[str, ...] = (),
    ) -> Decision:
        latency_ms, sensor_latency_ms = self._latencies_ms(window.end_s)
        lost, self._frames_lost_told = self._frames_lost - self._frames_lost_told, self._frames_lost
        decision = Decision(
            index=self._index,
            start_s=window.start_s,
            end_s=window.end_s,
            host_time=utc(),
            label=label,
            probabilities=probabilities,
            abstain=abstain,
            reason=reason,
            signals={
                str(m): SignalState(
                    str(quality.code),
                    quality.valid_fraction,
                    round((1 - quality.valid_fraction) * window.seconds, 3),
                    self._cutter.history_seconds(stats),
                    self._flags(window, m),
                )
                for m, quality, stats in zip(window.modalities, window.quality, window.history, strict=True)
            },
            latency_ms=latency_ms,
            inference_ms=inference_ms,
            frames_lost=lost,
            sensor_latency_ms=sensor_latency_ms,
            without=without,
        )
        self._index += 1
        self._forget(self._index * self.hop_s)
        return decision

    def _flags(self, window: Window, modality: Modality) -> tuple[str, ...]:
        names = {
            f.name
            for f in self._flagged
            if f.modality is modality and f.last_s >= window.start_s and f.first_s <= window.end_s
        }
        return tuple(name for name in FLAGS if name in names)

    def _latencies_ms(self, end_s: float) -> tuple[float | None, float | None]:
        """Time since the arrival that completed the window, and since its end was measured.

        None where a modality has not come that far, or the clock is not known.
        """
        if self._clock is None:
            return None, None
        completed_s = []
        for arrivals in self._arrivals.values():
            late_enough = (arrival_s for last_s, arrival_s in arrivals if last_s >= end_s)
            completed_s.append(next(late_enough, None))
        known_s = [arrival_s for arrival_s in completed_s if arrival_s is not None]
        if len(known_s) < len(completed_s):
            return None, None
        now_s, taken_s = self._clock(), self._host_s(end_s)
        return 1e3 * (now_s - max(known_s)), None if taken_s is None else 1e3 * (now_s - taken_s)

    def _forget(self, before_s: float) -> None:
        self._cutter.forget(before_s)
        for arrivals in self._arrivals.values():
            while arrivals and arrivals[0][0] < before_s:
                arrivals.popleft()
        while self._flagged and self._flagged[0].last_s < before_s:
            self._flagged.popleft()
