"""What a device says of itself is believed only where it can be true."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepain.firmware_bridge.hello import Hello, StreamHello, decode_hello, encode_hello
from edgepain.signal import Modality, StreamInfo

EDA = StreamHello("eda", "uS", 4.0, "i2", 0.001, 0.0)


def content(**changes: object) -> dict[str, object]:
    stream = ["eda", "uS", 4.0, "i2", 0.001, 0.0]
    return {"device": "d", "firmware": "1", "boot_id": 1, "uptime_us": 0, "streams": [stream], **changes}


def test_round_trip():
    hello = Hello("band", "2.1", 2**32 - 1, 10**12, (EDA, StreamHello("bvp", "a.u.", 64.0, "f4")))
    assert decode_hello(encode_hello(hello)) == hello


def test_six_streams_fit_one_frame():
    streams = tuple(StreamHello("ecg", "mV", 1000.0, "i2", 0.00123, 1.5) for _ in range(6))
    assert len(encode_hello(Hello("wearable", "1.0", 2**32 - 1, 2**40, streams))) <= 240


def test_a_description_too_long_is_refused():
    with pytest.raises(ValueError, match="may take 240"):
        encode_hello(Hello("x" * 32, "y" * 32, 1, 0, (EDA,) * 12))


def test_signals_nobody_knows_are_kept_out_of_the_introduction():
    hello = decode_hello(cbor2.dumps(content(streams=[["glucose", "mmol/l", 1, "i2"], ["eda", "uS", 4]])))
    assert hello is not None
    assert hello.info.streams == (StreamInfo(Modality.EDA, "uS", 4.0),)


@pytest.mark.parametrize(
    "changes",
    [
        {"streams": []},
        {"streams": 3},
        *({"streams": [["eda", "uS", r]]} for r in (0, -1, float("nan"), float("inf"), 1e9, "4", True, None)),
        *({"streams": [["eda", "uS", 4, t]]} for t in ("i4", "", 2)),
        *({"streams": [["eda", "uS", 4, "i2", s]]} for s in (0, float("nan"), float("-inf"), 1e30)),
        {"streams": [["eda", "uS", 4, "i2", 1, float("nan")]]},
        {"streams": [["eda", "uS", 4], ["eda", "uS", 4]]},
        {"streams": [["eda", "uS", 4]] * 17},
        {"streams": [["eda"]]},
        {"boot_id": -1},
        {"boot_id": 2**32},
        {"uptime_us": -1},
        {"uptime_us": 2**70},
        {"device": "x" * 33},
        {"device": b"band"},
    ],
)
def test_absurd_descriptions_are_refused(changes):
    assert decode_hello(cbor2.dumps(content())) is not None
    assert decode_hello(cbor2.dumps(content(**changes))) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x81" * 240,
        bytes.fromhex("c5821b7fffffffffffffff03"),
        bytes.fromhex("9b00ffffffffffffff"),
        bytes.fromhex("d81c81d81d00"),
        bytes.fromhex("d823632a2a2a"),
        cbor2.dumps(content())[:-1],
        cbor2.dumps([content()]),
    ],
    ids=["empty", "deep", "huge exponent", "huge array", "cycle", "pattern", "cut", "wrapped"],
)
def test_hostile_cbor_is_refused(payload):
    assert decode_hello(payload) is None


@given(st.binary(max_size=240))
def test_no_bytes_make_it_raise(payload):
    decode_hello(payload)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_no_changed_byte_makes_it_raise(at, byte):
    payload = bytearray(cbor2.dumps(content()))
    payload[at % len(payload)] = byte
    hello = decode_hello(bytes(payload))
    assert hello is None or all(0 < s.rate_hz <= 1e5 for s in hello.streams)
