"""What the check asks a device, and whether it answers: HELLO on request, ACK, TIME."""

from __future__ import annotations

import struct

from edgepain.firmware_bridge.conformance.blocks import Block
from edgepain.firmware_bridge.conformance.findings import Ledger
from edgepain.firmware_bridge.edgeframe import DEVICE_STREAM, Command, Frame, FrameType, encode

ANSWER_S = 1.0
# HELLO comes every 2 s anyway. Three requests at different times of that period, each with so long to be answered,
# cannot all be met by chance.
HELLO_ANSWER_S = 0.5
_UNKNOWN_COMMAND = 0xEE
# Seconds after the first sound frame.
_AGENDA = (
    (0.7, "hello"),
    (1.2, "time"),
    (1.9, "unknown"),
    (2.2, "hello"),
    (2.7, "time"),
    (3.2, "time"),
    (3.7, "hello"),
)
_KNOCK_S = 1.0
_STAMP = struct.Struct("<QQ")
_CLOCK_SLACK_US = 1_000_000


class Questions:
    """Knows what to ask when, and judges the answers. asked_hello_s: when HELLO was asked for last."""

    def __init__(self, ledger: Ledger) -> None:
        self.asked_hello_s = float("-inf")
        self._ledger = ledger
        self._started_s: float | None = None
        self._next_knock_s: float | None = None
        self._asked = 0
        self._count = 0
        self._hellos: list[float] = []
        self._commands: dict[int, tuple[str, float]] = {}
        self._times: dict[bytes, float] = {}

    def due(self, now_s: float) -> bytes:
        """What to send at `now_s`. Until the device speaks, only the question for HELLO, once a second."""
        if self._started_s is None:
            return self._knock(now_s)
        asked = b""
        while self._asked < len(_AGENDA) and now_s >= self._started_s + _AGENDA[self._asked][0]:
            asked += self._ask(_AGENDA[self._asked][1], now_s)
            self._asked += 1
        return asked

    def start(self, now_s: float) -> None:
        """The device speaks: the first sound frame came. The agenda runs from here."""
        if self._started_s is None:
            self._started_s = now_s

    def take(self, block: Block, frame: Frame, uptime_us: int | None, now_s: float) -> None:
        """Judge a frame that answers. uptime_us: the device clock by HELLO at the frame's t_us, where known."""
        if frame.type is FrameType.HELLO:
            for asked_s in [asked_s for asked_s in self._hellos if now_s - asked_s <= HELLO_ANSWER_S]:
                self._hellos.remove(asked_s)
                self._ledger.passed("hello-on-request", f"after {1e3 * (now_s - asked_s):.0f} ms")
        elif frame.type is FrameType.ACK:
            self._acknowledged(block, frame)
        elif frame.type is FrameType.TIME:
            self._time_told(block, frame, uptime_us, now_s)

    def conclude(self, now_s: float) -> None:
        """Name what was never answered and had the time to be."""
        if self._started_s is None:
            return
        for asked_s in self._hellos:
            if now_s - asked_s > HELLO_ANSWER_S:
                self._ledger.failed("hello-on-request", f"no HELLO within {HELLO_ANSWER_S:g} s of COMMAND 1")
        for number, (rule, asked_s) in self._commands.items():
            if now_s - asked_s > ANSWER_S:
                self._ledger.failed(rule, f"no ACK to COMMAND {number} within {ANSWER_S:g} s")
        for asked_s in self._times.values():
            if now_s - asked_s > ANSWER_S:
                self._ledger.failed("time-reply", f"no reply within {ANSWER_S:g} s")

    def _knock(self, now_s: float) -> bytes:
        if self._next_knock_s is None:
            self._next_knock_s = now_s + _KNOCK_S
        if now_s < self._next_knock_s:
            return b""
        self._next_knock_s = now_s + _KNOCK_S
        self._count += 1
        self._commands[self._count] = ("ack", float("inf"))
        self.asked_hello_s = now_s
        return encode(Frame(FrameType.COMMAND, DEVICE_STREAM, self._count, 0, bytes([Command.SEND_HELLO])))

    def _ask(self, what: str, now_s: float) -> bytes:
        self._count += 1
        if what == "time":
            # Eight bytes that no device would invent, a 00 among them.
            stamp = struct.pack("<HIH", self._count, 0x00A5FF5A, 0x1234)
            self._times[stamp] = now_s
            return encode(Frame(FrameType.TIME, DEVICE_STREAM, self._count, 0, stamp))
        known = what == "hello"
        if known:
            self._hellos.append(now_s)
            self.asked_hello_s = now_s
        self._commands[self._count] = ("ack" if known else "ack-unknown", now_s)
        command = Command.SEND_HELLO if known else _UNKNOWN_COMMAND
        return encode(Frame(FrameType.COMMAND, DEVICE_STREAM, self._count, 0, bytes([command])))

    def _acknowledged(self, block: Block, frame: Frame) -> None:
        if frame.seq not in self._commands:
            self._ledger.failed("ack", f"ACK with id {frame.seq}, which no open COMMAND has", block.raw)
            return
        rule, _ = self._commands.pop(frame.seq)
        done = frame.payload[:1] == b"\x00"
        if not frame.payload:
            self._ledger.failed(rule, "ACK without a payload", block.raw)
        elif done != (rule == "ack"):
            self._ledger.failed(rule, f"ACK says {frame.payload[0]}", block.raw)
        else:
            self._ledger.passed(rule)

    def _time_told(self, block: Block, frame: Frame, uptime_us: int | None, now_s: float) -> None:
        asked_s = self._times.pop(frame.payload[:8], None)
        if asked_s is None:
            self._ledger.failed("time-reply", "TIME without a ping, or not with its 8 bytes", block.raw)
        elif len(frame.payload) != _STAMP.size:
            self._ledger.failed("time-reply", f"{len(frame.payload)} bytes of payload, and 16 are right", block.raw)
        else:
            told_us = _STAMP.unpack(frame.payload)[1]
            if uptime_us is not None and abs(told_us - uptime_us) > _CLOCK_SLACK_US:
                seen = f"{told_us} µs where HELLO's clock and t_us say {uptime_us} µs"
                self._ledger.failed("time-reply", seen, block.raw)
            else:
                self._ledger.passed("time-reply", f"after {1e3 * (now_s - asked_s):.0f} ms")
