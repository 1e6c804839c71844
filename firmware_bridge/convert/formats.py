"""The formats by name. Each has a module with `write(session, path)`, imported only when it is asked for."""

from __future__ import annotations

import contextlib
import importlib
import json
from pathlib import Path

from edgepain.errors import ConfigError, DataError
from edgepain.firmware_bridge.logged import LoggedSession, read_log

# name → (module, ending of the file). CSV has no place for what else is to be known: a JSON file beside it.
FORMATS = {
    "xdf": ("edgepain.firmware_bridge.convert.xdf", ".xdf"),
    "edf": ("edgepain.firmware_bridge.convert.edf", ".edf"),
    "bdf": ("edgepain.firmware_bridge.convert.bdf", ".bdf"),
    "parquet": ("edgepain.firmware_bridge.convert.parquet_file", ".parquet"),
    "csv": ("edgepain.firmware_bridge.convert.csv_file", ".csv"),
}


def output_path(log: Path, kind: str, out: Path | None) -> Path:
    """Where the file made of `log` goes: beside it, into the folder `out`, or to the file `out`."""
    name = log.with_suffix(FORMATS[kind][1]).name
    if out is None:
        return log.with_name(name)
    return out / name if out.is_dir() else out


def convert_log(log: Path, kind: str, out: Path) -> LoggedSession:
    """Write what is in `log` to the new file `out`; the log, decoded. `out` appears only when it is whole.

    Raises ConfigError where `out` exists, DataError where the log has no sample or the disk does not take it,
    MissingExtraError.
    """
    if out.exists():
        raise ConfigError(f"{out}: exists already and is not overwritten; choose another name with --out")
    module = importlib.import_module(FORMATS[kind][0])
    session = read_log(log)
    _ = session.begin_s
    part = out.with_name(f".{out.stem}.part{out.suffix}")
    try:
        module.write(session, part)
        if kind == "csv":
            out.with_suffix(".json").write_text(json.dumps(session.facts(), indent=1) + "\n", encoding="utf-8")
        part.replace(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror}); choose another folder with --out") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return session
