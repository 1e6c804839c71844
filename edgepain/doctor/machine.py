"""The computer itself: speed, room, clock and sleep."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from edgepain.doctor.check import Check, fails, not_checked, ok, warning
from edgepain.doctor.host import Host, text

LEAST_FREE, SMALL_FREE = 100e6, 1e9
# Their "powersave" speeds up under load; that of other drivers is the lowest speed there is.
_CLEVER_DRIVERS = ("intel_pstate", "amd-pstate-epp", "amd_pstate_epp")
_UNSYNCHRONISED = 5


def machine(host: Host) -> Iterator[Check]:
    """All of it, in order."""
    yield _governor(host)
    yield _disk()
    yield _clock(host)
    yield _sleep(host)


def _governor(host: Host) -> Check:
    name = "CPU speed"
    folders = sorted((host.sys / "devices/system/cpu").glob("cpu[0-9]*/cpufreq"))
    found = {text(folder / "scaling_governor") for folder in folders} - {""}
    if not found:
        return not_checked(name, "this machine does not say who chooses its speed (a virtual one, mostly)")
    drivers = {text(folder / "scaling_driver") for folder in folders}
    shown = ", ".join(sorted(found))
    if "powersave" in found and not drivers & set(_CLEVER_DRIVERS):
        todo = "decisions come later: echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        return warning(name, f"governor {shown}: the lowest speed, always", todo)
    return ok(name, f"governor {shown}")


def _disk() -> Check:
    name, folder = "disk", Path.cwd()
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return not_checked(name, f"{folder}: {error.strerror}")
    found = f"{free / 1e9:.1f} GB free in {folder}"
    todo = "free space, or record elsewhere: a day of 115200 baud is up to 1 GB"
    if free < LEAST_FREE:
        return fails(name, found, todo)
    return warning(name, found, todo) if free < SMALL_FREE else ok(name, found)


def _clock(host: Host) -> Check:
    name, state = "system clock", host.clock_state()
    if state < 0:
        return not_checked(name, "this system does not let itself be asked")
    if state == _UNSYNCHRONISED:
        todo = "recordings of two machines cannot be compared: sudo timedatectl set-ntp true"
        return warning(name, "not kept in time by NTP", todo)
    return ok(name, "kept in time")


def _sleep(host: Host) -> Check:
    name = "sleep"
    awake_s, since_boot_s = host.clocks()
    slept_s = since_boot_s - awake_s
    if slept_s < 1.0:
        return ok(name, "this computer has not slept since it was started")
    count = text(host.sys / "power/suspend_stats/success")
    times = f" in {count} times" if count.isdigit() else ""
    woke_s = host.woke_s()
    when = "when is not told" if woke_s is None else f"it woke {(awake_s - woke_s) / 60:.0f} min ago"
    todo = "switch sleeping off for sessions: systemd-inhibit --what=sleep:idle:handle-lid-switch edgepain run …"
    return warning(name, f"this computer slept {slept_s / 60:.1f} min{times} since it was started; {when}", todo)
