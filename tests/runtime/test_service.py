"""`edgepain run` as a service: what it tells the manager that started it, over a real socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgepain.bundle import Bundle


class Manager:
    """The manager's end of the socket, and a session that it started."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.settimeout(60)
        self.heard: list[str] = []

    def start(self, bundle: Path, *arguments: object, watchdog_us: str = "400000", pid: str = "") -> None:
        command = [sys.executable, "-m", "edgepain", "run", "--json", "--model", str(bundle), *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NOTIFY_SOCKET": self.address, "WATCHDOG_PID": pid}
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, "WATCHDOG_USEC": watchdog_us},
        )

    def until(self, enough: Callable[[str], bool]) -> str:
        while True:
            self.heard.append(self.socket.recv(4096).decode())
            if enough(self.heard[-1]):
                return self.heard[-1]

    def rest(self) -> list[str]:
        """What was said up to the end of the process."""
        _, errors = self.process.communicate(timeout=60)
        assert "Traceback" not in errors
        self.socket.settimeout(0)
        said = []
        while True:
            try:
                said.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                self.heard += said
                return said


@pytest.fixture
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = (
        f"@edgepain-test-{os.getpid()}" if getattr(request, "param", "file") == "abstract" else str(tmp_path / "notify")
    )
    manager = Manager(name)
    try:
        yield manager
    finally:
        if hasattr(manager, "process"):
            manager.process.kill()
            manager.process.wait()
            manager.process.stderr.close()
        manager.socket.close()


@pytest.mark.parametrize("manager", ["file", "abstract"], indirect=True)
def test_it_is_ready_alive_and_stopping(exported: Bundle, manager: Manager, simulate, e4_session: Path):
    with simulate(e4_session, "--speed", 5) as device:
        manager.start(exported.root, "--port", device.port)
        manager.until(lambda said: said.endswith("is connected"))
        for _ in range(3):
            manager.until("WATCHDOG=1".__eq__)
        manager.process.send_signal(signal.SIGTERM)
        manager.rest()
    assert manager.process.returncode == 0
    assert manager.heard.index("READY=1") < manager.heard.index("WATCHDOG=1")
    assert manager.heard.count("READY=1") == 1
    assert any(said.startswith("STATUS=connected: ") for said in manager.heard)
    assert manager.heard[-1] == "STOPPING=1"


def test_a_sensor_that_is_gone_is_no_reason_to_kill_it(exported: Bundle, manager: Manager, simulate, e4_session: Path):
    with simulate(e4_session, "--speed", 5, "--unplug", "5:1000") as device:
        manager.start(exported.root, "--port", device.port)
        manager.until(lambda said: said.startswith("STATUS=lost: "))
        for _ in range(4):
            manager.until("WATCHDOG=1".__eq__)
        manager.process.send_signal(signal.SIGTERM)
        assert manager.rest()[-1] == "STOPPING=1"


def test_a_session_that_hangs_is_not_alive(exported: Bundle, manager: Manager, simulate, e4_session: Path):
    """Stopped, as one that waits for ever in a driver: nothing more is said, so the manager kills it."""
    with simulate(e4_session, "--speed", 5) as device:
        manager.start(exported.root, "--port", device.port)
        manager.until("WATCHDOG=1".__eq__)
        manager.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, manager.process.pid, os.WSTOPPED)
        manager.socket.settimeout(0)
        with pytest.raises(BlockingIOError):
            manager.until(lambda said: False)
        manager.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            manager.socket.recv(4096)


def test_without_a_watchdog_it_is_only_ready(exported: Bundle, manager: Manager, simulate, e4_session: Path):
    for watchdog_us, pid in (("", ""), ("400000", "1"), ("soon", "")):
        with simulate(e4_session, "--speed", 5) as device:
            manager.heard.clear()
            manager.socket.settimeout(60)
            manager.start(exported.root, "--port", device.port, "--duration", 2, watchdog_us=watchdog_us, pid=pid)
            manager.rest()
        assert manager.heard.count("READY=1") == 1
        assert "WATCHDOG=1" not in manager.heard


def test_what_is_refused_was_never_ready(bundle_copy: Bundle, manager: Manager):
    (bundle_copy.root / "golden.npz").write_bytes(b"")
    manager.start(bundle_copy.root, "--port", "/dev/nothing")
    assert manager.rest() == []
    assert manager.process.returncode == 4


def test_a_manager_that_went_away_does_not_end_it(exported: Bundle, manager: Manager, simulate, e4_session: Path):
    manager.socket.close()
    with simulate(e4_session, "--speed", 5) as device:
        manager.start(exported.root, "--port", device.port, "--duration", 2)
        _, errors = manager.process.communicate(timeout=60)
    assert (manager.process.returncode, errors) == (0, "")
