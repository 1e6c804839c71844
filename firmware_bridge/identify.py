"""What is on a serial port: listened to first, then asked, in an order that does nobody harm.

    listen   edgeframe frames, frames of a BITalino that measures, text lines. What sends bytes that are none of
             these is listened to at the other baud rates too
    3F       which Shimmer3 is there. To a BITalino it sets a rate, which every start sets again; others throw it away
    00 07    BITalino: stop, and which version. To a Shimmer3, which would have answered before, 07 means: measure
    00 ...   edgeframe: the end of any frame, and the question for HELLO. Last, because some of its bytes mean
             something to each of the others; its 00 at the end stops a BITalino again

The first two answers take 0.1 s. Opening the port restarts most Arduino boards, which is why they are listened to for
longer than a boot loader takes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from edgepain.errors import PortError
from edgepain.firmware_bridge.bitalino import STOP as BITALINO_STOP
from edgepain.firmware_bridge.bitalino import VERSION as BITALINO_VERSION
from edgepain.firmware_bridge.edgeframe import DEVICE_STREAM, Command, Frame, FrameDecoder, FrameType, encode
from edgepain.firmware_bridge.hello import decode_hello
from edgepain.firmware_bridge.line import LineDeafError, LineGoneError
from edgepain.firmware_bridge.ports import SerialLine, open_port
from edgepain.firmware_bridge.recognise import Finding, recognise
from edgepain.firmware_bridge.serial_ports import SerialPort
from edgepain.firmware_bridge.shimmer import FIRMWARE_QUESTION
from edgepain.firmware_bridge.shimmer import STOP as SHIMMER_STOP

AUTO = "auto"
BAUD = 115_200
OTHER_BAUDS = (9600, 57_600, 38_400, 19_200, 230_400, 460_800, 921_600, 1_000_000, 2_000_000)
LISTEN_S = 2.5
LISTEN_AT_OTHERS_S = 1.0
ANSWER_S = 0.6
COMMAND_GAP_S = 0.15
ENOUGH_BYTES = 16_384
_EXCERPT = 32
_SHIMMER_HARDWARE = b"\x3f"
_SHIMMER = re.compile(rb"\xff\x25([\x00-\x0f])")
_SHIMMER_FIRMWARE = re.compile(rb"\xff\x2f..(..)(.)(.)", re.DOTALL)
_BITALINO = re.compile(rb"BITalino_v([0-9.]{1,8})")


@dataclass(frozen=True)
class Identified:
    """What was found on a port, and the baud rate it was found at."""

    finding: Finding
    baud: int

    def __str__(self) -> str:
        sure = "certain" if self.finding.certain else "likely"
        wants = f"; {self.finding.wants}" if self.finding.wants else ""
        return f"{self.finding.device} at {self.baud} baud ({sure}: {self.finding.why}){wants}"


def identify(port: str, baud: int | None = None) -> Identified:
    """Find out what speaks on `port`, within 5 s, or 14 s where it sends what nobody knows. baud: the only one to try.

    Raises PortError where it cannot be opened, goes away, or nothing that is known here speaks; with what was seen.
    """
    line = open_port(port, baud or BAUD)
    try:
        return _Talk(line, port, baud).find()
    except LineGoneError as error:
        raise PortError(f"{port}: went away while it was listened to ({error}); check the cable") from error
    finally:
        line.close()


def probe(port: SerialPort) -> SerialPort:
    """The port with what speaks on it, or why that is not known."""
    try:
        speaks = f"speaks: {identify(port.name)}"
    except PortError as error:
        speaks = str(error)
    return replace(port, speaks=speaks)


class _Talk:
    """One port, listened to and asked."""

    def __init__(self, line: SerialLine, port: str, only_baud: int | None) -> None:
        self._line = line
        self._port = port
        self._baud = only_baud or BAUD
        self._others = () if only_baud else OTHER_BAUDS
        self._seen: list[tuple[int, bytes]] = []

    def find(self) -> Identified:
        if found := self._listen(LISTEN_S):
            return self._identified(found)
        if found := self._ask_shimmer() or self._ask_bitalino() or self._ask_edgeframe():
            return self._identified(found)
        # What speaks seldom has said more meanwhile.
        if found := recognise(b"".join(data for _, data in self._seen), self._baud):
            return self._identified(found)
        # A line that is silent at one baud rate is so at all of them.
        if any(data for _, data in self._seen):
            for baud in self._others:
                self._baud = baud
                self._line.set_baud(baud)
                if found := self._listen(LISTEN_AT_OTHERS_S):
                    return self._identified(found)
        raise PortError(self._nothing_known())

    def _identified(self, finding: Finding) -> Identified:
        return Identified(finding, self._baud)

    def _listen(self, seconds: float) -> Finding | None:
        """What sends of itself. Text and frames are taken as soon as they are certain, guesses at the end."""

        def certain(data: bytes) -> bool:
            found = recognise(data, self._baud)
            return found is not None and found.certain

        return recognise(self._hear(seconds, certain), self._baud)

    def _ask_shimmer(self) -> Finding | None:
        answer = self._ask(_SHIMMER_HARDWARE, lambda data: bool(_SHIMMER.search(data)))
        found = _SHIMMER.search(answer)
        if not found:
            return None
        told = _SHIMMER_FIRMWARE.search(self._ask(FIRMWARE_QUESTION, lambda data: bool(_SHIMMER_FIRMWARE.search(data))))
        firmware = f", firmware {int.from_bytes(told[1], 'little')}.{told[2][0]}.{told[3][0]}" if told else ""
        why = f"it answered as a Shimmer of hardware {found[1][0]}{firmware}"
        return Finding("shimmer3", why, certain=told is not None)

    def _ask_bitalino(self) -> Finding | None:
        self._ask(BITALINO_STOP, lambda data: False, COMMAND_GAP_S)
        answer = self._ask(BITALINO_VERSION, lambda data: bool(_BITALINO.search(data)))
        if found := _BITALINO.search(answer):
            return Finding("bitalino", f"it answered as BITalino v{found[1].decode()}")
        if b"\xff" in answer[:1]:
            # A Shimmer3 that missed the first question took this for 'measure'.
            self._ask(SHIMMER_STOP, lambda data: False, COMMAND_GAP_S)
            return self._ask_shimmer()
        return None

    def _ask_edgeframe(self) -> Finding | None:
        question = Frame(FrameType.COMMAND, DEVICE_STREAM, 1, 0, bytes([Command.SEND_HELLO]))
        answer = self._ask(b"\0" + encode(question), lambda data: bool(_hello_name(data)))
        if name := _hello_name(answer):
            return Finding("edgeframe", f"it answered with HELLO of {name!r}")
        return None

    def _ask(self, question: bytes, answered: Callable[[bytes], bool], seconds: float = ANSWER_S) -> bytes:
        try:
            self._line.write(question)
        except LineDeafError:
            return b""
        return self._hear(seconds, answered)

    def _hear(self, seconds: float, enough: Callable[[bytes], bool]) -> bytes:
        """What comes within so many seconds; less where it is enough before."""
        data, end_s = b"", time.monotonic() + seconds
        while time.monotonic() < end_s and len(data) < ENOUGH_BYTES:
            if more := self._line.read(wait=True):
                data += more
                if enough(data):
                    break
        self._seen.append((self._baud, data))
        return data

    def _nothing_known(self) -> str:
        heard = [(baud, data) for baud, data in self._seen if data]
        if not heard:
            return (
                f"{self._port}: nothing arrives and nothing answers; check that the device is on and connected to this "
                "port, that no other program talks to it (edgepain doctor), or name it with --device"
            )
        baud, data = max(heard, key=lambda each: len(each[1]))
        excerpt = data[:_EXCERPT]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in excerpt)
        bauds = len({baud for baud, _ in self._seen})
        listened = "one baud rate" if bauds == 1 else f"{bauds} baud rates"
        return (
            f"{self._port}: nothing that is known here speaks, at {listened}; of {len(data)} bytes at {baud} baud the "
            f"first are {excerpt.hex(' ')} |{text}|; name the device with --device, its speed with --baud"
        )


def _hello_name(data: bytes) -> str:
    """Name of the device that says HELLO in `data`; empty where none does."""
    hellos = [decode_hello(frame.payload) for frame in FrameDecoder().feed(data) if frame.type is FrameType.HELLO]
    return next((hello.info.name for hello in hellos if hello), "")
