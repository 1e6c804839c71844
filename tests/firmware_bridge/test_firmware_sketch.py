"""The Arduino sketch under sanitizers, on a board whose clock, pins and line a test turns by hand."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgepain.firmware_bridge.assembler import SampleAssembler
from edgepain.firmware_bridge.conformance import ConformanceChecker, Verdict
from edgepain.firmware_bridge.edgeframe import Flags, FrameDecoder, FrameType
from edgepain.firmware_bridge.hello import MISSING_I2, parse_hello
from edgepain.signal import Modality, Samples

FIRMWARE = Path(__file__).resolve().parents[2] / "firmware_bridge" / "firmware"
HERE = Path(__file__).parent / "firmware"
SANITIZED = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
EDA, BVP = 0, 1
TURN_US = 100

pytestmark = pytest.mark.skipif(
    not (shutil.which("gcc") and shutil.which("g++")), reason="no C and C++ compiler: install gcc and g++"
)


class Board:
    """The sketch in a process of its own. wire: all that it sent."""

    def __init__(self, program: Path) -> None:
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.wire = b""
        self("pins", 400, 500)

    def __call__(self, *words: object) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")

    def run(self, microseconds: int, turn_us: int = TURN_US) -> bytes:
        sent = bytes.fromhex(self("run", microseconds, turn_us))
        self.wire += sent
        return sent

    def frames(self, kind: FrameType = FrameType.DATA, stream: int | None = None):
        decoder = FrameDecoder()
        frames = decoder.feed(self.wire)
        assert (decoder.counters.crc_errors, decoder.counters.malformed) == (0, 0)
        return [frame for frame in frames if frame.type is kind and stream in (None, frame.stream)]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sketch")
    sources = FIRMWARE / "src"
    compile_c = ["gcc", *SANITIZED, "-c", sources / "edgeframe.c", "-o", folder / "edgeframe.o"]
    compile_all = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", *SANITIZED, f"-I{HERE / 'arduino'}"]
    compile_all += [f"-I{sources}", f"-I{FIRMWARE / 'examples' / 'edgeframe_eda_ppg'}", HERE / "sketch_harness.cpp"]
    compile_all += [folder / "edgeframe.o", "-o", folder / "sketch"]
    for command in (compile_c, compile_all):
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if "asan" in result.stderr or "ubsan" in result.stderr:
            pytest.skip("the C compiler has no sanitizers: install libasan and libubsan")
        assert result.returncode == 0, result.stderr
    return folder / "sketch"


@pytest.fixture
def board(program):
    running = Board(program)
    yield running
    running.process.stdin.close()
    assert running.process.wait(30) == 0, "a sanitizer stopped it"
    running.process.stdout.close()


def test_it_conforms_from_its_start_through_the_wrap_of_micros(board):
    """12 s that end 4 s behind the wrap, in the check's own time: nothing here depends on this machine."""
    checker = ConformanceChecker(115_200)
    board("boot", 2**32 - 8_000_000)
    for millisecond in range(12_000):
        if question := checker.request(millisecond * 1e-3):
            board("hear", question.hex())
        if sent := board.run(1000):
            checker.feed(sent, (millisecond + 1) * 1e-3)
    findings = {finding.rule.name: finding for finding in checker.findings(12.0)}
    passed = {name for name, finding in findings.items() if finding.verdict is Verdict.PASS}
    # The pins read always the same here, it started long ago by its clock, and nothing was dropped.
    assert set(findings) - passed == {"hello-first", "values", "overrun"}
    assert findings["values"].verdict is Verdict.NOTE
    assert "100 Hz measured" in findings["rate"].seen


def test_sampling_does_not_drift_whatever_the_loop_takes(board):
    board("boot", 0)
    for turn_us in (37, 411, 1999, 7001):
        board.run(turn_us * (3_000_000 // turn_us), turn_us)
    times = [frame.t_us for frame in board.frames(stream=BVP)]
    assert set(np.diff(times)) == {80_000}
    assert len(times) >= 145
    assert all(MISSING_I2 not in np.frombuffer(frame.payload, "<i2") for frame in board.frames(stream=BVP))


def test_the_middle_of_eight_readings_is_the_time_of_their_mean(board):
    board("boot", 0)
    board.run(400_000)
    pairs = zip(board.frames(stream=EDA), board.frames(stream=BVP), strict=False)
    assert {eda.t_us - bvp.t_us for eda, bvp in pairs} == {35_000}


@pytest.mark.parametrize(("counts", "eda_us"), [(400, 6.140), (0, 50.0), (511, 0.0489), (512, 0.0), (1023, 0.0)])
def test_eda_is_the_formula_of_the_sensors_maker(board, counts, eda_us):
    board("pins", counts, 500)
    board("boot", 0)
    board.run(200_000)
    assembler = SampleAssembler()
    events = [event for frame in FrameDecoder().feed(board.wire) for event in assembler.push(frame, 0.0)]
    values = [event.values[0] for event in events if isinstance(event, Samples) and event.modality is Modality.EDA]
    assert len(values) == 2
    assert values == pytest.approx([eda_us] * 2, abs=0.0021)


@pytest.mark.parametrize(
    ("pins", "eda_flags", "bvp_flags"),
    [
        ((400, 500), 0, 0),
        ((512, 500), Flags.LEAD_OFF, 0),
        ((0, 500), Flags.CLIPPED, 0),
        ((400, 1023), 0, Flags.CLIPPED),
        ((400, 0), 0, Flags.CLIPPED),
    ],
)
def test_flags_say_what_is_wrong_with_a_sensor(board, pins, eda_flags, bvp_flags):
    board("pins", *pins)
    board("boot", 0)
    board.run(200_000)
    assert {frame.flags for frame in board.frames(stream=EDA)} == {eda_flags}
    assert {frame.flags for frame in board.frames(stream=BVP)} == {bvp_flags}
    board("pins", 400, 500)
    board.run(200_000)
    assert [board.frames(stream=stream)[-1].flags for stream in (EDA, BVP)] == [0, 0]


def test_a_loop_that_was_held_up_marks_what_it_missed_and_keeps_its_times(board):
    board("boot", 0)
    board.run(160_000)
    board.run(50_000, 50_000)
    board.run(200_000)
    samples = np.concatenate([np.frombuffer(frame.payload, "<i2") for frame in board.frames(stream=BVP)])
    times = [frame.t_us for frame in board.frames(stream=BVP)]
    assert set(np.diff(times)) == {80_000}
    missing = np.flatnonzero(samples == MISSING_I2)
    assert 3 <= missing.size <= 5
    assert set(np.diff(missing)) == {1}
    assert set(samples[samples != MISSING_I2]) == {500}


def test_a_blocked_line_costs_whole_frames_and_never_a_sample_time(board):
    board("boot", 0)
    board.run(1_000_000)
    board("room", 0)
    board.run(4_000_000)
    board("room", 7)
    board.run(2_000_000)
    for stream in (EDA, BVP):
        frames = board.frames(stream=stream)
        seqs = [frame.seq for frame in frames]
        gaps = np.flatnonzero(np.diff(seqs) > 1)
        assert gaps.size == 1
        assert [bool(frame.flags & Flags.OVERRUN) for frame in frames].index(True) == gaps[0] + 1
        # Time and seq went on together.
        assert {(frame.t_us - frames[0].t_us) // 80_000 - frame.seq for frame in frames} == {0}


def test_every_start_has_a_new_boot_id_and_hello_first(board):
    for start in range(3):
        board("boot", 1000)
        board.wire = b""
        board.run(500_000)
        (hello,) = board.frames(FrameType.HELLO)
        assert parse_hello(hello.payload).boot_id == start
        assert FrameDecoder().feed(board.wire)[0] == hello
