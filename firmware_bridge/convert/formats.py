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

    Raises ConfigError where `out` (or the JSON file beside a CSV) exists or its folder does not, DataError where the
    log has no sample or the disk does not take it, MissingExtraError.
    """
    beside = out.with_suffix(".json") if kind == "csv" else None
    if beside == out:
        raise ConfigError(f"{out}: is the name of the JSON file beside a CSV; choose another name with --out")
    for path in filter(None, (out, beside)):
        if path.exists():
            raise ConfigError(f"{path}: exists already and is not overwritten; choose another name with --out")
    if not out.parent.is_dir():
        raise ConfigError(f"{out}: {out.parent} is no folder; make it, or choose another with --out")
    module = importlib.import_module(FORMATS[kind][0])
    session = read_log(log)
    _ = session.begin_s
    part = _part(out)
    try:
        module.write(session, part)
        if beside is not None:
            _part(beside).write_text(json.dumps(session.facts(), indent=1) + "\n", encoding="utf-8")
            _part(beside).replace(beside)
        part.replace(out)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{out}: cannot be written ({reason}); choose another folder with --out") from error
    finally:
        for path in filter(None, (out, beside)):
            with contextlib.suppress(OSError):
                _part(path).unlink(missing_ok=True)
    return session


def _part(path: Path) -> Path:
    """Where a file is written until it is whole."""
    return path.with_name(f".{path.stem}.part{path.suffix}")
