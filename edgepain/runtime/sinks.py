"""Where decisions go that a program reads: one JSON object a line."""

from __future__ import annotations

import time
from typing import Any, TextIO

import msgspec

from edgepain.errors import DataError
from edgepain.runtime.decision import Decision, utc
from edgepain.runtime.recording import Recorded, RecordingSummary
from edgepain.runtime.session import Summary
from edgepain.signal import DeviceInfo, LinkChange, Marker


class JsonLines:
    """Writes each event as one line and flushes it. `type` is device, link, decision, marker, signals or summary.

    Times: `start_s` and `end_s` are session time on the device's clock, `host_time` is UTC.
    All methods raise DataError where the file does not take a line, BrokenPipeError where its reader went away.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def header(self, **facts: Any) -> None:
        """A first line of `type` session: what decides, on what."""
        self._write({"type": "session", "host_time": utc(), **facts})

    def device(self, device: DeviceInfo) -> None:
        """Write a line of `type` device."""
        self._write({"type": "device", "host_time": utc(), **msgspec.to_builtins(device)})

    def link(self, change: LinkChange) -> None:
        """Write a line of `type` link."""
        host_time = utc(time.monotonic() - change.at_s)
        self._write({"type": "link", "host_time": host_time, "state": str(change.state), "detail": change.detail})

    def decision(self, decision: Decision) -> None:
        """Write a line of `type` decision."""
        self._write(decision)

    def marker(self, marker: Marker) -> None:
        """Write a line of `type` marker."""
        facts = {"label": marker.label, "value": marker.value, "source": marker.source}
        # Its own wall clock: the monotonic one of a replay is that of another day.
        self._write({"type": "marker", "host_time": utc(time.time() - marker.unix_s), **facts})

    def recorded(self, recorded: Recorded) -> None:
        """Write a line of `type` signals."""
        self._write(recorded)

    def summary(self, summary: Summary | RecordingSummary) -> None:
        """Write a line of `type` summary."""
        self._write(summary)

    def _write(self, value: object) -> None:
        try:
            self._file.write(msgspec.json.encode(value).decode() + "\n")
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise DataError(f"decisions cannot be written ({error.strerror}); free space or write elsewhere") from error
