"""Markers from a person at the keyboard, or from a program that writes lines to standard input.

On a terminal every key is a marker of its own: digits are self-reported pain on the numeric rating scale (NRS), `x` is
10, and others are what `KEY=LABEL` says. Elsewhere every line is one: `heat on`, or `NRS 7` with a value.
"""

from __future__ import annotations

import atexit
import codecs
import contextlib
import math
import os
import re
import select
import termios
import threading
import time
import tty
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from edgepain.errors import ConfigError
from edgepain.signal import Marker, MarkerSource

PAIN = "NRS"
TEN_KEY = "x"
_PAIN_KEYS = {**{str(value): float(value) for value in range(10)}, TEN_KEY: 10.0}
MAX_LINE = 200
# What arrow and function keys send: an escape, then letters and digits that nobody pressed. Else the escape alone.
_ESCAPED = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O.|)")
_BEGUN = re.compile(r"\x1b(\[[0-?]{0,16}[ -/]{0,4}|O)\Z")


def key_labels(texts: Iterable[str]) -> dict[str, str]:
    """Keys and their labels from `KEY=LABEL` texts. Raises ConfigError for what is no such text, or a key twice."""
    labels: dict[str, str] = {}
    for text in texts:
        key, label = text[:1], text[2:].strip()
        if text[1:2] != "=" or not key.isprintable() or not label.isprintable() or not 0 < len(label) <= MAX_LINE:
            raise ConfigError(f"marker {text!r}: expected KEY=LABEL with one key, such as b=begin")
        if key in _PAIN_KEYS:
            raise ConfigError(f"marker {text!r}: 0 to 9 and {TEN_KEY} are self-reported pain; choose another key")
        if key in labels:
            raise ConfigError(f"marker {text!r}: key {key!r} is {labels[key]!r} already; choose another key")
        labels[key] = label
    return labels


def parse_line(line: str) -> tuple[str, float | None] | None:
    """Label and value of a line of text: a number at its end is a value. None where nothing is left of it."""
    text = "".join(letter if letter.isprintable() else " " for letter in line)[:MAX_LINE].strip()
    label, _, last = text.rpartition(" ")
    try:
        value = float(last)
    except ValueError:
        value = math.nan
    if label.strip() and math.isfinite(value):
        return label.strip(), value
    return (text, None) if text else None


class TypedMarkers:
    """Markers from a file descriptor, standard input mostly: keys of a terminal, lines of anything else.

    A thread waits for them, so that each is stamped when it was made, whatever else goes on. What ends the thread
    is told as a last marker, but for the end of a file. The terminal gets its mode back in `close`. In the background
    of a shell a terminal is left alone: reading it would stop the process.

    keys: label of each key, from `key_labels`.
    """

    def __init__(self, keys: Mapping[str, str], fd: int = 0) -> None:
        self._keys = keys
        self._fd = fd
        self._found: deque[Marker] = deque()
        self._mode: list[Any] | None = None
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._line = ""
        self._thread: threading.Thread | None = None
        # Thread is told to stop by this pipe.
        self._wake_read, self._wake_write = os.pipe()
        terminal = _is_terminal(fd)
        if terminal is False or (terminal and _in_foreground(fd)):
            if terminal:
                self._mode = termios.tcgetattr(fd)
                # Also where an interrupt comes before anybody can call `close`.
                atexit.register(self._give_back)
                _read_single_keys(fd)
            read = self._keys_of if terminal else self._lines_of
            self._thread = threading.Thread(target=self._run, args=(read,), name="markers", daemon=True)
            self._thread.start()

    @property
    def hint(self) -> str:
        """What a person at the terminal can press; empty where keys are not read."""
        if self._mode is None:
            return ""
        return ", ".join([f"0–9, {TEN_KEY} = 10: pain", *(f"{key}: {label}" for key, label in self._keys.items())])

    def poll(self) -> Sequence[Marker]:
        """Markers since the last call."""
        return [self._found.popleft() for _ in range(len(self._found))]

    def close(self) -> None:
        """Stop reading and give the terminal its mode back."""
        if self._wake_write < 0:
            return
        os.close(self._wake_write)
        self._wake_write = -1
        if self._thread is not None:
            self._thread.join()
        os.close(self._wake_read)
        self._give_back()
        atexit.unregister(self._give_back)

    def _give_back(self) -> None:
        if self._mode is not None:
            # The terminal may have gone away meanwhile; and one that is held by Ctrl-S must not hold this up.
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._fd, termios.TCSANOW, self._mode)

    def _run(self, read: Callable[[str], Iterable[tuple[str, float | None]]]) -> None:
        try:
            while True:
                ready, _, _ = select.select([self._fd, self._wake_read], [], [])
                if self._wake_read in ready:
                    return
                data = os.read(self._fd, 4096)
                at_s, unix_s = time.monotonic(), time.time()
                source = "key" if self._mode is not None else "stdin"
                for label, value in read(self._text.decode(data, final=not data)):
                    self._found.append(Marker(at_s, unix_s, label, value, source))
                if not data and self._mode is not None:
                    raise OSError("the terminal went away")
                if not data:
                    return
        # Whatever it was: without its thread nobody would see it.
        except Exception as error:
            told = f"no more markers can be read here: {error}"
            self._found.append(Marker(time.monotonic(), time.time(), told, None, "edgepain"))

    def _keys_of(self, text: str) -> Iterator[tuple[str, float | None]]:
        text, self._line = self._line + text, ""
        if begun := _BEGUN.search(text):
            text, self._line = text[: begun.start()], begun[0]
        for key in _ESCAPED.sub("", text):
            if key in _PAIN_KEYS:
                yield PAIN, _PAIN_KEYS[key]
            elif key in self._keys:
                yield self._keys[key], None

    def _lines_of(self, text: str) -> Iterator[tuple[str, float | None]]:
        *lines, self._line = (self._line + text).split("\n")
        if not text:
            lines, self._line = [self._line], ""
        self._line = self._line[: MAX_LINE + 1]
        for line in lines:
            if parsed := parse_line(line):
                yield parsed


def forward(sources: Sequence[MarkerSource], mark: Callable[[Marker], None]) -> None:
    """Hand on what every source of markers has."""
    for source in sources:
        for marker in source.poll():
            mark(marker)


def _is_terminal(fd: int) -> bool | None:
    """None where nothing is open there."""
    try:
        os.fstat(fd)
    except OSError:
        return None
    return os.isatty(fd)


def _in_foreground(fd: int) -> bool:
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        # No terminal that controls this process, so nothing stops it either.
        return True


def _read_single_keys(fd: int) -> None:
    """Keys at once and without echo, Ctrl-C as ever.

    Ctrl-Z, Ctrl-S and Ctrl-\\ do nothing: they would stop or kill the recording while the device goes on.
    """
    tty.setcbreak(fd, termios.TCSANOW)
    mode = termios.tcgetattr(fd)
    mode[0] &= ~termios.IXON
    mode[6][termios.VSUSP] = mode[6][termios.VQUIT] = b"\0"
    termios.tcsetattr(fd, termios.TCSANOW, mode)
