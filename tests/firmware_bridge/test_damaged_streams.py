"""Damaged streams of every device in its less usual settings: nothing raises, samples are samples, time goes on."""

import numpy as np
import pytest

from edgepain.benchmarks.fuzz_checks import Inspector
from edgepain.benchmarks.mutations import cuts, mutate
from edgepain.firmware_bridge import device_kind
from edgepain.firmware_bridge.bitalino import pack
from edgepain.firmware_bridge.shimmer import GSR, encode_packets

RANDOM = np.random.default_rng(0)
COUNT = 6000
BANNER = b"BITalino_v5.2\n"
EXG = (0x1D, 0x1E, 0x1F)


def bitalino(ports: int) -> bytes:
    return pack(RANDOM.integers(0, 1024, (COUNT, ports)).astype(np.uint16))


def inquired(divider: int, ids: tuple[int, ...]) -> bytes:
    said = b"\xff\x2f\x03\x00\x00\x00\x10\x09" + b"\xff\x65\x03\x2f\x04\x00" + b"\xff\x62\x0a" + bytes(10)
    said = said if ids == EXG else said[:8]
    return said + b"\xff\x02" + divider.to_bytes(2, "little") + bytes(4) + bytes([len(ids), 1, *ids])


def shimmer(divider: int, ids: tuple[int, ...], crc: bool = True, time_bytes: int = 3) -> bytes:
    raw = RANDOM.integers(0, 128, (COUNT, len(ids)))
    ticks = np.arange(COUNT) * divider % (1 << 8 * time_bytes)
    return encode_packets(ticks, raw, crc=crc, channels=ids, time_bytes=time_bytes).tobytes()


def lines(pattern: bytes) -> bytes:
    rows = (pattern % (k * 20 % 2**32, RANDOM.integers(0, 1023)) for k in range(COUNT))
    return b"\n" + b"\r\n".join([*rows, b""])


CASES = {
    "BITalino, one port at 1 Hz": ("bitalino", {"rate_hz": "1", "ecg": "none"}, BANNER, bitalino(1)),
    "BITalino, two ports at 100 Hz": ("bitalino", {"rate_hz": "100", "eda_sensor": "2013"}, BANNER, bitalino(2)),
    "Shimmer without CRC": (
        "shimmer3",
        {"crc": "false", "ppg": "none", "unit": "gsr"},
        inquired(256, (GSR,)),
        shimmer(256, (GSR,), crc=False),
    ),
    "Shimmer with a short time": (
        "shimmer3",
        {"time_bits": "16", "ppg": "none", "unit": "gsr", "rate_hz": "10"},
        inquired(3277, (GSR,)),
        shimmer(3277, (GSR,), time_bytes=2),
    ),
    "Shimmer ECG": ("shimmer3", {}, inquired(64, EXG), shimmer(64, EXG)),
    "EmotiBit": ("lines", {"sketch": "emotibit"}, b"\n", lines(b"%d,1,1,EA,1,100,%d")),
    "columns whose rate is measured": ("lines", {"columns": "time_ms,bvp"}, b"\n", lines(b"%d,%d")),
    "PulseSensor": ("lines", {"sketch": "pulsesensor_plotter"}, b"\n", lines(b"72,%d,%d")),
}


@pytest.mark.parametrize("case", CASES)
def test_damage_raises_nothing_and_time_goes_on(case: str) -> None:
    device, options, greeting, sent = CASES[case]
    driver, inspector, random = device_kind(device).driver(options), Inspector(), np.random.default_rng(3)
    seen = 0
    stream, now_s = np.frombuffer(sent, np.uint8), 1000.0
    for begin in [k % stream.size for k in range(0, 300_000, 5000)]:
        if begin < 5000:
            driver.cut()
            inspector.inspect(driver.feed(greeting, now_s))
        damaged = mutate(stream[begin : begin + 5000], stream, random).tobytes()
        for start, end in cuts(len(damaged), random):
            now_s += (end - start) / 5000 + (random.exponential(2.0) if random.random() < 0.1 else 0.0)
            events = driver.feed(damaged[start:end], now_s)
            inspector.inspect(events)
            seen += len(events)
            driver.request(now_s)
            driver.complaint()
            driver.clock.host_s(now_s)
    stats = driver.stats(0)
    assert stats.frames > 1000
    assert stats.frames_lost >= 0
    assert seen > 50
