"""A serial port as a `Line`, and its opening, with an error that says what to do about it."""

from __future__ import annotations

import contextlib
import errno
import termios

import serial
from serial.tools import list_ports

from edgepain.errors import PortError
from edgepain.firmware_bridge.holders import holders
from edgepain.firmware_bridge.line import READ_SLICE_S, LineDeafError, LineGoneError
from edgepain.firmware_bridge.serial_ports import stable_names

WRITE_TIMEOUT_S = 0.2
# What a port that was unplugged raises, by call: reads and writes, in_waiting, flushes.
_GONE = (serial.SerialException, OSError, termios.error)


class SerialLine:
    """An open serial port; see `Line`."""

    def __init__(self, port: serial.Serial) -> None:
        self._port = port

    def read(self, wait: bool) -> bytes:
        """All that has come; with `wait` and nothing there, waits a moment for some. Raises LineGoneError."""
        try:
            waiting = self._port.in_waiting
            data = b""
            if wait and not waiting:
                data = bytes(self._port.read(1))
                waiting = self._port.in_waiting if data else 0
            return data + bytes(self._port.read(waiting))
        except _GONE as error:
            raise LineGoneError(str(error)) from error

    def write(self, data: bytes) -> None:
        """Send. Raises LineGoneError, LineDeafError."""
        try:
            self._port.write(data)
        except serial.SerialTimeoutException as error:
            raise LineDeafError(str(error)) from error
        except _GONE as error:
            raise LineGoneError(str(error)) from error

    def set_baud(self, baud: int) -> None:
        """Go on at another speed; what came at the old one is thrown away. Raises LineGoneError."""
        try:
            self._port.baudrate = baud
            self._port.reset_input_buffer()
        except _GONE as error:
            raise LineGoneError(str(error)) from error

    def close(self) -> None:
        """Close the port. Closing what is gone already is no error: there is nothing left to release."""
        with contextlib.suppress(*_GONE):
            self._port.close()


def open_port(port: str, baud: int) -> SerialLine:
    """Open a device path or a pyserial URL (`loop://`, `socket://host:port`), for this process alone.

    Raises PortError: it does not exist (and which ones do), is busy, is not permitted, or the URL is wrong.
    """
    try:
        opened = serial.serial_for_url(
            port, baudrate=baud, timeout=READ_SLICE_S, write_timeout=WRITE_TIMEOUT_S, do_not_open=True
        )
        # Advisory: it keeps a second edgepain off the port, not every other program.
        opened.exclusive = True
        opened.open()
    except (OSError, ValueError) as error:
        raise PortError(_explain(port, error)) from error
    # FTDI chips hold bytes back for 16 ms otherwise; other ports do not know the setting and need none.
    with contextlib.suppress(AttributeError, NotImplementedError, OSError, ValueError):
        opened.set_low_latency_mode(True)
    return SerialLine(opened)


def port_names() -> list[str]:
    """Serial ports of this machine; names under /dev/serial/by-id, which survive a replug, come first."""
    return sorted(stable_names().values()) + sorted(port.device for port in list_ports.comports())


def _explain(port: str, error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code == errno.ENOENT:
        names = port_names()
        there = "there are: " + ", ".join(names) if names else "no serial port is there: is the device plugged in?"
        return f"{port}: no such port; {there}"
    if code in (errno.EBUSY, errno.EAGAIN):
        named = ", ".join(map(str, holders(port))) or "another program"
        return f"{port}: busy; {named} has it open, close that first"
    if code in (errno.EACCES, errno.EPERM):
        return (
            f"{port}: permission denied; join the group of the port: sudo usermod -aG dialout $USER, then log in again"
        )
    if isinstance(error, ValueError):
        return (
            f"{port}: not a port this machine can open ({error}); name a device such as /dev/ttyACM0 or a pyserial URL"
        )
    return f"{port}: cannot be opened as a serial port ({error}); check the name and the cable"
