"""Boards that BrainFlow reads, as a line."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from edgepain.errors import ConfigError, MissingExtraError, PortError
from edgepain.firmware_bridge.channels import ChannelOptions, choose_channels
from edgepain.firmware_bridge.driver import DeviceKind
from edgepain.firmware_bridge.line import READ_SLICE_S, LineGoneError
from edgepain.firmware_bridge.messages import Channel, Chunk, Described, Stream, pack
from edgepain.firmware_bridge.streams_driver import StreamsDriver

_POLL_S = 0.01
_CHUNK_SAMPLES = 2**12
SYNTHETIC = "synthetic"
# Kind of channel to what BrainFlow's description of a board calls it, and its unit where BrainFlow has one.
_KINDS = {"eda": ("eda_channels", ""), "ppg": ("ppg_channels", ""), "ecg": ("ecg_channels", "uV")}


class BrainflowOptions(ChannelOptions, frozen=True):
    """board: its name or number in BrainFlow, such as GANGLION_BOARD or 1; of the synthetic one where none is given."""

    board: str = ""


class BrainflowLine:
    """A streaming board; see `Line`. What it gives is packed as `messages`."""

    def __init__(self, board: Any, described: Described, rows: list[int], time_row: int) -> None:
        self._board = board
        self._rows, self._time_row = rows, time_row
        self._pending = pack(described)

    def read(self, wait: bool) -> bytes:
        """The description first, then what the board measured since the read before."""
        out, self._pending = self._pending, b""
        deadline_s = time.monotonic() + READ_SLICE_S
        while True:
            out += self._chunk()
            if out or not wait or time.monotonic() >= deadline_s:
                return out
            time.sleep(_POLL_S)

    def write(self, data: bytes) -> None:
        """Nothing: BrainFlow speaks to the board."""

    def close(self) -> None:
        """Let the board rest and release it."""
        board, self._board = self._board, None
        if board is not None:
            _release(board)

    def _chunk(self) -> bytes:
        from brainflow.exit_codes import BrainFlowError

        try:
            data = self._board.get_board_data(_CHUNK_SAMPLES)
        except BrainFlowError as error:
            raise LineGoneError(str(error)) from error
        if not data.shape[1]:
            return b""
        values = np.ascontiguousarray(data[self._rows].T, "<f8")
        return pack(Chunk(0, data[self._time_row].astype("<f8").tobytes(), values.tobytes(), "<f8"))


def open_brainflow(port: str, baud: int, options: BrainflowOptions) -> BrainflowLine:
    """Start the board on a serial port, or the synthetic one.

    Raises MissingExtraError, PortError where it does not answer, ConfigError where it is unknown or a Shimmer.
    """
    try:
        from brainflow.board_shim import BoardIds, BoardShim, BrainFlowInputParams
        from brainflow.exit_codes import BrainFlowError
    except ModuleNotFoundError as error:
        raise MissingExtraError("brainflow", "brainflow") from error
    board_id = _board_id(port, options.board, BoardIds)
    described, rows, time_row = _describe(BoardShim.get_board_descr(board_id))
    choose_channels(described.streams, options)
    BoardShim.disable_board_logger()
    params = BrainFlowInputParams()
    params.serial_port = "" if port == SYNTHETIC else port
    board = BoardShim(board_id, params)
    try:
        board.prepare_session()
        board.start_stream()
    except BrainFlowError as error:
        _release(board)
        raise PortError(f"{port}: BrainFlow cannot start {described.device} ({error}); check port and board") from error
    return BrainflowLine(board, described, rows, time_row)


def _board_id(port: str, named: str, ids: Any) -> int:
    if port == SYNTHETIC and not named:
        return int(ids.SYNTHETIC_BOARD)
    try:
        board = ids(int(named)) if named.lstrip("-").isdigit() else ids[named.upper()]
    except (KeyError, ValueError):
        known = ", ".join(sorted(each.name for each in ids))
        raise ConfigError(f"board={named!r} is none that BrainFlow knows; it knows {known}") from None
    if "SHIMMER" in board.name:
        raise ConfigError(
            "a Shimmer is not read by BrainFlow: its GSR is 8 % off there and the device's time is dropped; use "
            "--device shimmer3"
        )
    return int(board)


def _describe(board: dict[str, Any]) -> tuple[Described, list[int], int]:
    """What will come, the rows of BrainFlow's table that make it, and the row of time stamps."""
    rows, channels = [], []
    for kind, (key, unit) in _KINDS.items():
        for number, row in enumerate(board.get(key, []), 1):
            rows.append(int(row))
            channels.append(Channel(f"{kind}{number}", kind, unit))
    name = str(board["name"])
    stream = Stream(name, "", float(board["sampling_rate"]), tuple(channels))
    described = Described(f"{name} (BrainFlow)", f"{name} {time.time():.3f}", "BrainFlow", (stream,))
    return described, rows, int(board["timestamp_channel"])


def _release(board: Any) -> None:
    from brainflow.exit_codes import BrainFlowError

    for step in (board.stop_stream, board.release_session):
        try:
            step()
        except BrainFlowError:
            # What never started, or is gone already, needs no stop.
            continue


KIND = DeviceKind(
    name="brainflow",
    summary="boards that BrainFlow reads and this package does not; never a Shimmer (use shimmer3)",
    signals="eda (give eda_factor: BrainFlow states no unit), ecg in mV, bvp in the board's own unit",
    rates="of the board",
    wiring="--port /dev/ttyUSB0 with board=NAME, or --port synthetic for noise to try with; needs edgepain[brainflow]",
    baud=None,
    options=BrainflowOptions,
    open=StreamsDriver,
    line=open_brainflow,
)
