"""DeviceSource at the port: what cannot be opened, what is no wearable, what was closed."""

import os
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import pytest

from edgepain.errors import ConfigError, PortError
from edgepain.firmware_bridge import DeviceSource, ReplaySource
from edgepain.firmware_bridge.edgeframe import Frame, FrameDecoder, FrameType, encode
from edgepain.firmware_bridge.edgeframe_driver import KIND
from edgepain.firmware_bridge.hello import Hello, StreamHello, encode_hello
from edgepain.firmware_bridge.line import LineDeafError, LineGoneError
from edgepain.signal import LinkChange, LinkState, Marker


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
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.unplug()


def changes(source: DeviceSource, timeout_s: float = 30.0) -> list[LinkChange]:
    """The next changes of the link."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if found := [event for event in source.recv(0.5) if isinstance(event, LinkChange)]:
            return found
    return []


def test_a_port_that_does_not_exist_is_said_with_those_that_do():
    with pytest.raises(PortError, match=r"/dev/nothing: no such port; (there are: /dev|no serial port is there)"):
        DeviceSource("/dev/nothing")


def test_a_busy_port_is_said(terminal):
    with DeviceSource(terminal.port), pytest.raises(PortError, match="busy; another program has it open"):
        DeviceSource(terminal.port)


def test_permission_denied_names_the_group(terminal):
    os.chmod(terminal.port, 0)
    if os.geteuid() != 0:
        with pytest.raises(PortError, match="dialout"):
            DeviceSource(terminal.port)
        return
    code = (
        "import os, sys; from edgepain.firmware_bridge import DeviceSource; os.setuid(65534); DeviceSource(sys.argv[1])"
    )
    run = subprocess.run([sys.executable, "-c", code, terminal.port], capture_output=True, text=True, check=False)
    assert "PortError" in run.stderr
    assert "permission denied" in run.stderr
    assert "dialout" in run.stderr


@pytest.mark.parametrize("port", ["nonsense://x", __file__])
def test_what_is_no_port_is_said(port):
    with pytest.raises(PortError, match=r"not a port this machine can open|cannot be opened as a serial port"):
        DeviceSource(port)


def test_garbage_on_the_line_is_made_visible(terminal):
    with DeviceSource(terminal.port, stall_s=0.3) as source:
        assert changes(source)[0].state is LinkState.CONNECTED
        os.write(terminal.master, b"BPM=71, IBI=843\r\n\x00\xff" * 60)
        (stalled,) = changes(source)
        assert stalled.state is LinkState.STALLED
        assert "bytes arrive but no valid frame: wrong baud rate or not an edgeframe device?" in stalled.detail
        stats = source.stats()
        assert (stats.frames, stats.malformed, stats.bytes_read) == (0, 60, 60 * 19)


def test_a_device_that_never_says_hello_is_made_visible(terminal):
    with DeviceSource(terminal.port, stall_s=0.3) as source:
        changes(source)
        os.write(terminal.master, encode(Frame(FrameType.DATA, 0, 0, 0, bytes(4), 0, 1)))
        (stalled,) = changes(source)
        assert "does not introduce itself" in stalled.detail
        asked = FrameDecoder().feed(os.read(terminal.master, 1000))
        assert {frame.type for frame in asked} == {FrameType.COMMAND}


def test_a_silent_line_stalls_once(terminal):
    with DeviceSource(terminal.port, stall_s=0.2) as source:
        changes(source)
        (stalled,) = changes(source)
        assert stalled.detail.startswith("no data for")
        assert changes(source, 0.5) == []


def test_a_port_that_stays_away_closes_the_source(terminal, tmp_path):
    link = tmp_path / "wearable"
    link.symlink_to(terminal.port)
    with DeviceSource(str(link), reconnect_s=0.3) as source:
        changes(source)
        link.unlink()
        terminal.unplug()
        seen = changes(source)
        while seen[-1].state is not LinkState.CLOSED:
            seen += changes(source)
        assert [change.state for change in seen] == [LinkState.LOST, LinkState.CLOSED]
        assert "gave up" in seen[-1].detail
        assert source.recv(10.0) == []


def test_the_number_of_a_pseudo_terminal_is_not_opened_again(terminal):
    with DeviceSource(terminal.port, reconnect_s=0.5) as source:
        changes(source)
        terminal.unplug()
        seen = changes(source)
        while seen[-1].state is not LinkState.CLOSED:
            seen += changes(source)
    assert [change.state for change in seen] == [LinkState.LOST, LinkState.CLOSED]
    assert "name a link to it instead" in seen[-1].detail


def test_half_a_frame_before_an_unplug_does_not_spoil_the_first_one_after_it(terminal, tmp_path):
    link = tmp_path / "wearable"
    link.symlink_to(terminal.port)
    hello = Hello("band", "1", 1, 0, (StreamHello("eda", "uS", 4.0),))
    wire = encode(Frame(FrameType.HELLO, 255, 0, 0, encode_hello(hello)))
    again = Terminal()
    try:
        with DeviceSource(str(link)) as source:
            os.write(terminal.master, wire[:20])
            while source.stats().bytes_read < 20:
                source.recv(0.1)
            link.unlink()
            link.symlink_to(again.port)
            terminal.unplug()
            while source.stats().reconnects < 1:
                source.recv(0.1)
            os.write(again.master, wire)
            while source.stats().bytes_read < 20 + len(wire):
                source.recv(0.1)
            stats = source.stats()
    finally:
        again.unplug()
    assert (stats.frames, stats.malformed, stats.crc_errors) == (1, 0, 0)


def test_closing_twice_gives_one_last_change(terminal, tmp_path):
    source = DeviceSource(terminal.port, record_to=tmp_path / "wire.log")
    source.close()
    source.close()
    assert [change.state for change in changes(source)] == [LinkState.CONNECTED, LinkState.CLOSED]
    assert source.recv(10.0) == []


def test_a_recording_is_not_overwritten_and_the_port_is_free_again(terminal, tmp_path):
    log = tmp_path / "wire.log"
    log.write_bytes(b"precious")
    with pytest.raises(ConfigError, match="exists already"):
        DeviceSource(terminal.port, record_to=log)
    DeviceSource(terminal.port).close()


def test_a_pyserial_url_will_do():
    with DeviceSource("loop://", stall_s=0.2) as source:
        assert changes(source)[0].state is LinkState.CONNECTED
        assert changes(source)[0].state is LinkState.STALLED
        assert source.stats().frames > 0, "it hears its own question"


def test_a_marker_comes_out_at_once_and_again_in_a_replay(terminal, tmp_path):
    log = tmp_path / "wire.log"
    marker = Marker(time.monotonic(), time.time(), "NRS", 7.0, "key")
    with DeviceSource(terminal.port, record_to=log) as source:
        source.mark(marker)
        assert marker in source.recv(5.0)
    replay = ReplaySource(log)
    played = [event for _ in range(10) for event in replay.recv(0.0)]
    assert [event for event in played if isinstance(event, Marker)] == [marker]


def test_a_device_of_its_own_transport_is_read_like_a_serial_one(tmp_path, monkeypatch):
    """What another package's line gives is fed to its driver; when it goes away it is opened again."""

    class Belt:
        opened: ClassVar[list[tuple[str, int]]] = []

        def __init__(self, port: str, baud: int, options: object) -> None:
            self.opened.append((port, baud))
            self.left = [wire[:30], wire[30:]]

        def read(self, wait: bool) -> bytes:
            if not self.left:
                raise LineGoneError
            return self.left.pop(0)

        def write(self, data: bytes) -> None:
            raise LineDeafError

        def close(self) -> None:
            pass

    wire = encode(
        Frame(FrameType.HELLO, 255, 0, 0, encode_hello(Hello("b", "1", 1, 0, (StreamHello("eda", "uS", 4.0),))))
    )
    belt = replace(KIND, baud=None, line=Belt)
    monkeypatch.setattr("edgepain.firmware_bridge.device_source.device_kind", lambda name: belt)
    with pytest.raises(ConfigError, match="no serial port"):
        DeviceSource("belt", baud=9600)
    with DeviceSource("belt") as source:
        states = [change.state for change in [*changes(source), *changes(source), *changes(source)]]
        assert source.stats().frames >= 1
    assert states == [LinkState.CONNECTED, LinkState.LOST, LinkState.CONNECTED]
    assert Belt.opened[:2] == [("belt", 0), ("belt", 0)]
