"""What a live session decides is what the same windows of the file get offline.

The network has random weights (and clear answers): it is the way to it that is held against the way of training.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from edgepain.benchmarks.evaluate import Comparison, compare_live
from edgepain.bundle import Bundle
from edgepain.engine import open_engine
from edgepain.train.datasets.base import Dataset, open_dataset


@pytest.fixture
def compare(exported: Bundle, simulate, live, tmp_path: Path):
    """Play the first `seconds` of a subject into `edgepain run` and compare."""

    def played(dataset: Dataset, folder: Path, seconds: float, speed: float, *options: object) -> Comparison:
        with simulate(folder, "--speed", speed, "--duration", seconds) as device, live(device.port, *options) as run:
            # The play is over: windows after its end are given up, and do not count.
            run.until(lambda line: line.get("abstain") == "no_data")
            assert run.end(signal.SIGINT) == 0
        report = run.summary
        assert (report["frames_lost"], report["crc_errors"], report["malformed"]) == (0, 0, 0)
        file = tmp_path / "decisions.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in run.lines))
        precision = options[options.index("--precision") + 1] if "--precision" in options else None
        return compare_live(exported, open_engine(exported, precision), dataset, folder.name, file, any_labels=True)

    return played


@pytest.mark.parametrize("options", [(), ("--precision", "fp32", "--hop", 0.3)])
def test_a_simulated_session(compare, labelled: Path, options: tuple[object, ...]) -> None:
    comparison = compare(open_dataset("e4", labelled), labelled / "raw" / "S99", 58, 12, *options)
    assert comparison.equal, comparison
    assert comparison.max_probability_difference < 1e-6
    assert comparison.compared > (120 if options else 35)
    assert comparison.windows - comparison.compared <= (40 if options else 12), "those of the calibration"
    assert comparison.live is not None


@pytest.mark.parametrize("subject", ["S11", "S24"])
def test_a_real_person(compare, shared_data: Path, subject: str) -> None:
    root = shared_data / "stress_predict"
    dataset = open_dataset("e4", root, positive=("stroop",), negative=("relax1", "relax2"))
    comparison = compare(dataset, root / "raw" / subject, 180, 40)
    assert comparison.equal, comparison
    assert comparison.max_probability_difference < 1e-6
    assert comparison.compared > 150
