"""Read what `edgepain run --json` wrote, and refuse it where something else decided than is judged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from edgepain.bundle import Bundle, Precision
from edgepain.errors import DataError
from edgepain.runtime import Abstention, Decision


@dataclass(frozen=True)
class LiveDecisions:
    """N windows of a session: start_s [N], probabilities [N, K] (0 where not judged), judged [N]."""

    starts_s: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]
    judged: npt.NDArray[np.bool_]


def read_live_decisions(path: Path, bundle: Bundle, precision: Precision) -> LiveDecisions:
    """The decisions in a file, up to the last one that rests on a sample.

    Raises DataError where the file was not written by one session of `edgepain run --json`, or not with this graph
    of this bundle and the bundle's calibration.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); write it with: edgepain run --json") from error
    _require_same_session(path, _session(path, lines), bundle, precision)
    labels = bundle.manifest.labels
    found = _decisions(path, lines, labels)
    while found and found[-1].abstain is Abstention.NO_DATA:
        found.pop()
    if not found:
        raise DataError(f"{path} holds no decision on any sample; write it with: edgepain run --json")
    named_all = [decision.probabilities or dict.fromkeys(labels, 0.0) for decision in found]
    return LiveDecisions(
        np.array([decision.start_s for decision in found]),
        np.array([[named[label] for label in labels] for named in named_all]),
        np.array([decision.probabilities is not None for decision in found]),
    )


class _Typed(msgspec.Struct):
    type: str


class _Session(msgspec.Struct, tag_field="type", tag="session"):
    model_sha256: str
    calibration_s: float


def _session(path: Path, lines: Sequence[bytes]) -> _Session:
    try:
        return msgspec.json.decode(lines[0] if lines else b"", type=_Session)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataError(
            f"{path} does not begin with the line of type session that edgepain run --json writes ({error}), so it is "
            "not known what decided; write all of it to a file"
        ) from error


def _require_same_session(path: Path, session: _Session, bundle: Bundle, precision: Precision) -> None:
    manifest = bundle.manifest
    graphs = {manifest.files[graph.file].sha256: graph.precision for graph in manifest.graphs}
    made_by = graphs.get(session.model_sha256)
    if made_by is None:
        raise DataError(f"{path} was made with another model than bundle {bundle}; name the bundle that decided")
    if made_by != precision:
        raise DataError(f"{path} was made by the {made_by} graph of this bundle; use --precision {made_by}")
    calibration_s = manifest.scaling.min_history_s
    if not math.isclose(session.calibration_s, calibration_s):
        raise DataError(
            f"{path} was calibrated for {session.calibration_s:g} s, the bundle says {calibration_s:g} s; "
            "run again without --calibration"
        )


def _decisions(path: Path, lines: Sequence[bytes], labels: Sequence[str]) -> list[Decision]:
    found: list[Decision] = []
    for number, line in enumerate(lines[1:], 2):
        try:
            kind = msgspec.json.decode(line, type=_Typed).type
            decision = msgspec.json.decode(line, type=Decision) if kind == "decision" else None
        except (msgspec.DecodeError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: not written by edgepain run --json ({error})") from error
        if kind == "session":
            raise DataError(f"{path}, line {number}: a second session begins; write one session to a file")
        if decision is None:
            continue
        named = decision.probabilities
        if named is not None and set(named) != set(labels):
            raise DataError(
                f"{path}, line {number}: decided {', '.join(named)}, not {', '.join(labels)}; other bundle?"
            )
        found.append(decision)
    return found
