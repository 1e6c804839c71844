"""The serial ports of this machine: a name that stays, a guess at what is plugged in, and whether it may be opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serial.tools import list_ports

BY_ID = Path("/dev/serial/by-id")
# Names that makers write into their USB descriptors, by what they say without doubt.
_NAMED = {
    "bitalino": "BITalino",
    "shimmer": "Shimmer dock or base: its own line is Bluetooth, /dev/rfcomm0",
    "emotibit": "EmotiBit",
}
_BRIDGE = "USB-UART bridge: an Arduino or ESP32 clone, a BITalino or firmware of your own"
# By vendor and product; those of one vendor that tell nothing apart have None for the product.
_BY_ID: dict[tuple[int, int | None], str] = {
    (0x2341, None): "Arduino",
    (0x2A03, None): "Arduino",
    (0x0403, None): f"FTDI {_BRIDGE}",
    (0x10C4, 0xEA60): f"CP210x {_BRIDGE}",
    (0x1A86, None): f"WCH (CH340) {_BRIDGE}",
    (0x067B, None): f"Prolific {_BRIDGE}",
    (0x303A, None): "ESP32 with USB of its own",
    (0x239A, None): "Adafruit board; an EmotiBit sits on a Feather of theirs",
    (0x1B4F, None): "SparkFun board",
    (0x2886, None): "Seeed board",
    (0x2E8A, None): "Raspberry Pi Pico",
    (0x16C0, 0x0483): "Teensy",
    (0x0D28, 0x0204): "micro:bit, or another board with DAPLink",
    (0x0483, 0x5740): "STM32 with USB of its own",
    (0x0483, 0x374B): "STM32 Nucleo or Discovery (ST-LINK)",
    (0x1366, None): "board with a SEGGER J-Link",
    (0x1915, None): "Nordic board",
}


_NONE = (
    "no serial port is there: is the device plugged in and switched on, and does its cable carry data? `dmesg` tells "
    "whether the machine saw it. A Bluetooth device needs: sudo rfcomm bind 0 ADDRESS"
)
_NOT_PERMITTED = "not permitted: join the group of the port: sudo usermod -aG dialout $USER, then log in again"


@dataclass(frozen=True)
class SerialPort:
    """name: to give as --port; under /dev/serial/by-id where there is one, which survives a replug. device: it now.

    usb_id: `VVVV:PPPP`, or None where it is no USB port. permitted: whether this user may open it. speaks: what was
    found on it, empty where it was not probed.
    """

    name: str
    device: str
    usb_id: str | None
    description: str
    guess: str
    permitted: bool
    speaks: str = ""


def serial_ports(by_id: Path = BY_ID) -> list[SerialPort]:
    """The ports that are there, USB first, then by name."""
    stable = stable_names(by_id)
    found = []
    for port in list_ports.comports():
        usb_id = None if port.vid is None else f"{port.vid:04x}:{port.pid:04x}"
        told = [text for text in (port.manufacturer, port.product or port.description) if text and text != "n/a"]
        description = " ".join(told)
        guess = guess_device(port.device, port.vid, port.pid, description)
        permitted = os.access(port.device, os.R_OK | os.W_OK)
        name = stable.get(os.path.realpath(port.device), port.device)
        found.append(SerialPort(name, port.device, usb_id, description, guess, permitted))
    return sorted(found, key=lambda port: (port.usb_id is None, port.name))


def serial_port(name: str, by_id: Path = BY_ID) -> SerialPort:
    """The port that goes by this name, whether the system lists it or not."""
    for port in serial_ports(by_id):
        if os.path.realpath(name) in (os.path.realpath(port.name), os.path.realpath(port.device)):
            return port
    permitted = os.access(name, os.R_OK | os.W_OK)
    return SerialPort(name, os.path.realpath(name), None, "", guess_device(name, None, None, ""), permitted)


def describe(ports: Sequence[SerialPort]) -> str:
    """The ports for a person, or what to check where there is none."""
    paragraphs = []
    for port in ports:
        now = "" if port.name == port.device else f", now {port.device}"
        told = " ".join(filter(None, (port.usb_id, port.description)))
        lines = [f"{port.name}{now}", port.guess, told, "" if port.permitted else _NOT_PERMITTED, port.speaks]
        # What a device says of itself may be anything, and goes to a terminal.
        shown = ["".join(filter(str.isprintable, line)) for line in lines]
        paragraphs.append("\n  ".join(filter(None, shown)))
    return "\n\n".join(paragraphs) or _NONE


def stable_names(by_id: Path = BY_ID) -> dict[str, str]:
    """Device path to its name in `by_id`, for the ports that have one."""
    if not by_id.is_dir():
        return {}
    return {os.path.realpath(link): str(link) for link in sorted(by_id.iterdir())}


def stable_name(port: str, by_id: Path = BY_ID) -> str:
    """The name in `by_id` of the device that `port` leads to, which follows it when it is numbered anew; or `port`."""
    return stable_names(by_id).get(os.path.realpath(port), port)


def numbered_anew(port: str) -> bool:
    """Whether the name is that of a pseudo-terminal, which goes to whoever opens the next one; a link to it is none."""
    return os.path.dirname(os.path.abspath(port)) == "/dev/pts"


def guess_device(device: str, vid: int | None, pid: int | None, description: str) -> str:
    """What is likely plugged in, for a person; `unknown` where nothing tells."""
    named = [name for word, name in _NAMED.items() if word in description.lower()]
    if named:
        return named[0]
    if vid is not None:
        return _BY_ID.get((vid, pid)) or _BY_ID.get((vid, None)) or "unknown"
    name = os.path.basename(device)
    if name.startswith("rfcomm"):
        return "Bluetooth: a BITalino or a Shimmer3, as was bound to it"
    if name.startswith(("ttyS", "ttyAMA")):
        return "UART of this machine: what is wired to its pins"
    return "unknown"
