"""A board that measures when it is told to, on a pseudo-terminal, with faults on request."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgepain.errors import ConfigError, PortError
from edgepain.firmware_bridge.faults import FaultPlan, FaultyLine, Turn
from edgepain.firmware_bridge.pty_link import PtyLink, drain
from edgepain.firmware_bridge.simulator import READER_GONE_S

_POLL_S = 0.01


class Board(Protocol):
    """A simulated device without a line. name: in reports. duration_s: of its recording."""

    name: str
    duration_s: float

    @property
    def measuring(self) -> bool:
        """Whether frames are due."""
        ...

    def obey(self, commands: bytes, at_s: float) -> bytes:
        """What it answers to bytes that come at `at_s` of play."""
        ...

    def switch_off(self) -> None:
        """Forget what was asked for."""
        ...

    def frames(self, until_s: float) -> Sequence[bytes] | npt.NDArray[np.uint8]:
        """The frames that are due until `until_s` of play and were not given yet: [n, bytes of a frame], or n of any
        length."""
        ...


class BoardSimulator:
    """Runs one board on one link, from the first start until the recording ends; by turns of `plan` it fails.

    speed: seconds of play a second. loop: start over at the end. Raises ConfigError where the speed is not positive.
    """

    def __init__(self, board: Board, link: PtyLink, plan: FaultPlan, speed: float, loop: bool) -> None:
        if not 0 < speed < float("inf"):
            raise ConfigError(f"speed must be a positive number, got {speed}")
        plan.require_before(float("inf") if loop else board.duration_s)
        self._board = board
        self._link = link
        self._plan = plan
        self._line = FaultyLine(plan)
        self._speed = speed
        self._end_s = float("inf") if loop else board.duration_s
        self._silences = self._off = 0
        self._unread = 0
        self._turns: Counter[str] = Counter()
        self._fates: Counter[str] = Counter()

    def run(self, on_port: Callable[[str], None], on_progress: Callable[[float], None] = lambda played_s: None) -> None:
        """Play to the end and until the reader has everything. `on_port`: the port's name, again at each replug.

        Raises PortError where nobody reads for half a minute.
        """
        try:
            self._link.plug()
            on_port(self._link.port)
            while not self._board.measuring:
                self._listen(0.0)
            self._play(on_port, on_progress)
            self._unread = drain(self._link, lambda: self._listen(self._end_s))
        finally:
            self._link.unplug()

    def report(self) -> dict[str, Any]:
        """Frames by fate (sent, swallowed by drop_frames, silent in an outage) and faults injected."""
        return {
            "frames": {self._board.name: dict(self._fates)},
            "injected": {**asdict(self._line.counters), **self._turns},
            "unread_bytes": self._unread,
        }

    def _play(self, on_port: Callable[[str], None], on_progress: Callable[[float], None]) -> None:
        started_s = room_s = time.monotonic()
        turns, at_s = self._plan.turns(), 0.0
        while at_s < self._end_s:
            self._listen(at_s)
            now_s = time.monotonic()
            if self._link.backlog:
                if now_s - room_s > READER_GONE_S:
                    raise PortError(
                        f"{self._link.port}: nobody has read for {READER_GONE_S:g} s; start the reader again"
                    )
                continue
            room_s = now_s
            at_s = min((now_s - started_s) * self._speed, self._end_s)
            if turns and turns[0][0] <= at_s:
                at_s, turn = turns.pop(0)
                self._send(at_s)
                self._turn(turn, on_port)
            self._send(at_s)
            on_progress(at_s)

    def _listen(self, at_s: float) -> None:
        commands = self._link.exchange(_POLL_S)
        if commands and not self._off:
            self._link.write(self._board.obey(commands, at_s))

    def _send(self, at_s: float) -> None:
        if not self._board.measuring:
            return
        frames = self._board.frames(at_s)
        if self._off:
            return
        if self._silences:
            self._fates["silent"] += len(frames)
            return
        kept = [not self._line.swallows() for _ in frames]
        self._fates["swallowed"] += kept.count(False)
        self._fates["sent"] += kept.count(True)
        wire = b"".join(bytes(frame) for frame, sent in zip(frames, kept, strict=True) if sent)
        self._link.write(self._line.carry(wire))

    def _turn(self, turn: Turn, on_port: Callable[[str], None]) -> None:
        """A pause drops what is measured meanwhile; without power or at a restart, the board forgets what was asked."""
        if turn in (Turn.PAUSE, Turn.UNPLUG, Turn.REBOOT):
            self._turns[f"{turn.value}s"] += 1
        if turn in (Turn.PAUSE, Turn.RESUME):
            self._silences += 1 if turn is Turn.PAUSE else -1
        elif turn in (Turn.UNPLUG, Turn.REBOOT):
            self._off += 1
            self._board.switch_off()
        else:
            self._off -= 1
        if turn is Turn.UNPLUG:
            self._link.unplug()
        elif turn is Turn.REPLUG:
            self._link.plug()
            on_port(self._link.port)
