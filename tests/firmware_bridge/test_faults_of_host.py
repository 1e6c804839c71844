"""What the computer does to a session: ports numbered anew, two readers, permission, and sleep."""

import os
import subprocess
import sys
import time
import tty
from collections.abc import Callable, Iterator

import pytest

from edgepain.errors import PortError
from edgepain.firmware_bridge import DeviceSource, ReplaySource, read_recording
from edgepain.firmware_bridge.edgeframe import Frame, FrameType, encode
from edgepain.firmware_bridge.hello import Hello, StreamHello, encode_hello
from edgepain.firmware_bridge.holders import holders
from edgepain.firmware_bridge.serial_ports import stable_name
from edgepain.signal import LinkChange, LinkState, Marker, Samples, StreamEvent


class Terminal:
    """A pseudo-terminal whose device side the test holds."""

    def __init__(self) -> None:
        self.master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)

    def unplug(self) -> None:
        if self.master >= 0:
            os.close(self.master)
            os.close(self._slave)
            self.master = -1


@pytest.fixture
def terminals() -> Iterator[Callable[[], Terminal]]:
    made: list[Terminal] = []

    def make() -> Terminal:
        made.append(Terminal())
        return made[-1]

    yield make
    for terminal in made:
        terminal.unplug()


def hello(uptime_us: int = 0, boot_id: int = 1) -> bytes:
    told = Hello("band", "1", boot_id, uptime_us, (StreamHello("eda", "uS", 4.0),))
    return encode(Frame(FrameType.HELLO, 255, 0, uptime_us & 0xFFFFFFFF, encode_hello(told)))


def data(seq: int) -> bytes:
    """A sample a quarter of a second."""
    return encode(Frame(FrameType.DATA, 0, seq, seq * 250_000, bytes(2), 0, 1))


def until(source: DeviceSource, enough: Callable[[list[StreamEvent]], bool]) -> list[StreamEvent]:
    events: list[StreamEvent] = []
    end_s = time.monotonic() + 20
    while not enough(events) and time.monotonic() < end_s:
        events += source.recv(0.2)
    return events


def states(events: list[StreamEvent]) -> list[LinkState]:
    return [event.state for event in events if isinstance(event, LinkChange)]


def samples(events: list[StreamEvent]) -> list[Samples]:
    return [event for event in events if isinstance(event, Samples)]


@pytest.mark.parametrize("by_stable_name", [True, False])
def test_a_device_that_comes_back_under_another_number_is_found_by_its_stable_name(terminals, tmp_path, by_stable_name):
    """What was ttyACM0 comes back as ttyACM1: its link in the folder of names that stay leads there."""
    first, second = terminals(), terminals()
    link = tmp_path / "by-id" / "usb-Maker_Band_1234-if00"
    link.parent.mkdir()
    link.symlink_to(first.port)
    with DeviceSource(str(link) if by_stable_name else first.port, by_id=link.parent) as source:
        os.write(first.master, hello() + data(0))
        assert len(samples(until(source, lambda events: bool(samples(events))))) == 1
        link.unlink()
        first.unplug()
        until(source, lambda events: LinkState.LOST in states(events))
        link.symlink_to(second.port)
        back = until(source, lambda events: LinkState.CONNECTED in states(events))
        os.write(second.master, hello(2_000_000) + data(8))
        again = samples(until(source, lambda events: bool(samples(events))))
    (change,) = (event for event in back if isinstance(event, LinkChange) and event.state is LinkState.CONNECTED)
    assert "is back" in change.detail
    if not by_stable_name:
        assert f"as {second.port}" in change.detail
    assert again[0].times_s[0] == 2.0, "the same device, whose clock ran on"
    assert (source.stats().reconnects, source.stats().restarts) == (1, 0)


def test_a_port_without_a_stable_name_keeps_its_own(tmp_path):
    assert stable_name("/dev/ttyACM7", tmp_path / "none") == "/dev/ttyACM7"


def test_a_device_that_restarts_during_an_unplug_is_a_new_segment(terminals, tmp_path):
    first, second = terminals(), terminals()
    link = tmp_path / "band"
    link.symlink_to(first.port)
    with DeviceSource(str(link)) as source:
        os.write(first.master, hello() + data(0))
        until(source, lambda events: bool(samples(events)))
        link.unlink()
        link.symlink_to(second.port)
        first.unplug()
        until(source, lambda events: LinkState.CONNECTED in states(events))
        os.write(second.master, hello(boot_id=2) + data(0))
        again = until(source, lambda events: bool(samples(events)))
    assert source.stats().restarts == 1
    assert samples(again)[0].times_s[0] >= 1.0, "the session's clock goes on"


READER = "import sys, time; file = open(sys.argv[1], 'rb', 0); print('open', flush=True); time.sleep(60)"


@pytest.fixture
def other_reader() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(port: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", READER, port], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def test_a_second_reader_is_named(terminals, other_reader):
    terminal = terminals()
    assert holders(terminal.port) == []
    other = other_reader(terminal.port)
    assert [holder.pid for holder in holders(terminal.port)] == [other.pid]
    with DeviceSource(terminal.port, stall_s=0.2) as source:
        events = until(source, lambda events: LinkState.STALLED in states(events))
    for change in events:
        assert isinstance(change, LinkChange)
        assert f"(pid {other.pid}) too, which takes part of the bytes" in change.detail


SESSION = (
    "import sys, time; from edgepain.firmware_bridge import DeviceSource; "
    "source = DeviceSource(sys.argv[1]); print('open', flush=True); time.sleep(60)"
)


def test_a_busy_port_names_who_has_it(terminals):
    terminal = terminals()
    with subprocess.Popen([sys.executable, "-c", SESSION, terminal.port], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            with pytest.raises(PortError, match=rf"busy; .* \(pid {other.pid}\) has it open, close that first"):
                DeviceSource(terminal.port)
        finally:
            other.kill()


def test_holders_are_read_from_proc(tmp_path):
    """In a made-up /proc: processes that end meanwhile, whose files are not to be seen, and the near end of a pty."""
    target = os.path.realpath("/dev/null")
    for pid, comm, links in (
        ("41", "ModemManager\n", ["/dev/urandom", target]),
        ("42", "simulator\n", [target, "/dev/ptmx"]),
        ("43", "shell\n", ["/dev/zero"]),
    ):
        (tmp_path / pid / "fd").mkdir(parents=True)
        (tmp_path / pid / "comm").write_text(comm)
        for number, link in enumerate(links):
            (tmp_path / pid / "fd" / str(number)).symlink_to(link)
    (tmp_path / "44").mkdir()
    (tmp_path / "self").mkdir()
    assert [str(holder) for holder in holders("/dev/null", tmp_path)] == ["ModemManager (pid 41)"]
    assert holders("/dev/null", tmp_path / "nothing") == []


class Clocks:
    """A monotonic clock, and one that goes on in sleep."""

    def __init__(self) -> None:
        self.slept_s = 0.0

    def __call__(self) -> tuple[float, float]:
        now_s = time.monotonic()
        return now_s, now_s + self.slept_s


def test_a_computer_that_slept_says_so_and_reads_on(terminals, tmp_path):
    terminal, clocks, log = terminals(), Clocks(), tmp_path / "sleep.wire"
    with DeviceSource(terminal.port, record_to=log, clocks=clocks) as source:
        os.write(terminal.master, hello() + data(0))
        before = until(source, lambda events: bool(samples(events)))
        clocks.slept_s += 42.0
        slept = until(source, lambda events: LinkState.SUSPENDED in states(events))
        os.write(terminal.master, hello(50_000_000) + data(200))
        after = until(source, lambda events: bool(samples(events)))
    assert LinkState.SUSPENDED not in states(before)
    (change,) = (event for event in slept if isinstance(event, LinkChange))
    assert "the computer slept for 42.0 s" in change.detail
    assert samples(after)[0].times_s[0] == 50.0
    (noted,) = (entry for entry in read_recording(log) if isinstance(entry, Marker))
    assert (noted.label, noted.value, noted.source) == ("the computer slept", 42.0, "host")
    assert source.stats().reconnects == 0
    replay = ReplaySource(log)
    played = [event for _ in range(20) for event in replay.recv(0.0)]
    assert states(played) == [LinkState.CONNECTED, LinkState.SUSPENDED, LinkState.ENDED]
    assert [event.times_s[0] for event in samples(played)] == [0.0, 50.0]
    assert not any(isinstance(event, Marker) for event in played), "it is told as what happened to the link"


def test_a_clock_that_is_read_late_is_no_sleep(terminals):
    terminal, clocks = terminals(), Clocks()
    with DeviceSource(terminal.port, clocks=clocks) as source:
        clocks.slept_s += 0.1
        events = list(source.recv(0.1)) + list(source.recv(0.1))
    assert LinkState.SUSPENDED not in states(events)
