"""What a coverage-guided fuzzer runs: `python -m edgepain.benchmarks.fuzz_harness DEVICE [options of libFuzzer]`.

Its input is what happens to a driver: bytes, frames of any content with a right check value (a fuzzer cannot guess a
CRC), pauses, cut lines. Ends when the fuzzer ends.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from zlib import crc32

import atheris

with atheris.instrument_imports(include=["edgepain.firmware_bridge"]):
    import edgepain.firmware_bridge.bitalino_driver
    import edgepain.firmware_bridge.edgeframe_driver
    import edgepain.firmware_bridge.lines_driver
    import edgepain.firmware_bridge.lsl_line
    import edgepain.firmware_bridge.shimmer_driver  # noqa: F401
    from edgepain.firmware_bridge import Driver, device_kind

import numpy as np
from cobs import cobs

from edgepain.benchmarks.fuzz_checks import Inspector
from edgepain.benchmarks.fuzz_targets import Target, fuzz_target
from edgepain.firmware_bridge.bitalino import pack
from edgepain.firmware_bridge.edgeframe import HEADER, MAX_PAYLOAD, Frame, FrameType, encode
from edgepain.firmware_bridge.hello import decode_hello
from edgepain.firmware_bridge.shimmer import encode_packets

LONGEST = 2000


def sound_frames(device: str, content: bytes, first: int) -> bytes:
    """Frames with a right check value that hold `content`, and number or time by `first`."""
    if device == "edgeframe":
        return _edgeframe(content)
    if device == "lines":
        return content + b"\n"
    if device == "lsl":
        return bytes(cobs.encode(content + crc32(content).to_bytes(4, "little"))) + b"\0"
    raw = np.frombuffer(content[: len(content) // 6 * 6], "<u2").astype(np.uint16)
    if device == "bitalino":
        return pack(raw.reshape(-1, 3) % np.uint16(1024), first)
    raw = raw[: raw.size // 2 * 2].reshape(-1, 2)
    return encode_packets(((first + np.arange(len(raw))) * 256) & 0xFFFFFF, raw).tobytes()


def _edgeframe(content: bytes) -> bytes:
    header = content[: HEADER.size].ljust(HEADER.size, b"\0")
    kind, stream, seq, t_us, flags, count = HEADER.unpack(header)
    payload = content[HEADER.size : HEADER.size + MAX_PAYLOAD]
    type_ = FrameType(kind % len(FrameType))
    hello = decode_hello(payload) if type_ is FrameType.HELLO else None
    return encode(Frame(type_, stream % 4, seq, hello.uptime_us if hello else t_us, payload, flags, count))


def one_input(target: Target) -> Callable[[bytes], None]:
    """The function that the fuzzer calls."""

    def run(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        driver: Driver = device_kind(target.device).driver(target.options)
        inspector, now_s = Inspector(), 1000.0
        if provider.ConsumeBool():
            inspector.inspect(driver.feed(target.greeting, now_s))
        while provider.remaining_bytes():
            step = provider.ConsumeIntInRange(0, 15)
            if step == 0:
                driver.cut()
                inspector.inspect(driver.feed(target.greeting, now_s))
                continue
            now_s += provider.ConsumeFloatInRange(0.0, 4.0) if step == 1 else 0.01
            piece = provider.ConsumeBytes(provider.ConsumeIntInRange(1, LONGEST))
            if step < 6:
                piece = sound_frames(target.device, piece, provider.ConsumeIntInRange(0, 2**16))
            driver.request(now_s)
            inspector.inspect(driver.feed(piece, now_s))
            driver.complaint()
            driver.clock.host_s(now_s)
            driver.stats(0)

    return run


def main() -> None:
    """Fuzz the device that the first argument names; the others are libFuzzer's."""
    target = fuzz_target(sys.argv[1])
    atheris.Setup([sys.argv[0], *sys.argv[2:]], one_input(target))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
