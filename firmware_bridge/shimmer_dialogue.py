"""How a Shimmer3 is set up: the commands it is sent, one after the other, and what its answers say.

Every command is acknowledged (FF) before the next is sent, and all begin anew where that took a second. Which board
is in the unit, and the gain that its registers hold, are asked for where they matter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgepain.firmware_bridge.fixed_frames import LOCK_FRAMES
from edgepain.firmware_bridge.shimmer import (
    BOARD_QUESTION,
    CLOCK_HZ,
    CRC_ON,
    FIRMWARE_QUESTION,
    INQUIRY,
    POWER_ON,
    REFUSED,
    START,
    STOP,
    range_command,
    rate_command,
    registers_question,
    sensors_command,
    set_registers_command,
    time_bytes_of,
)
from edgepain.firmware_bridge.shimmer_units import BOARDS, ShimmerOptions

STOP_S = 0.5
ANSWER_S = 1.0
SILENCE_S = 2.0
TAIL = 64
_FIRMWARE = re.compile(rb"\xff\x2f(..)(..)(.)(.)", re.DOTALL)
_BOARD = re.compile(rb"\xff\x65\x03(.)..", re.DOTALL)
_REGISTERS = re.compile(rb"\xff\x62\x0a(.{10})", re.DOTALL)


@dataclass(frozen=True)
class Inquired:
    """The answer to an inquiry. unit: gsr or exg. order: ids of the channels. rest: the bytes after it."""

    unit: str
    order: tuple[int, ...]
    rest: bytes


class ShimmerDialogue:
    """Commands out, answers in; see `ShimmerDriver`. firmware: version, empty before it said so."""

    def __init__(self, options: ShimmerOptions) -> None:
        self._options = options
        self._answers = {unit: _inquiry_answer(options, unit) for unit in options.units}
        self._unit: str | None = None
        self._script: list[bytes] = []
        self._step = 0
        self._deadline_s = float("-inf")
        self.cut()

    def cut(self) -> None:
        """Another unit may be there next."""
        self._tail, self.firmware, self._told_bytes = b"", "", 3
        self._board: int | None = None
        self._gain: int | None = None
        self._acknowledged = self.crc_refused = False
        self._unit = None if self._options.unit == "auto" else self._options.unit
        self._script, self._step = self._commands(), 0
        self._next_s = float("-inf")

    @property
    def gain(self) -> int:
        """Of the ECG lead, as its registers were read back."""
        return self._gain or self._options.ecg_gain

    @property
    def time_bytes(self) -> int:
        """Bytes of a packet's time."""
        return self._options.time_bits // 8 or self._told_bytes

    def hear(self, data: bytes, introduced: bool) -> Inquired | None:
        """Take in what came. The answer to an inquiry, if it is that of a unit as was asked for."""
        self._acknowledged |= b"\xff" in data
        self.crc_refused |= REFUSED in data and self._asked == CRC_ON
        self._tail += data
        if not introduced:
            self._learn()
        heard = None
        for unit, pattern in self._answers.items():
            for answer in pattern.finditer(self._tail):
                if sorted(answer[1]) == sorted(self._options.channels(unit)):
                    heard = Inquired(unit, tuple(answer[1]), self._tail[answer.end() :])
        # Of an ExG unit nothing can be said in mV before its gain is known.
        if heard and heard.unit == "exg" and self._gain is None:
            heard = None
        if heard:
            self._tail = heard.rest
            self.crc_refused = False
        self._tail = self._tail[-TAIL:]
        return heard

    def request(self, now_s: float) -> bytes:
        """One command, when the last one was acknowledged. A unit that falls silent is set up anew."""
        if self._step == len(self._script):
            if now_s < self._deadline_s:
                return b""
            self._step = 0
        # What acknowledges the stop cannot be told from data that was under way.
        elif now_s < self._next_s and not (self._acknowledged and self._step > 1):
            return b""
        elif self._step > 1 and not self._acknowledged:
            self.crc_refused = self._asked == CRC_ON
            self._step = 0
        command = self._script[self._step]
        self._step += 1
        self._acknowledged = False
        self._next_s = now_s + (STOP_S if self._step == 1 else ANSWER_S)
        self.data_came(now_s)
        return command

    def data_came(self, now_s: float) -> None:
        """Packets came, or a command was sent: silence is counted from here."""
        unit = self._unit or self._options.units[0]
        patience_s = SILENCE_S + (LOCK_FRAMES + 1) * self._options.divider(unit) / CLOCK_HZ
        self._deadline_s = now_s + patience_s

    def deaf(self) -> None:
        """Commands that were not taken are begun again in a while."""
        self._step = 0

    def complaint(self) -> str:
        """Why it cannot be set up; empty where nothing is known to be wrong."""
        if self.crc_refused:
            return (
                f"firmware {self.firmware or 'unknown'} did not take the command for CRC, as none before 0.13.7 does: "
                "try --device-option crc=false"
            )
        if self._unit is None and self._board is not None:
            return f"the Shimmer3 has board {self._board}, which measures neither GSR nor ExG: use another unit"
        if self._unit is None and self.firmware:
            return (
                f"firmware {self.firmware} does not say which board is in the unit: give --device-option unit=gsr or "
                "unit=exg"
            )
        if self._unit == "exg" and self._gain is None and self.firmware:
            return "the unit does not tell the registers of an ExG board: is it a GSR+ unit (unit=gsr)?"
        return ""

    @property
    def _asked(self) -> bytes:
        """The last command sent; what the script ends with where it is about to begin."""
        return self._script[self._step - 1]

    def _learn(self) -> None:
        for told in list(_FIRMWARE.finditer(self._tail))[-1:]:
            kind, major = (int.from_bytes(told[k], "little") for k in (1, 2))
            self.firmware = f"{major}.{told[3][0]}.{told[4][0]}"
            self._told_bytes = time_bytes_of(kind, major, told[3][0])
        for told in list(_REGISTERS.finditer(self._tail))[-1:]:
            self._gain = self._options.gain_of(told[1])
        for told in list(_BOARD.finditer(self._tail))[-1:]:
            self._board = told[1][0]
            if self._options.unit == "auto" and self._unit != BOARDS.get(self._board):
                self._unit = BOARDS.get(self._board)
                self._script = self._commands()

    def _commands(self) -> list[bytes]:
        o, unit = self._options, self._unit
        commands = [STOP, FIRMWARE_QUESTION]
        if o.unit == "auto":
            commands.append(BOARD_QUESTION)
        if unit is None:
            return commands
        commands += [rate_command(o.divider(unit)), sensors_command(o.channels(unit))]
        if unit == "gsr":
            commands.append(range_command(o.gsr_range))
        else:
            commands += [set_registers_command(chip, o.registers(chip)) for chip in range(o.ecg_chip + 1)]
            commands.append(registers_question(o.ecg_chip))
        return [*commands, POWER_ON, *([CRC_ON] if o.crc else []), INQUIRY, START]


def _inquiry_answer(options: ShimmerOptions, unit: str) -> re.Pattern[bytes]:
    """FF 02 div cfg[4] n buf ch[n]; group 1: the ids, any of those that were asked for, in any order."""
    channels = options.channels(unit)
    divider = re.escape(options.divider(unit).to_bytes(2, "little"))
    ids = b"([" + b"".join(re.escape(bytes([channel])) for channel in channels) + b"]{%d})" % len(channels)
    return re.compile(b"\xff\x02" + divider + b".{4}" + re.escape(bytes([len(channels)])) + b"." + ids, re.DOTALL)
