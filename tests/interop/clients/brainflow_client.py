"""BrainFlow's Shimmer3 board against the port given: streams 3 s, prints what came as JSON."""

import json
import sys
import time

from brainflow.board_shim import BoardIds, BoardShim, BrainFlowInputParams

parameters = BrainFlowInputParams()
parameters.serial_port = sys.argv[1]
board = BoardShim(BoardIds.SHIMMER3_BOARD, parameters)
board.prepare_session()
board.start_stream()
time.sleep(3.0)
board.stop_stream()
data = board.get_board_data()
description = BoardShim.get_board_descr(BoardIds.SHIMMER3_BOARD)
board.release_session()
rows = {name: data[row].tolist() for name in ("eda_channels", "ppg_channels") for row in description.get(name, [])[:1]}
sys.stdout.write(json.dumps({"samples": data.shape[1], "rate_hz": description["sampling_rate"], "rows": rows}) + "\n")
