"""The rules of HELLO, boot and clock: what the device says of itself, over all its boots."""

from __future__ import annotations

from edgepain.firmware_bridge.conformance.blocks import Block
from edgepain.firmware_bridge.conformance.findings import Ledger
from edgepain.firmware_bridge.edgeframe import Frame
from edgepain.firmware_bridge.hello import Hello, parse_hello

MAX_PERIOD_S, MIN_PERIOD_S = 2.6, 1.0
# A HELLO so soon after a request or a start is its answer, not one of the row.
_ANSWER_S = 1.0
# Around a start, HELLO may come twice in a row.
_EARLY_ALLOWED = 2
_BACKWARDS_SLACK_US = 1_000_000


class DeviceCheck:
    """Judges HELLO frames. hello: the last sound one. Its clock continues from there: see `uptime_us`."""

    def __init__(self, ledger: Ledger) -> None:
        self.hello: Hello | None = None
        self._ledger = ledger
        self._arrival_s = 0.0
        self._boots: set[int] = set()

    def take(self, block: Block, frame: Frame, arrival_s: float) -> bool:
        """One HELLO; whether the device has started anew (its first HELLO included), or describes other streams."""
        try:
            hello = parse_hello(frame.payload)
        except ValueError as error:
            self._ledger.failed("hello-content", str(error), block.raw)
            return False
        self._ledger.passed("hello-content", f"{len(hello.streams)} streams")
        self._clock(block, frame, hello)
        self._names(block, hello)
        before, silent_s = self.hello, arrival_s - self._arrival_s
        self.hello, self._arrival_s = hello, arrival_s
        started = before is None or self._started_anew(block, before, hello, silent_s)
        self._boots.add(hello.boot_id)
        if not started and before is not None and hello.streams != before.streams:
            self._ledger.failed("hello-content", "streams that are not those of the HELLO before", block.raw)
            return True
        return started

    def uptime_us(self, t_us: int) -> int | None:
        """The device clock in full at a frame's t_us, next to the last HELLO; None before that."""
        if self.hello is None:
            return None
        ahead = (t_us - self.hello.uptime_us) & 0xFFFFFFFF
        return self.hello.uptime_us + (ahead if ahead < 0x80000000 else ahead - 0x100000000)

    def _clock(self, block: Block, frame: Frame, hello: Hello) -> None:
        if hello.uptime_us & 0xFFFFFFFF != frame.t_us:
            seen = f"uptime_us {hello.uptime_us} (its low 32 bits {hello.uptime_us & 0xFFFFFFFF}), t_us {frame.t_us}"
            self._ledger.failed("hello-clock", seen, block.raw)
        else:
            self._ledger.passed("hello-clock")

    def _names(self, block: Block, hello: Hello) -> None:
        for stream in hello.streams:
            if stream.modality is None:
                self._ledger.noted("hello-names", f"{stream.name!r} is not known and will be read past", block.raw)
            elif stream.unit != stream.modality.unit:
                seen = f"{stream.name} in {stream.unit!r}, and not in {stream.modality.unit!r}"
                self._ledger.failed("hello-names", seen, block.raw)
            else:
                self._ledger.passed("hello-names")

    def _started_anew(self, block: Block, before: Hello, hello: Hello, silent_s: float) -> bool:
        went_on_us = hello.uptime_us - before.uptime_us
        if hello.boot_id == before.boot_id:
            if went_on_us < -_BACKWARDS_SLACK_US:
                seen = f"boot_id {hello.boot_id} again, and uptime_us fell from {before.uptime_us} to {hello.uptime_us}"
                self._ledger.failed("boot-id", seen, block.raw)
                return True
            self._ledger.passed("boot-id")
            return False
        if went_on_us > 0.5e6 * silent_s:
            seen = f"boot_id {hello.boot_id} after {before.boot_id}, and the clock ran on without a restart"
            self._ledger.failed("boot-id", seen, block.raw)
            return False
        if hello.boot_id in self._boots:
            self._ledger.failed("boot-id", f"boot_id {hello.boot_id} was there before", block.raw)
        else:
            self._ledger.passed("boot-id", "a restart was seen")
        return True


class HelloRow:
    """Judges when HELLO comes by itself. asked_s: when it was asked for last."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._last_s: float | None = None
        self._early = 0
        self._excused = False

    def start(self, now_s: float) -> None:
        """The device speaks: count from here."""
        self._last_s = now_s

    def broken(self) -> None:
        """A block was thrown away. It may have been a HELLO, so the next one is not late."""
        self._excused = True

    def came(self, block: Block, now_s: float, asked_s: float, fresh: bool) -> None:
        """A HELLO. fresh: the first one of a boot."""
        last_s, self._last_s = self._last_s, now_s
        excused, self._excused = self._excused, False
        if last_s is None or fresh:
            return
        gap_s = now_s - last_s
        if gap_s > MAX_PERIOD_S and excused:
            return
        if gap_s > MAX_PERIOD_S:
            self._ledger.failed("hello-period", f"{gap_s:.2f} s after the last one", block.raw)
        elif gap_s < MIN_PERIOD_S and now_s - asked_s > _ANSWER_S:
            self._early += 1
            if self._early > _EARLY_ALLOWED:
                self._ledger.failed("hello-period", f"again after {gap_s:.2f} s, unasked", block.raw)
        elif now_s - asked_s > _ANSWER_S:
            self._ledger.passed("hello-period", f"after {gap_s:.2f} s")

    def conclude(self, now_s: float, ever: bool) -> None:
        """Nothing more comes. ever: whether there was any HELLO."""
        if self._last_s is not None and now_s - self._last_s > MAX_PERIOD_S and not self._excused:
            since = "the last one" if ever else "the first frame, and none came"
            self._ledger.failed("hello-period", f"{now_s - self._last_s:.1f} s since {since}")
