"""Which channel is which, in which unit, and what is refused."""

from __future__ import annotations

import pytest

from edgepain.errors import ConfigError
from edgepain.firmware_bridge.channels import ChannelOptions, choose_channels
from edgepain.firmware_bridge.messages import Channel, Stream


def chosen(streams: list[Stream], **options: object) -> list[tuple[int, int, str, float]]:
    return [
        (c.stream, c.column, str(c.modality), c.factor)
        for c in choose_channels(streams, ChannelOptions(**options))  # type: ignore[arg-type]
    ]


def stream(*channels: Channel, name: str = "x", kind: str = "", rate_hz: float = 100.0) -> Stream:
    return Stream(name, kind, rate_hz, channels)


OPENSIGNALS = stream(
    Channel("nSeq"),
    Channel("CH1", "EDA", "uS"),
    Channel("CH2", "ECG", "mV"),
    Channel("CH3", "BVP", "n.a."),
    name="OpenSignals",
    kind="00:07:80:8C:AD:C9",
)
EMOTIBIT = [
    stream(Channel(), name="EDA", kind="EDA", rate_hz=15),
    stream(Channel(), name="PPG_GRN", kind="PPGGreen", rate_hz=25),
]


def test_by_what_channels_say():
    assert chosen([OPENSIGNALS]) == [(0, 1, "eda", 1.0), (0, 2, "ecg", 1.0), (0, 3, "bvp", 1.0)]
    assert chosen([stream(Channel("EDA0", "", "µS"), Channel("ECG2", "", "microvolts"))]) == [
        (0, 0, "eda", 1.0),
        (0, 1, "ecg", 1e-3),
    ]


def test_streams_of_one_channel_are_told_by_their_names():
    assert chosen(EMOTIBIT, eda_factor=1.0) == [(0, 0, "eda", 1.0), (1, 0, "bvp", 1.0)]


def test_what_a_channel_says_counts_more_than_its_stream():
    channels = (Channel("nSeq"), Channel("BVP"))
    assert chosen([stream(*channels, kind="BVP")]) == [(0, 1, "bvp", 1.0)]
    assert chosen([stream(Channel("ECG", "", "mV"), Channel("x"), name="EDA and ECG")], eda_factor=1.0) == [
        (0, 1, "eda", 1.0),
        (0, 0, "ecg", 1.0),
    ]


def test_by_label_and_by_number_across_streams():
    assert chosen(EMOTIBIT, eda="none", bvp="2") == [(1, 0, "bvp", 1.0)]
    assert chosen(EMOTIBIT, eda="PPG_GRN", eda_factor=2.0, bvp="none") == [(1, 0, "eda", 2.0)]


@pytest.mark.parametrize(
    ("modality", "unit", "factor"),
    [
        ("EDA", "uS", 1.0),
        ("EDA", "μS", 1.0),
        ("EDA", "Micro Siemens", 1.0),
        ("EDA", "S", 1e6),
        ("EDA", "siemens", 1e6),
        ("EDA", "nS", 1e-3),
        ("ECG", "mV", 1.0),
        ("ECG", "volts", 1e3),
        ("ECG", "µV", 1e-3),
        ("BVP", "whatever", 1.0),
    ],
)
def test_units(modality: str, unit: str, factor: float):
    ((_, _, name, found),) = chosen([stream(Channel(modality, "", unit))])
    assert (name, found) == (modality.lower(), factor)


@pytest.mark.parametrize(
    ("streams", "options", "complaint"),
    [
        ([stream(Channel("Fz"))], {}, "no channel is named eda, ecg or bvp; there are: 1 'Fz'"),
        ([stream(Channel("EDA", "", "kOhm"))], {}, "in 'kOhm'; give eda_factor, how many uS one is"),
        ([stream(Channel("ECG"))], {}, "in no stated unit; give ecg_factor"),
        ([stream(Channel("BVP"), rate_hz=0)], {}, "stream 'x' (bvp) is sampled at no regular rate"),
        ([stream(Channel("BVP"), rate_hz=float("nan"))], {}, "claims nan Hz"),
        ([stream(Channel("PPG1"), Channel("PPG2"))], {}, "2 channels may be bvp: 1 'PPG1', 2 'PPG2'; say bvp=NUMBER"),
        ([stream(Channel("BVP"))], {"bvp": "BPV"}, "bvp=BPV: no channel is called so; there are: 1 'BVP'"),
        ([stream(Channel("a"), Channel("a"))], {"bvp": "a"}, "bvp=a: 2 channels are called so"),
        ([stream(Channel("EDA", "", "uS"))], {"eda_factor": float("inf")}, "eda_factor=inf is no number"),
        ([], {}, "no channel is named"),
    ],
)
def test_what_is_not_clear_is_refused(streams: list[Stream], options: dict[str, object], complaint: str):
    with pytest.raises(ConfigError) as caught:
        chosen(streams, **options)
    assert complaint in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_a_sender_writes_cannot_break_the_line():
    with pytest.raises(ConfigError) as caught:
        chosen([stream(Channel("x\n\x1b[31m"))])
    assert str(caught.value).isprintable()
