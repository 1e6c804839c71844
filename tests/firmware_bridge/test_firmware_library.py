"""edgeframe.c under sanitizers, against the decoder in Python: what one says the other understands."""

import shutil
import struct
import subprocess
from collections import deque
from pathlib import Path
from zlib import crc32

import cbor2
import numpy as np
import pytest
from cobs import cobs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepain.firmware_bridge.conformance.status_check import Status, parse_status
from edgepain.firmware_bridge.edgeframe import Flags, Frame, FrameDecoder, FrameType, encode
from edgepain.firmware_bridge.hello import parse_hello

SOURCES = Path(__file__).resolve().parents[2] / "firmware_bridge" / "firmware" / "src"
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wconversion", "-Wsign-conversion", "-Wshadow"]
SANITIZED = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
COMPILERS = [name for name in ("gcc", "clang", "cc") if shutil.which(name)]
MIN_QUEUE = 260
HOUR_US = 3_600_000_000

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler: install gcc or clang")
# One process serves all examples of a test: `begin` starts a new device.
many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Firmware:
    """The library in a process of its own."""

    def __init__(self, program: Path) -> None:
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, *words: object) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")

    def begin(self, size=4096, boot_id=7, now_us=0, name="board", streams=2) -> bool:
        return self("begin", size, boot_id, now_us, name, streams) == "1"

    def take(self, room=65535) -> bytes:
        return bytes.fromhex(self("take", room))

    def frames(self) -> list[Frame]:
        """Everything that is queued, and nothing else."""
        decoder = FrameDecoder()
        frames = decoder.feed(self.take())
        assert (decoder.counters.crc_errors, decoder.counters.malformed) == (0, 0)
        return frames

    def receive(self, now_us: int, data: bytes) -> None:
        for begin in range(0, len(data), 1000):
            self("receive", now_us, data[begin : begin + 1000].hex())

    @property
    def drops(self) -> int:
        return int(self("counts").split()[0])

    @property
    def errors(self) -> int:
        return int(self("counts").split()[1])


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    built = tmp_path_factory.mktemp("firmware") / "harness"
    harness = Path(__file__).parent / "firmware" / "host_harness.c"
    command = [COMPILERS[0], *SANITIZED, f"-I{SOURCES}", harness, SOURCES / "edgeframe.c", "-o", built]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "sanitize" in result.stderr or "asan" in result.stderr:
        pytest.skip("the C compiler has no sanitizers: install libasan and libubsan")
    assert result.returncode == 0, result.stderr
    return built


@pytest.fixture
def firmware(program):
    library = Firmware(program)
    yield library
    library.process.stdin.close()
    assert library.process.wait(30) == 0, "a sanitizer stopped it"
    library.process.stdout.close()


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("level", ["-Os", "-O3"])
def test_it_compiles_without_a_warning(compiler, level, tmp_path):
    command = [compiler, *STRICT, level, "-c", SOURCES / "edgeframe.c", "-o", tmp_path / "edgeframe.o"]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stderr == ""


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler: install g++")
def test_its_header_serves_cpp_as_well(tmp_path):
    (tmp_path / "user.cpp").write_text('#include "edgeframe.h"\nint main() { return ef_begin(0, 0, 0, 0, 0, 0); }\n')
    command = ["g++", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{SOURCES}", tmp_path / "user.cpp"]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stderr == ""


def test_hello_comes_first_and_says_what_was_given(firmware):
    assert firmware.begin(boot_id=2**32 - 1, now_us=1234)
    wire = firmware.take()
    assert wire[0] == 0, "ends what the line held when the board restarted"
    (frame,) = FrameDecoder().feed(wire)
    hello = parse_hello(frame.payload)
    assert (frame.type, frame.stream, frame.t_us) == (FrameType.HELLO, 255, 1234)
    assert (hello.device, hello.firmware, hello.boot_id, hello.uptime_us) == ("board", "test 1", 2**32 - 1, 1234)
    eda, bvp = hello.streams
    assert (eda.name, eda.unit, eda.rate_hz, eda.sample_type) == ("eda", "uS", 12.5, "i2")
    assert eda.scale == pytest.approx(0.002)
    assert (bvp.name, bvp.unit, bvp.rate_hz, bvp.sample_type, bvp.scale) == ("bvp", "a.u.", 100.0, "f4", 1.0)


@pytest.mark.parametrize(
    "wrong",
    [{"size": MIN_QUEUE - 1}, {"size": 0}, {"name": "x" * 33}, {"name": "x" * 250}, {"streams": 0}, {"streams": 9},
     {"streams": 8, "name": "x" * 32}],
)  # fmt: skip
def test_what_cannot_work_is_refused_at_the_start(firmware, wrong):
    assert not firmware.begin(**wrong)


def test_hello_may_fill_its_frame_to_the_last_byte(firmware):
    lengths = []
    for length in range(1, 33):
        if firmware.begin(size=MIN_QUEUE, name="x" * length, streams=7):
            lengths.append(len(firmware.frames()[0].payload))
    assert lengths[-1] == 240
    assert len(lengths) < 32


def test_hello_and_status_come_in_their_rows(firmware):
    firmware.begin()
    firmware.frames()
    seen = []
    for now_us in range(0, 10_000_001, 10_000):
        firmware("poll", now_us)
        seen += [(frame.type, frame.t_us) for frame in firmware.frames()]
    assert [at for kind, at in seen if kind is FrameType.HELLO] == [2_000_000 * k for k in range(1, 6)]
    assert [at for kind, at in seen if kind is FrameType.STATUS] == [1_000_000 * k for k in range(1, 11)]


def test_a_board_that_slept_catches_up_once(firmware):
    firmware.begin()
    firmware.frames()
    firmware("poll", 60_000_000)
    assert [frame.type for frame in firmware.frames()] == [FrameType.HELLO, FrameType.STATUS]
    firmware("poll", 60_500_000)
    assert firmware.frames() == []


def test_the_clock_goes_on_through_its_wraps(firmware):
    firmware.begin()
    for now_us in range(0, 3 * HOUR_US, 60_000_000):
        firmware("poll", now_us & 0xFFFFFFFF)
        frames = firmware.frames()
        for hello in (parse_hello(frame.payload) for frame in frames if frame.type is FrameType.HELLO):
            assert hello.uptime_us == now_us
        for frame in frames:
            if frame.type is FrameType.STATUS:
                assert parse_status(frame.payload).uptime_s == now_us // 1_000_000
    firmware.receive(now_us & 0xFFFFFFFF, encode(Frame(FrameType.TIME, 255, 0, 0, b"12345678")))
    (reply,) = firmware.frames()
    assert struct.unpack("<8sQ", reply.payload) == (b"12345678", now_us)


I2 = st.lists(st.integers(-32768, 32767), min_size=1, max_size=120)
F4 = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=60)


@many
@given(st.lists(st.tuples(st.booleans(), I2, F4, st.integers(0, 2**32 - 1), st.integers(0, 255)), max_size=8))
def test_what_it_encodes_the_decoder_understands(firmware, sent):
    firmware.begin(size=60_000)
    firmware.frames()
    for is_i2, i2, f4, at_us, flags in sent:
        words = ("i2", 0, at_us, flags, *i2) if is_i2 else ("f4", 1, at_us, flags, *f4)
        assert firmware(*words) == "1"
    seqs = [0, 0]
    frames = firmware.frames()
    assert len(frames) == len(sent)
    for frame, (is_i2, i2, f4, at_us, flags) in zip(frames, sent, strict=True):
        stream, payload = (0, np.array(i2, "<i2")) if is_i2 else (1, np.array(f4, "<u4"))
        assert frame == Frame(
            FrameType.DATA, stream, seqs[stream], at_us, payload.tobytes(), flags & ~Flags.OVERRUN & 15, payload.size
        )
        # Byte for byte what the reference makes of it.
        seqs[stream] += 1


@many
@given(I2, st.integers(0, 2**32 - 1))
def test_its_bytes_are_those_of_the_reference(firmware, samples, at_us):
    firmware.begin()
    firmware.take()
    firmware("i2", 0, at_us, 0, *samples)
    payload = np.array(samples, "<i2").tobytes()
    assert firmware.take() == encode(Frame(FrameType.DATA, 0, 0, at_us, payload, 0, len(samples)))


@pytest.mark.parametrize(
    "words",
    [("i2", 2, 0, 0, 1), ("i2", 1, 0, 0, 1), ("f4", 0, 0, 0, 1), ("i2", 0, 0, 0), ("i2", 0, 0, 0, *[1] * 121),
     ("f4", 1, 0, 0, *[1] * 61), ("i2", 255, 0, 0, 1)],
)  # fmt: skip
def test_a_wrong_call_changes_nothing(firmware, words):
    firmware.begin()
    firmware.frames()
    assert firmware(*words) == "0"
    assert firmware.drops == 0
    firmware("i2", 0, 0, 0, 5)
    assert [(frame.seq, frame.flags) for frame in firmware.frames()] == [(0, 0)]


# What happens to a device: samples to send (stream, count), bytes that leave over the line, time that passes.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("data"), st.integers(0, 1), st.integers(1, 60)),
        st.tuples(st.just("take"), st.integers(0, 400), st.just(0)),
        st.tuples(st.just("poll"), st.integers(0, 3_000_000), st.just(0)),
    ),
    max_size=60,
)


@many
@given(st.integers(MIN_QUEUE, 1200), STEPS)
def test_a_full_queue_drops_whole_frames_and_says_so(firmware, size, steps):
    """Whatever the order: sound frames only, every seq used up, the flag on the next frame, drops in STATUS."""
    assert firmware.begin(size=size)
    wire, now_us, calls = b"", 0, [deque(), deque()]
    dropped = 0
    for what, a, b in steps:
        if what == "data":
            calls[a].append(firmware("i2" if a == 0 else "f4", a, now_us, 0, *range(b)) == "1")
            dropped += not calls[a][-1]
        elif what == "take":
            wire += firmware.take(a)
        else:
            now_us += a
            firmware("poll", now_us)
    assert firmware.drops == dropped
    wire += firmware.take()
    # An hour later there is room for STATUS, and it tells.
    firmware("poll", (now_us + HOUR_US // 2) & 0xFFFFFFFF)
    wire += firmware.take()
    decoder = FrameDecoder()
    frames = decoder.feed(wire)
    assert (decoder.counters.crc_errors, decoder.counters.malformed) == (0, 0)
    assert frames[0].type is FrameType.HELLO
    for stream in (0, 1):
        came = {frame.seq: frame for frame in frames if frame.type is FrameType.DATA and frame.stream == stream}
        fates = list(calls[stream])
        assert list(came) == [seq for seq, sent in enumerate(fates) if sent]
        for seq, frame in came.items():
            assert bool(frame.flags & Flags.OVERRUN) == (seq > 0 and not fates[seq - 1])
    own = [frame.seq for frame in frames if frame.stream == 255]
    assert own == list(range(len(own)))
    assert cbor2.loads(frames[-1].payload)["drops"] == dropped


def test_battery_is_left_out_until_it_is_known(firmware):
    firmware.begin()
    firmware("poll", 1_000_000)
    assert parse_status(firmware.frames()[-1].payload) == Status(1.0, 0, 0, None)
    firmware("battery", 0.5)
    firmware("poll", 2_000_000)
    assert parse_status(firmware.frames()[-1].payload) == Status(2.0, 0, 0, 0.5)


def test_commands_are_acknowledged_with_their_id(firmware):
    firmware.begin()
    firmware.frames()
    firmware.receive(100, encode(Frame(FrameType.COMMAND, 255, 0xABCD, 0, b"\1")))
    ack, hello = firmware.frames()
    assert (ack.type, ack.seq, ack.payload) == (FrameType.ACK, 0xABCD, b"\0")
    assert (hello.type, parse_hello(hello.payload).uptime_us) == (FrameType.HELLO, 100)
    for payload in (b"\xee", b"", b"\1\1"):
        firmware.receive(200, encode(Frame(FrameType.COMMAND, 255, 9, 0, payload)))
        (ack,) = firmware.frames()
        assert (ack.type, ack.seq, ack.payload) == (FrameType.ACK, 9, b"\1")


HOST_FRAMES = st.builds(
    Frame,
    type=st.sampled_from(FrameType),
    stream=st.just(255),
    seq=st.integers(0, 0xFFFF),
    t_us=st.integers(0, 0xFFFFFFFF),
    payload=st.binary(max_size=240),
)


@many
@given(st.lists(st.one_of(st.binary(max_size=80), HOST_FRAMES.map(encode)), max_size=20), st.data())
def test_garbage_from_the_host_is_counted_and_hurts_nothing(firmware, parts, data):
    firmware.begin()
    firmware.frames()
    wire = b"\0".join(parts)
    for position in data.draw(st.lists(st.integers(0, max(len(wire) - 1, 0)), max_size=3)) if wire else []:
        wire = wire[:position] + bytes([data.draw(st.integers(0, 255))]) + wire[position + 1 :]
    firmware.receive(0, wire + b"\0")
    firmware.take()
    # What comes next is understood.
    firmware.receive(0, encode(Frame(FrameType.TIME, 255, 0, 0, b"\0\1\2\3\4\5\6\7")))
    (reply,) = firmware.frames()
    assert (reply.type, reply.payload[:8]) == (FrameType.TIME, b"\0\1\2\3\4\5\6\7")


def test_a_million_random_bytes_are_taken_for_nothing(firmware):
    firmware.begin()
    firmware.frames()
    noise = np.random.default_rng(3).integers(0, 256, 1_000_000, np.uint8)
    noise[::9] = 0
    firmware.receive(0, noise.tobytes() + b"\0")
    assert firmware.take() == b""
    assert firmware.errors > 100_000


def checked(block: bytes) -> bytes:
    return cobs.encode(block + struct.pack("<I", crc32(block))) + b"\0"


def test_a_damaged_command_is_not_obeyed(firmware):
    firmware.begin()
    firmware.frames()
    command = encode(Frame(FrameType.COMMAND, 255, 7, 0, b"\1"))
    for place in range(len(command) - 1):
        firmware.receive(0, command[:place] + bytes([command[place] ^ 0x10]) + command[place + 1 :])
    for short in range(1, 10):
        firmware.receive(0, checked((b"\x14" + bytes(8))[:short]))
    another_version = bytearray(cobs.decode(command[:-1])[:-4])
    another_version[0] = 0x24
    firmware.receive(0, checked(bytes(another_version)))
    assert firmware.take() == b""
    assert firmware.errors >= len(command) - 1 + 10


def test_an_earlier_time_does_not_turn_the_clock(firmware):
    firmware.begin()
    firmware("poll", 5_000_000)
    firmware("poll", 4_999_000)
    firmware.frames()
    firmware("poll", 7_000_000)
    assert parse_hello(firmware.frames()[0].payload).uptime_us == 7_000_000


@pytest.mark.skipif(not shutil.which("avr-gcc"), reason="avr-gcc is missing: apt-get install gcc-avr avr-libc")
def test_it_compiles_for_an_atmega328p_with_nothing_in_its_ram(tmp_path):
    built = tmp_path / "edgeframe.o"
    command = ["avr-gcc", *STRICT, "-Os", "-mmcu=atmega328p", "-c", SOURCES / "edgeframe.c", "-o", built]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stderr == ""
    sizes = subprocess.run(["avr-size", built], capture_output=True, text=True, check=True).stdout.splitlines()[1]
    flash, data, bss = map(int, sizes.split()[:3])
    assert flash < 5000
    assert (data, bss) == (0, 0)
