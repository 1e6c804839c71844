"""A wearable on a pseudo-terminal that plays a recording at its true rates, with faults on request."""

from __future__ import annotations

import heapq
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Any

from edgepain.errors import ConfigError, PortError
from edgepain.firmware_bridge.edgeframe import Command, Frame, FrameDecoder, FrameType, encode
from edgepain.firmware_bridge.faults import REBOOT_S, FaultPlan, FaultyLine, Turn
from edgepain.firmware_bridge.pty_link import PtyLink, drain
from edgepain.firmware_bridge.wearable import HELLO, STATUS, Due, Wearable

# A reader that takes nothing for so long while there is more to send is not coming back.
READER_GONE_S = 30.0
_POLL_S = 0.02


@dataclass(frozen=True)
class PlayOptions:
    """speed: seconds of play a second. loop: start over at the end. wait: begin when a reader asks for HELLO.

    drop_when_full: like the firmware, throw whole frames away when the reader is slow, instead of waiting for it.
    """

    speed: float = 1.0
    loop: bool = False
    wait: bool = True
    drop_when_full: bool = False


class Simulator:
    """Runs one wearable on one link until the recording ends.

    Raises ConfigError where the speed is not positive, or a fault lies behind the end of the recording.
    """

    def __init__(self, wearable: Wearable, link: PtyLink, options: PlayOptions, plan: FaultPlan) -> None:
        if not 0 < options.speed < float("inf"):
            raise ConfigError(f"speed must be a positive number, got {options.speed}")
        plan.require_before(float("inf") if options.loop else wearable.duration_s)
        self._wearable = wearable
        self._link = link
        self._options = options
        self._plan = plan
        self._line = FaultyLine(plan)
        self._commands = FrameDecoder()
        self._started_s = 0.0
        self._played_s = 0.0
        self._silences = 0
        self._unread = 0
        self._turns: Counter[str] = Counter()
        self._samples: Counter[str] = Counter()
        self._fates: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def run(
        self,
        on_port: Callable[[str], None] = lambda port: None,
        on_progress: Callable[[float], None] = lambda played_s: None,
    ) -> None:
        """Play to the end and until the reader has everything. `on_port`: the port's name, again at each replug.

        Raises PortError where nobody reads for half a minute (never with drop_when_full).
        """
        try:
            self._link.plug()
            on_port(self._link.port)
            if self._options.wait:
                self._await_reader()
            self._started_s = time.monotonic()
            for at_s, _, item in self._agenda():
                self._wait_until(at_s)
                self._played_s = at_s
                if isinstance(item, Turn):
                    self._turn(item, on_port)
                else:
                    self._send_due(item)
                on_progress(at_s)
            self._unread = drain(self._link, lambda: self._listen(_POLL_S))
        finally:
            self._link.unplug()

    def report(self) -> dict[str, Any]:
        """Frames by fate, samples sent, faults injected: what a receiver's counters can be held against.

        Fates: sent, swallowed (drop_frames), full (drop_when_full), silent (pause, unplug), rebooting (no `seq`
        was used up). DATA frames stand under their signal's name, all others under `device`.
        """
        return {
            "frames": {name: dict(fates) for name, fates in self._fates.items()},
            "samples": dict(self._samples),
            "injected": {**asdict(self._line.counters), **self._turns},
            "unread_bytes": self._unread,
        }

    def _agenda(self) -> Iterator[tuple[float, int, Due | Turn]]:
        """(time, order within that time, what happens)."""
        dues = ((due.at_s, 1, due) for due in self._wearable.schedule(loop=self._options.loop))
        turns = ((at_s, 0, turn) for at_s, turn in self._plan.turns())
        agenda: Iterator[tuple[float, int, Due | Turn]] = heapq.merge(dues, turns, key=itemgetter(0, 1))
        return agenda

    def _await_reader(self) -> None:
        while not self._listen(_POLL_S):
            pass

    def _wait_until(self, at_s: float) -> None:
        """Let time pass until `at_s` of play, and until the line has room again where that is asked for."""
        target_s = self._started_s + at_s / self._options.speed
        backlog, moved_s = self._link.backlog, time.monotonic()
        while True:
            now_s = time.monotonic()
            full = self._link.backlog > 0 and not self._options.drop_when_full
            if now_s >= target_s and not full:
                self._listen(0.0)
                return
            if self._link.backlog != backlog:
                backlog, moved_s = self._link.backlog, now_s
            elif full and now_s - moved_s > READER_GONE_S:
                raise PortError(
                    f"{self._link.port}: nobody has read for {READER_GONE_S:g} s; start the reader again, "
                    "or play with --drop-when-full"
                )
            self._listen(max(min(target_s - now_s, _POLL_S * 10), 0.0) or _POLL_S)
            self._played_s = min(max((now_s - self._started_s) * self._options.speed, self._played_s), at_s)

    def _listen(self, timeout_s: float) -> bool:
        """Obey what the host says within `timeout_s`; whether it asked for HELLO."""
        asked = False
        for frame in self._commands.feed(self._link.exchange(timeout_s)):
            asked |= frame.type is FrameType.COMMAND and frame.payload == bytes([Command.SEND_HELLO])
            for answer in self._wearable.answer(frame, self._played_s):
                self._send(answer, "device")
        return asked

    def _send_due(self, due: Due) -> None:
        if due.stream in (HELLO, STATUS):
            make = self._wearable.hello if due.stream == HELLO else self._wearable.status
            self._send(make(due.at_s), "device")
            return
        name = self._wearable.modality(due.stream).value
        frame = self._wearable.data(due)
        if frame is None:
            self._fates[name]["rebooting"] += 1
            return
        fate = self._send(frame, name)
        if fate == "sent":
            self._samples[name] += frame.count
        elif fate == "full":
            self._wearable.overrun(due)

    def _send(self, frame: Frame, name: str) -> str:
        if self._silences:
            fate = "silent"
        elif self._line.swallows():
            fate = "swallowed"
        elif self._options.drop_when_full and self._link.backlog:
            fate = "full"
        else:
            fate = "sent"
            self._link.write(self._line.carry(encode(frame)))
        self._fates[name][fate] += 1
        return fate

    def _turn(self, turn: Turn, on_port: Callable[[str], None]) -> None:
        if turn in (Turn.PAUSE, Turn.UNPLUG, Turn.REBOOT):
            self._turns[f"{turn.value}s"] += 1
            self._silences += 1
        else:
            self._silences -= 1
        if turn is Turn.UNPLUG:
            self._link.unplug()
        elif turn is Turn.REPLUG:
            self._link.plug()
            on_port(self._link.port)
        elif turn is Turn.REBOOT:
            self._wearable.reboot(self._played_s, REBOOT_S)
        if turn in (Turn.REPLUG, Turn.BOOTED):
            self._send(self._wearable.hello(self._played_s), "device")
