"""Settings that a search chose for stages of one fold: `chosen.json` in the fold's folder."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgepain.errors import CheckpointError
from edgepain.train.config import StageConfig
from edgepain.train.files import make_folder, write_text_atomically

CHOSEN = "chosen.json"


def read_chosen(folder: Path) -> dict[str, StageConfig]:
    """Settings by stage, empty where nothing was searched. Raises CheckpointError where the file is damaged."""
    path = folder / CHOSEN
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, StageConfig])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}); delete it and search again: finished trials count"
        ) from error


def write_chosen(folder: Path, chosen: dict[str, StageConfig]) -> None:
    """Write what `read_chosen` reads, whole or not at all."""
    text = msgspec.json.format(msgspec.json.encode(chosen), indent=2).decode()
    make_folder(folder)
    write_text_atomically(folder / CHOSEN, text + "\n")
