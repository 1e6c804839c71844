"""Serial ports: who may open them, who has, and what gets in between."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from edgepain.doctor.check import Check, fails, not_checked, ok, warning
from edgepain.doctor.host import Host, text
from edgepain.firmware_bridge.holders import holders
from edgepain.firmware_bridge.serial_ports import stable_names

_KINDS = ("ttyACM*", "ttyUSB*", "rfcomm*")
_SLOW_MS = 2
# Adapters that brltty takes for Braille displays.
_BRLTTY_TAKES = ("1a86", "10c4")


def ports(host: Host, port: str | None) -> Iterator[Check]:
    """Those of one port, or of all that are there."""
    if port and "://" in port:
        yield not_checked(f"{port}: port", "is no file of this machine")
    else:
        yield from _those(host, [Path(port)] if port else _there(host))
    yield _modem_manager(host)
    yield _brltty(host)


def _there(host: Host) -> list[Path]:
    return [path for kind in _KINDS for path in sorted(host.dev.glob(kind))]


def _those(host: Host, found: list[Path]) -> Iterator[Check]:
    if not found:
        todo = "plug the device in with a cable that carries data, or bind its radio: sudo rfcomm bind 0 ADDRESS"
        yield warning("ports", "no serial port is there", todo)
    for path in found:
        if path.exists():
            yield from _port(host, path)
        else:
            yield fails(f"{path}: port", "is not there", "edgepain ports lists those that are; check the cable")


def _port(host: Host, path: Path) -> Iterator[Check]:
    device = Path(os.path.realpath(path))
    yield _permission(host, path)
    others = holders(str(device), host.proc, host.dev)
    if others:
        named = ", ".join(map(str, others))
        yield fails(f"{path}: other programs", f"open in {named}", "close that: each gets only a part of the bytes")
    else:
        yield ok(f"{path}: other programs", "none has it open (of those that this user may see)")
    stable = stable_names(host.dev / "serial/by-id").get(str(device))
    if stable:
        yield ok(f"{path}: stable name", stable)
    elif device.name.startswith(("ttyACM", "ttyUSB")):
        todo = "after a replug it may have another number: install udev, or make a rule (docs/deploy/99-edgepain.rules)"
        yield warning(f"{path}: stable name", "none in /dev/serial/by-id", todo)
    yield from _usb(host, path, device.name)


def _permission(host: Host, path: Path) -> Check:
    name = f"{path}: permission"
    facts = path.stat()
    group = _group_name(facts.st_gid)
    told = f"owner {_user_name(facts.st_uid)}, group {group}, mode {facts.st_mode & 0o777:o}"
    if host.may_open(path):
        return ok(name, told)
    if facts.st_gid in _groups_of_user() - set(os.getgroups()):
        return fails(name, f"{told}; you are in {group}, but were not when you logged in", "log out and in again")
    return fails(name, told, f"sudo usermod -aG {group} $USER, then log out and in again")


def _usb(host: Host, path: Path, name: str) -> Iterator[Check]:
    tty = host.sys / "class/tty" / name / "device"
    latency = text(tty / "latency_timer")
    if latency.isdigit():
        found = f"the adapter keeps bytes back for {latency} ms"
        if int(latency) > _SLOW_MS:
            todo = f"edgepain asks for 1 ms itself; for other programs: echo 1 | sudo tee {tty}/latency_timer"
            yield warning(f"{path}: FTDI latency", found, todo)
        else:
            yield ok(f"{path}: FTDI latency", found)
    usb = next((folder for folder in Path(os.path.realpath(tty)).parents if (folder / "idVendor").exists()), None)
    if usb is None:
        yield not_checked(f"{path}: USB power", "it is no USB device, or this machine does not say")
        return
    control, delay_ms = text(usb / "power/control"), text(usb / "power/autosuspend_delay_ms")
    if control == "auto" and not delay_ms.startswith("-"):
        todo = f"some adapters lose bytes when they wake: echo on | sudo tee {usb}/power/control"
        yield warning(f"{path}: USB power", f"may be put to sleep after {delay_ms or '?'} ms without use", todo)
    else:
        yield ok(f"{path}: USB power", "is not put to sleep")


def _modem_manager(host: Host) -> Check:
    name = "ModemManager"
    if "ModemManager" not in host.programs():
        return ok(name, "does not run")
    for rule in host.rules():
        if any(word in text(rule) for word in ("ID_MM_DEVICE_IGNORE", "ID_MM_PORT_IGNORE")) and "edgepain" in rule.name:
            return ok(name, f"runs; {rule} tells it to leave the wearable alone")
    todo = "sudo systemctl disable --now ModemManager, or install docs/deploy/99-edgepain.rules"
    return warning(name, "runs: it talks to every new port for some seconds, as if it were a modem", todo)


def _brltty(host: Host) -> Check:
    name = "brltty"
    rules = [
        rule
        for rule in host.rules()
        if "brltty" in rule.name
        and any(id in line for line in text(rule).splitlines() if not line.startswith("#") for id in _BRLTTY_TAKES)
    ]
    runs = "brltty" in host.programs()
    if not (rules or runs):
        return ok(name, "is not there")
    found = f"{'runs' if runs else 'is installed'}: it takes CH340 and CP210x adapters for Braille displays"
    todo = "unless somebody here reads Braille: sudo apt remove brltty, then plug the device in again"
    return warning(name, found + (f" ({rules[0]})" if rules else ""), todo)


def _groups_of_user() -> set[int]:
    """Groups that the user is a member of now, whenever the log-in was."""
    name = _user_name(os.getuid())
    return {group.gr_gid for group in grp.getgrall() if name in group.gr_mem}


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
