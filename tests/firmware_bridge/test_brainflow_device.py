"""BrainFlow's synthetic board: plumbing only, its signals are noise."""

from __future__ import annotations

import numpy as np
import pytest

from edgepain.errors import ConfigError, MissingExtraError, PortError
from edgepain.firmware_bridge import DeviceSource, device_kind
from edgepain.signal import Modality, Samples

NOISE = {"eda_factor": "1", "ecg": "none", "bvp": "ppg2"}


@pytest.fixture
def brainflow():
    return pytest.importorskip("brainflow", reason="BrainFlow is not installed: pip install 'edgepain[brainflow]'")


def test_without_the_package_it_says_how_to_install_it():
    try:
        import brainflow  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(MissingExtraError, match="pip install 'edgepain\\[brainflow\\]'"):
            DeviceSource("synthetic", device="brainflow", options=NOISE)
    else:
        pytest.skip("BrainFlow is installed")


def test_the_synthetic_board_comes_through(brainflow):
    found: list[Samples] = []
    with DeviceSource("synthetic", device="brainflow", options=NOISE) as source:
        while sum(part.values.size for part in found if part.modality is Modality.EDA) < 1000:
            found += [event for event in source.recv(0.5) if isinstance(event, Samples)]
        stats = source.stats()
    for modality in (Modality.EDA, Modality.BVP):
        times_s = np.concatenate([part.times_s for part in found if part.modality is modality])
        assert (np.diff(times_s) > 0).all()
        assert times_s[-1] / times_s.size == pytest.approx(1 / 250, rel=0.1)
    assert (stats.crc_errors, stats.malformed) == (0, 0)


@pytest.mark.parametrize(
    ("port", "options", "error", "complaint"),
    [
        ("synthetic", {}, ConfigError, "channel 'eda1' (eda) is in no stated unit; give eda_factor"),
        ("synthetic", {"eda_factor": "1"}, ConfigError, "channels may be ecg"),
        ("/dev/ttyUSB0", {"board": "SHIMMER3_BOARD"}, ConfigError, "8 % off there and the device's time is dropped"),
        ("/dev/ttyUSB0", {"board": "68"}, ConfigError, "use --device shimmer3"),
        ("/dev/ttyUSB0", {}, ConfigError, "board='' is none that BrainFlow knows"),
        ("/dev/nothing", {"board": "GANGLION_BOARD", "ecg": "1"}, PortError, "BrainFlow cannot start Ganglion"),
    ],
)
def test_what_cannot_be_read(brainflow, port, options, error, complaint):
    with pytest.raises(error) as caught:
        DeviceSource(port, device="brainflow", options=options)
    assert complaint in str(caught.value)


def test_it_is_described_without_the_package():
    assert "never a Shimmer" in device_kind("brainflow").summary
