"""The sketch on a simulated Arduino Uno, its UART on a pseudo-terminal: for real, from analog pins to decisions."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgepain.firmware_bridge import DeviceSource
from edgepain.signal import Modality, Samples

HERE = Path(__file__).parent
ARDUINO = Path("/usr/share/arduino/hardware")
BUILDER = Path("/usr/share/arduino-builder")
NEEDED = (
    "apt-get install arduino-builder arduino-ctags arduino-core-avr gcc-avr avr-libc "
    "simavr libsimavr-dev libelf-dev gcc"
)
FLASH_BYTES, RAM_BYTES = 32_256, 2_048
# Where a simulation fell further behind than this, a wrong clock is the machine's fault, not the firmware's.
MAX_LAG_S = 0.1


def require(condition: object, what: str) -> None:
    if not condition:
        pytest.skip(f"{what} is missing: {NEEDED}")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The library as a user gets it, in a libraries folder of the Arduino IDE."""
    libraries = tmp_path_factory.mktemp("libraries")
    command = [sys.executable, "-m", "edgepain", "firmware", libraries]
    subprocess.run(command, check=True, capture_output=True)
    return libraries / "edgeframe"


@pytest.fixture(scope="module")
def sketch(library, tmp_path_factory):
    """The example sketch, compiled for an Uno as the Arduino IDE does it: ELF file, and what the compiler said."""
    for tool in ("arduino-builder", "avr-g++"):
        require(shutil.which(tool), tool)
    require((ARDUINO / "arduino" / "avr" / "boards.txt").is_file(), "the Arduino core for AVR")
    build = tmp_path_factory.mktemp("build")
    source = library / "examples" / "edgeframe_eda_ppg" / "edgeframe_eda_ppg.ino"
    command = ["arduino-builder", "-hardware", ARDUINO, "-hardware", BUILDER, "-tools", ARDUINO]
    command += ["-libraries", library.parent, "-built-in-libraries", ARDUINO / "arduino" / "avr" / "libraries"]
    command += ["-fqbn", "arduino:avr:uno", "-prefs", "compiler.path=/usr/bin/", "-warnings", "all"]
    # The core asks for a macro that Debian's avr-libc does not give to C++.
    command += ["-prefs", "compiler.cpp.extra_flags=-DDECIMAL_DIG=__DECIMAL_DIG__", "-build-path", build, source]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return build / "edgeframe_eda_ppg.ino.elf", result.stdout + result.stderr


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """The simulated Uno, compiled."""
    require(shutil.which("gcc"), "gcc")
    require(Path("/usr/include/simavr/sim_avr.h").is_file(), "libsimavr")
    built = tmp_path_factory.mktemp("board") / "simavr_board"
    command = ["gcc", "-O2", "-Wall", HERE / "firmware" / "simavr_board.c", "-o", built, "-lsimavr", "-lelf", "-lm"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return built


class Uno:
    """A running board. port: its serial port."""

    def __init__(self, board, elf):
        self.process = subprocess.Popen([board, elf], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.port = self.process.stdout.readline().removeprefix("port: ").strip()

    def stop(self):
        """Switch it off; how far the simulation fell behind, in seconds."""
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=30)
        return float(re.search(r"worst lag: ([\d.]+) s", errors)[1])


@pytest.fixture
def uno(board, sketch):
    running = Uno(board, sketch[0])
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.communicate()


def test_the_sketch_compiles_as_an_installed_library_and_leaves_room(sketch):
    _, said = sketch
    assert "edgeframe_eda_ppg" not in "".join(line for line in said.splitlines() if "warning" in line)
    assert not [line for line in said.splitlines() if "warning" in line and "edgeframe" in line]
    flash, ram = (
        int(re.search(r"uses (\d+) bytes .*program", said)[1]),
        int(re.search(r"use (\d+) bytes .*dyn", said)[1]),
    )
    assert flash < FLASH_BYTES / 2
    assert ram < RAM_BYTES / 2


def test_the_uno_conforms(uno):
    command = [sys.executable, "-m", "edgepain", "conformance", uno.port, "--seconds", "6.5", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    lag_s = uno.stop()
    report = json.loads(result.stdout)
    broken = {row["rule"]: row["seen"] for row in report["rules"] if row["verdict"] != "pass"}
    if "host-clock" in broken and lag_s > MAX_LAG_S:
        pytest.skip(f"the machine is too busy to simulate a board: {lag_s:.2f} s behind")
    assert (result.returncode, broken) == (0, {"overrun": ""})


def test_its_signals_arrive_in_their_units(uno):
    """The board's pins see 400 ± 20 counts of a Grove GSR and a pulse of 200 counts around 512."""
    received: list[Samples] = []
    with DeviceSource(uno.port) as source:
        while sum(part.values.size for part in received) < 300:
            received += [event for event in source.recv(1.0) if isinstance(event, Samples)]
        stats = source.stats()
    uno.stop()
    assert (stats.frames_lost, stats.crc_errors, stats.malformed) == (0, 0, 0)
    by = {m: [v for part in received if part.modality is m for v in part.values] for m in (Modality.EDA, Modality.BVP)}
    grove = [100 * (512 - x) / (1024 + 2 * x) for x in (421, 379)]
    assert grove[0] < min(by[Modality.EDA]) <= max(by[Modality.EDA]) < grove[1]
    assert min(by[Modality.BVP]) == pytest.approx(312, abs=3)
    assert max(by[Modality.BVP]) == pytest.approx(712, abs=3)


def test_edgepain_run_decides_on_it(uno, tmp_path):
    command = [sys.executable, "-m", "edgepain", "run", "--port", uno.port, "--json", "--calibration", "0"]
    command += ["--duration", "8", "--give-up", "20"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=90, cwd=tmp_path, env=environment
    )
    uno.stop()
    assert result.returncode == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    (device,) = [row for row in rows if row["type"] == "device"]
    assert (device["name"], device["firmware"]) == ("Arduino EDA+PPG", "edgeframe_eda_ppg 1")
    decisions = [row for row in rows if row["type"] == "decision"]
    assert any(row["label"] is not None for row in decisions)
    assert all(row["frames_lost"] == 0 for row in decisions)
