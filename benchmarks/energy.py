"""Energy that a board or processor counts itself: Intel and AMD RAPL, INA3221 sensors on a Jetson.

It is of the whole package or board, everything that runs on it included.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock, Thread

SYSFS = Path("/sys")
SAMPLE_S = 0.02
# The rail that feeds a Jetson module; its names over the boards (NVIDIA, Jetson Linux Developer Guide, Power).
JETSON_RAILS = ("VDD_IN", "POM_5V_IN")


@dataclass(frozen=True)
class NoMeter:
    """Why no energy can be measured here."""

    reason: str


@dataclass(frozen=True)
class Meter:
    """joules(): energy since some moment. what: whose energy, in words."""

    what: str
    joules: Callable[[], float] = field(repr=False)


def find_meter(sysfs: Path = SYSFS) -> Meter | NoMeter:
    """The energy meter of this machine, or why there is none."""
    try:
        return _rapl(sysfs) or _ina3221(sysfs) or NoMeter("neither RAPL nor a Jetson's INA3221 here")
    except PermissionError as error:
        return NoMeter(f"{error.filename} is not readable; run as root to measure energy")
    except (OSError, ValueError) as error:
        return NoMeter(f"the energy meter cannot be read ({error})")


def _rapl(sysfs: Path) -> Meter | None:
    """Processor packages (Linux, Documentation/power/powercap). Their counters begin again at a maximum."""
    packages = sorted((sysfs / "class/powercap").glob("intel-rapl:[0-9]"))
    if not packages:
        return None
    limits = [int((p / "max_energy_range_uj").read_text()) for p in packages]
    totals = [0] * len(packages)
    last = [int((p / "energy_uj").read_text()) for p in packages]

    def joules() -> float:
        for index, package in enumerate(packages):
            now = int((package / "energy_uj").read_text())
            # A counter that began again counts on from zero.
            totals[index] += (now - last[index]) % (limits[index] + 1)
            last[index] = now
        return sum(totals) / 1e6

    return Meter("processor packages (RAPL)", joules)


def _ina3221(sysfs: Path) -> Meter | None:
    """Volts times amperes of the module's input, sampled (Linux, Documentation/hwmon/ina3221)."""
    for label in sorted((sysfs / "class/hwmon").glob("hwmon*/in*_label")):
        if label.read_text().strip() in JETSON_RAILS:
            number = label.name.removeprefix("in").removesuffix("_label")
            rail = label.with_name(f"in{number}_input"), label.with_name(f"curr{number}_input")
            return Meter("module input (INA3221)", _Integral(partial(_watts, *rail)).joules)
    return None


def _watts(millivolts: Path, milliamperes: Path) -> float:
    return int(millivolts.read_text()) * int(milliamperes.read_text()) / 1e6


class _Integral:
    """Watts, sampled by a thread that ends with the process, summed over time."""

    def __init__(self, watts: Callable[[], float]) -> None:
        self._watts = watts
        self._joules = 0.0
        self._last = time.monotonic(), watts()
        self._lock = Lock()
        Thread(target=self._sample, daemon=True).start()

    def joules(self) -> float:
        with self._lock:
            now, watts = time.monotonic(), self._watts()
            before, earlier = self._last
            self._joules += (now - before) * (watts + earlier) / 2
            self._last = now, watts
            return self._joules

    def _sample(self) -> None:
        while True:
            time.sleep(SAMPLE_S)
            # What cannot be read now is asked for again, and told, by whoever reads the meter.
            with suppress(OSError, ValueError):
                self.joules()
