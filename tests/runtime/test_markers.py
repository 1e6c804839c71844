"""Markers from keys of a real terminal and from lines of a pipe."""

import os
import termios
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepain.errors import ConfigError
from edgepain.runtime import TypedMarkers, key_labels
from edgepain.runtime.markers import MAX_LINE, parse_line
from edgepain.signal import Marker


def polled(markers: TypedMarkers, enough: Callable[[list[Marker]], bool]) -> list[Marker]:
    """Everything up to when that is enough, or half a minute is over."""
    found: list[Marker] = []
    deadline_s = time.monotonic() + 30
    while not enough(found) and time.monotonic() < deadline_s:
        found += markers.poll()
        time.sleep(0.01)
    return found


def said(found: list[Marker]) -> list[tuple[str, float | None]]:
    return [(marker.label, marker.value) for marker in found]


def test_keys_are_markers_at_once_and_the_terminal_gets_its_mode_back(terminal):
    master, name = terminal
    fd = os.open(name, os.O_RDWR | os.O_NOCTTY)
    before = termios.tcgetattr(fd)
    before[3] |= termios.ICANON | termios.ECHO
    termios.tcsetattr(fd, termios.TCSANOW, before)
    before = termios.tcgetattr(fd)
    markers = TypedMarkers(key_labels(["h=heat on", "=={"]), fd)
    assert not termios.tcgetattr(fd)[3] & (termios.ICANON | termios.ECHO)
    assert not termios.tcgetattr(fd)[0] & termios.IXON
    os.write(master, "7x?h=ä0".encode())
    begun_s = time.monotonic()
    found = polled(markers, lambda found: len(found) == 5)
    assert said(found) == [("NRS", 7.0), ("NRS", 10.0), ("heat on", None), ("{", None), ("NRS", 0.0)]
    assert {marker.source for marker in found} == {"key"}
    assert begun_s - 1 < found[0].at_s <= time.monotonic()
    assert markers.hint == "0–9, x = 10: pain, h: heat on, =: {"
    # Neither the arrow up nor F5, which send letters and digits.
    os.write(master, b"\x1b[A")
    time.sleep(0.05)
    os.write(master, b"\x1b[15~")
    time.sleep(0.05)
    os.write(master, b"3")
    assert said(polled(markers, bool)) == [("NRS", 3.0)]
    # In one read with what was pressed, cut in two, and keys that would stop or kill the process.
    os.write(master, b"1\x1b[A2\x1bOP\x1bh\x1b[1")
    time.sleep(0.05)
    os.write(master, b"5~\x13\x1c\x1a4")
    found = polled(markers, lambda found: len(found) == 4)
    assert said(found) == [("NRS", 1.0), ("NRS", 2.0), ("heat on", None), ("NRS", 4.0)]
    markers.close()
    markers.close()
    assert termios.tcgetattr(fd) == before
    assert not [thread for thread in threading.enumerate() if thread.name == "markers"]
    os.close(fd)


def test_a_terminal_that_goes_away_is_told_as_a_marker():
    master, slave = os.openpty()
    markers = TypedMarkers({}, slave)
    os.close(master)
    (last,) = polled(markers, bool)
    assert (last.source, last.label.partition(":")[0]) == ("edgepain", "no more markers can be read here")
    markers.close()
    os.close(slave)


def test_lines_of_a_pipe_are_markers_with_values():
    read, write = os.pipe()
    markers = TypedMarkers({}, read)
    for part in (b"NRS 7\nheat", b" on\n\n", b"  temperature\t48.5 \r\n", b"7\n", b"nan\nlast"):
        os.write(write, part)
    os.close(write)
    found = polled(markers, lambda found: len(found) == 6)
    assert said(found) == [
        ("NRS", 7.0),
        ("heat on", None),
        ("temperature", 48.5),
        ("7", None),
        ("nan", None),
        ("last", None),
    ]
    assert {marker.source for marker in found} == {"stdin"}
    assert markers.hint == ""
    markers.close()
    os.close(read)


@pytest.mark.parametrize("closed", [True, False])
def test_nothing_to_read_is_no_trouble(closed):
    fd = os.open("/dev/null", os.O_RDONLY)
    if closed:
        os.close(fd)
    markers = TypedMarkers({}, fd)
    time.sleep(0.1)
    assert not markers.poll()
    markers.close()
    if not closed:
        os.close(fd)


@given(st.text())
def test_a_line_never_gives_control_characters_nor_endless_labels(line):
    parsed = parse_line(line)
    if parsed is not None:
        label, value = parsed
        assert label
        assert label == label.strip()
        assert label.isprintable()
        assert len(label) <= MAX_LINE
        assert value is None or abs(value) < float("inf")


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (["b"], "expected KEY=LABEL"),
        (["begin=b"], "expected KEY=LABEL"),
        (["b="], "expected KEY=LABEL"),
        (["\x1b=escape"], "expected KEY=LABEL"),
        (["7=heat"], "0 to 9 and x are self-reported pain"),
        (["x=heat"], "0 to 9 and x are self-reported pain"),
        (["b=begin", "b=break"], "key 'b' is 'begin' already"),
    ],
)
def test_labels_that_no_key_can_have(texts, complaint):
    with pytest.raises(ConfigError, match=complaint):
        key_labels(texts)
