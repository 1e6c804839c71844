"""What speaks, by the bytes it sent of itself: no port in sight."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import get_args

from edgepain.firmware_bridge.bitalino import FRAME_BYTES, BitalinoDecoder
from edgepain.firmware_bridge.edgeframe import FrameDecoder
from edgepain.firmware_bridge.sketches import LinesOptions, SketchName, open_sketch

LEAST_LINES = 4
# A frame of random bits passes CRC4 and sequence once in 256.
_LEAST_FRAMES = 24
_SHARE = 0.8
_NUMBERS = re.compile(rb"[-+.\dA-Za-z_]+(?:\s*[,;\t ]\s*[-+.\dA-Za-z_]+)*")
# Their lines are like nobody else's.
_OWN_LOOK = ("pulsesensor_visualizer", "max3010x_bpm", "max3010x_rate", "max3010x_spo2", "emotibit")
_ASKS_RATE = "give its lines a second as --device-option rate_hz=NUMBER"


@dataclass(frozen=True)
class Finding:
    """device: its name in `devices`. options: what of its settings is known. why: what tells, for a person.

    certain: False where others may look alike. wants: what else has to be given, for a person; mostly empty.
    """

    device: str
    why: str
    certain: bool = True
    options: Mapping[str, str] = field(default_factory=dict)
    wants: str = ""


def recognise(data: bytes, baud: int) -> Finding | None:
    """What sent `data` at `baud`, where these bytes tell; never raises."""
    decoder = FrameDecoder()
    if count := len(decoder.feed(data)):
        return Finding("edgeframe", f"{count} edgeframe frames with the right CRC-32")
    return _running_bitalino(data) or _text(data, baud)


def _running_bitalino(data: bytes) -> Finding | None:
    for channels, size in enumerate(FRAME_BYTES, start=1):
        decoder = BitalinoDecoder(channels)
        frames = sum(len(block.analog) for block in decoder.feed(data))
        if frames >= _LEAST_FRAMES and frames * size >= _SHARE * len(data):
            why = f"{frames} frames of {size} bytes with the right CRC4 and sequence, as of a BITalino that measures"
            return Finding("bitalino", why)
    return None


def _text(data: bytes, baud: int) -> Finding | None:
    # The first line may have begun before the port was opened, and the last one is not over.
    lines = [line.strip() for line in data.split(b"\n")[1:-1]]
    lines = [line for line in lines if line]
    if len(lines) < LEAST_LINES or not all(_printable(line) for line in lines[-LEAST_LINES:]):
        return None
    # What a board says while it starts is no line of its sketch.
    tail = lines[len(lines) // 2 :] if len(lines) >= 2 * LEAST_LINES else lines[-LEAST_LINES:]
    fits = [name for name in get_args(SketchName) if name != "columns" and _fits(name, tail)]
    for name in _OWN_LOOK:
        if name in fits:
            wants = _ASKS_RATE if name.startswith("max") else ""
            return Finding("lines", f"lines like those of {name}: {_show(tail[-1])}", True, {"sketch": name}, wants)
    return _numbers(tail, fits, baud)


def _numbers(lines: Sequence[bytes], fits: Sequence[str], baud: int) -> Finding | None:
    shown = _show(lines[-1])
    if "grove_gsr" in fits and baud == 9600:
        wants = "give what it prints while nobody wears it as --device-option cal=NUMBER"
        return Finding("lines", f"one small number a line, as of a Grove GSR: {shown}", False, _of("grove_gsr"), wants)
    if "max3010x_value" in fits:
        why = f"one number a line, as of a SparkFun MAX3010x: {shown}"
        return Finding("lines", why, False, _of("max3010x_value"), _ASKS_RATE)
    if _fits("columns", lines) and _rises(lines):
        why = f"three numbers a line, the first one a time: {shown}"
        return Finding("lines", why, False, {"columns": LinesOptions().columns})
    if "pulsesensor_plotter" in fits:
        why = f"three whole numbers a line, as of PulseSensor's plotter: {shown}"
        return Finding("lines", why, False, _of("pulsesensor_plotter"))
    if all(_NUMBERS.fullmatch(line) for line in lines):
        return Finding(
            "lines", f"text lines: {shown}", False, {}, "say what they hold as --device-option columns=NAMES"
        )
    return None


def _of(sketch: str) -> dict[str, str]:
    return {"sketch": sketch}


def _fits(name: str, lines: Sequence[bytes]) -> bool:
    """Whether most lines are of this sketch."""
    needed = {"rate_hz": 1.0, "cal": 1023.0} if name != "columns" else {}
    sketch = open_sketch(LinesOptions(sketch=name, **needed))  # type: ignore[arg-type]
    readings = [sketch.read(line) for line in lines]
    told = any(reading and reading.values for reading in readings)
    return told and sum(reading is not None for reading in readings) >= _SHARE * len(lines)


def _rises(lines: Sequence[bytes]) -> bool:
    times = [float(cell) for line in lines if (cell := line.split(b",")[0].strip()).isdigit()]
    return len(times) > 1 and all(a < b for a, b in pairwise(times))


def _printable(line: bytes) -> bool:
    return all(32 <= byte < 127 or byte == 9 for byte in line)


def _show(line: bytes) -> str:
    return repr(line[:60].decode("ascii", "replace"))
