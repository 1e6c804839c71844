"""Everything that goes wrong between a wearable and a host, on request and reproducibly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from edgepain.errors import ConfigError

# A restart takes this long; the device measures nothing meanwhile.
REBOOT_S = 1.0


class Turn(Enum):
    """A moment at which the device's state changes."""

    PAUSE = "pause"
    RESUME = "resume"
    UNPLUG = "unplug"
    REPLUG = "replug"
    REBOOT = "reboot"
    BOOTED = "booted"


@dataclass(frozen=True)
class Outage:
    """The device is silent from `at_s` for `seconds` of play, and what it measured then is lost."""

    at_s: float
    seconds: float

    def __post_init__(self) -> None:
        if not (self.at_s >= 0 and 0 < self.seconds < float("inf")):
            raise ConfigError(
                f"an outage AT:SECONDS needs AT from 0 and SECONDS above 0, got {self.at_s}:{self.seconds}"
            )


@dataclass(frozen=True)
class FaultPlan:
    """What to inject. bit_errors: probability a bit; drop_bytes, repeat_bytes: a byte; drop_frames: a frame."""

    seed: int = 0
    bit_errors: float = 0.0
    drop_bytes: float = 0.0
    repeat_bytes: float = 0.0
    drop_frames: float = 0.0
    pauses: Sequence[Outage] = ()
    unplugs: Sequence[Outage] = ()
    reboots_s: Sequence[float] = ()

    def __post_init__(self) -> None:
        for name in ("bit_errors", "drop_bytes", "repeat_bytes", "drop_frames"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is a probability from 0 to 1, got {getattr(self, name)}")
        if any(not 0 <= at_s < float("inf") for at_s in self.reboots_s):
            raise ConfigError(f"a reboot needs a time from 0, got {list(self.reboots_s)}")

    def require_before(self, end_s: float) -> None:
        """Raises ConfigError where a fault lies behind the end of what is played."""
        last_s = max((outage.at_s for outage in (*self.pauses, *self.unplugs)), default=0.0)
        last_s = max(last_s, *self.reboots_s, 0.0)
        if last_s >= end_s:
            raise ConfigError(f"a fault at {last_s:g} s never comes: the recording ends at {end_s:g} s")

    def turns(self) -> list[tuple[float, Turn]]:
        """When the device's state changes, in order."""
        turns = []
        for pause in self.pauses:
            turns += [(pause.at_s, Turn.PAUSE), (pause.at_s + pause.seconds, Turn.RESUME)]
        for unplug in self.unplugs:
            turns += [(unplug.at_s, Turn.UNPLUG), (unplug.at_s + unplug.seconds, Turn.REPLUG)]
        for at_s in self.reboots_s:
            turns += [(at_s, Turn.REBOOT), (at_s + REBOOT_S, Turn.BOOTED)]
        return sorted(turns, key=lambda turn: turn[0])


@dataclass
class FaultCounters:
    """What was injected so far."""

    bits_flipped: int = 0
    bytes_dropped: int = 0
    bytes_repeated: int = 0


class FaultyLine:
    """Damages bytes as a `FaultPlan` says; one seed gives one history."""

    def __init__(self, plan: FaultPlan) -> None:
        self.counters = FaultCounters()
        self._plan = plan
        self._frame_random, self._byte_random = (
            np.random.default_rng(seed) for seed in np.random.SeedSequence(plan.seed).spawn(2)
        )

    def swallows(self) -> bool:
        """Whether the next frame is lost as a whole."""
        return self._plan.drop_frames > 0 and bool(self._frame_random.random() < self._plan.drop_frames)

    def carry(self, wire: bytes) -> bytes:
        """What arrives of `wire`."""
        plan, random = self._plan, self._byte_random
        data = np.frombuffer(wire, np.uint8)
        if plan.bit_errors:
            flips = random.random(data.size * 8) < plan.bit_errors
            self.counters.bits_flipped += int(np.count_nonzero(flips))
            data = data ^ np.packbits(flips)
        if plan.drop_bytes or plan.repeat_bytes:
            dropped = random.random(data.size) < plan.drop_bytes
            repeated = ~dropped & (random.random(data.size) < plan.repeat_bytes)
            self.counters.bytes_dropped += int(np.count_nonzero(dropped))
            self.counters.bytes_repeated += int(np.count_nonzero(repeated))
            data = np.repeat(data, 1 - dropped.astype(int) + repeated)
        return data.tobytes()
