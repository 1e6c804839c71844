"""The conformance check: a sound device passes, and each mistake a firmware can make is found and named."""

import struct
from dataclasses import replace

import cbor2
import numpy as np
import pytest
from cobs import cobs
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepain.firmware_bridge import wearable as wearable_module
from edgepain.firmware_bridge.conformance import RULES, ConformanceChecker, Verdict
from edgepain.firmware_bridge.edgeframe import Flags, Frame, FrameDecoder, FrameType, encode
from edgepain.firmware_bridge.wearable import HELLO, STATUS, Wearable
from edgepain.signal import Modality, Recording, Signal

SECONDS = 14.0
DATA = FrameType.DATA


def recording() -> Recording:
    t = np.arange(64 * 20) / 64
    eda = Signal(Modality.EDA, (5 + np.sin(t[::16])).astype(np.float32), 4.0)
    bvp = Signal(Modality.BVP, np.sin(7 * t).astype(np.float32), 64.0)
    return Recording("s", "r", {Modality.EDA: eda, Modality.BVP: bvp})


def sound(frame, asked):
    """A firmware without mistakes: every frame as it should be. asked: it answers the host."""
    return [frame]


def play(firmware=sound, *, baud=115_200, drop=None, reboot_s=None, skew_ppm=0.0, sample_type="i2"):
    """What the check finds of a simulated device whose every frame goes through `firmware`, by rule.

    drop: which DATA frames are lost in the device, by their count; it says so as it should.
    """
    device = Wearable(recording(), sample_type=sample_type, boot_id=5, skew_ppm=skew_ppm)
    checker, host = ConformanceChecker(baud), FrameDecoder()

    def send(frame, at_s, asked=False):
        for sent in firmware(frame, asked):
            checker.feed(encode(sent) if isinstance(sent, Frame) else sent, at_s + 0.004)

    for due in device.schedule():
        if due.at_s > SECONDS:
            break
        if reboot_s is not None and due.at_s >= reboot_s:
            device.reboot(due.at_s, 0.5)
            send(device.hello(due.at_s), due.at_s)
            reboot_s = None
        for question in host.feed(checker.request(due.at_s)):
            for answer in device.answer(question, due.at_s):
                send(answer, due.at_s, asked=True)
        if due.stream in (HELLO, STATUS):
            send((device.hello if due.stream == HELLO else device.status)(due.at_s), due.at_s)
        elif (frame := device.data(due)) is not None:
            if drop is not None and drop(frame):
                device.overrun(due)
            else:
                send(frame, due.at_s)
    return {finding.rule.name: finding for finding in checker.findings(SECONDS)}


def failed(findings):
    return {name for name, finding in findings.items() if finding.verdict is Verdict.FAIL}


def every(n):
    """True once in n calls, the first time after n."""
    count = iter(range(1, 10**9))
    return lambda *_: next(count) % n == 0


def on(kind, change, asked=None):
    """A firmware that does `change` to every frame of `kind`; asked: only to answers, or only to others."""

    def firmware(frame, is_answer):
        chosen = frame.type is kind and asked in (None, is_answer)
        changed = change(frame) if chosen else frame
        return changed if isinstance(changed, list) else [changed]

    return firmware


def cbor(kind, change):
    """A firmware whose CBOR of `kind` went through `change`."""

    def rewrite(frame):
        content = cbor2.loads(frame.payload)
        return replace(frame, payload=cbor2.dumps(change(content)))

    return on(kind, rewrite)


def hello(**fields):
    return cbor(FrameType.HELLO, lambda content: {**content, **fields})


def stream(index, place, value):
    def change(content):
        content["streams"][index][place] = value
        return content

    return cbor(FrameType.HELLO, change)


def status(**fields):
    return cbor(FrameType.STATUS, lambda content: {**content, **fields})


def without(key, kind):
    return cbor(kind, lambda content: {name: value for name, value in content.items() if name != key})


def raw(change):
    """A firmware whose blocks went through `change` before COBS."""
    return lambda frame, asked: [cobs.encode(change(cobs.decode(encode(frame)[:-1]))) + b"\0"]


def sometimes(n, odd, kind=DATA):
    """A firmware that sends `odd(frame)` for one frame of `kind` in n."""
    turn = every(n)
    return lambda frame, asked: odd(frame) if frame.type is kind and turn() else [frame]


def version_2(block):
    from zlib import crc32

    block = bytes([block[0] + 0x10]) + block[1:-4]
    return block + struct.pack("<I", crc32(block))


def one_count_for_all():
    count = iter(range(10**9))
    return on(DATA, lambda frame: replace(frame, seq=next(count) & 0xFFFF))


def new_boot_every_time():
    count = iter(range(10**9))
    return cbor(FrameType.HELLO, lambda content: {**content, "boot_id": next(count)})


def first_hellos_lost():
    waits = iter([True, False])
    return on(FrameType.HELLO, lambda frame: [] if next(waits, False) else frame)


def late_stream_change():
    count = iter(range(10**9))

    def change(content):
        content["streams"][1][4] = 1.0 if next(count) < 4 else 2.0
        return content

    return cbor(FrameType.HELLO, change)


def in_milliseconds():
    def change(frame):
        return replace(frame, t_us=frame.t_us // 1000)

    return on(DATA, change)


def late_stamps():
    turn = every(2)
    return on(DATA, lambda frame: replace(frame, t_us=frame.t_us + 20_000) if turn() else frame)


def reused_seq():
    """Drops one frame in 20 of a stream and does not count it in seq."""
    dropped: dict[int, int] = {}

    def change(frame):
        if frame.seq % 20 == 19:
            dropped[frame.stream] = dropped.get(frame.stream, 0) + 1
            return []
        return replace(frame, seq=frame.seq - dropped.get(frame.stream, 0))

    return on(DATA, change)


def limits(frame):
    return replace(frame, payload=b"\xff\x7f" * frame.count)


def missing(frame):
    return replace(frame, payload=struct.pack("<h", -32768) * frame.count)


def no_echo(frame):
    return replace(frame, payload=bytes(8) + frame.payload[8:])


def clock_from_zero(frame):
    return replace(frame, payload=frame.payload[:8] + struct.pack("<Q", 2**40))


# rule, firmware, other rules that break with it, how it is played
MISTAKES = [
    ("framing", sometimes(20, lambda frame: [frame, b"Debug: x = 17\r\n\0"]), set(), {}),
    ("framing", lambda frame, asked: [encode(frame)[:-1]], set(), {}),
    ("framing", sometimes(20, lambda frame: [frame, b"\x05\x00"]), set(), {}),
    ("framing", lambda frame, asked: [b"S512\r\n"], set(), {}),
    ("crc", raw(lambda block: block[:-4] + bytes(byte ^ 0xFF for byte in block[-4:])), set(), {}),
    (
        "crc",
        sometimes(50, lambda frame: [raw(lambda block: block[:-5] + b"?" + block[-4:])(frame, False)[0]]),
        set(),
        {},
    ),
    ("version", raw(version_2), set(), {}),
    ("type", sometimes(30, lambda frame: [frame, Frame(FrameType.COMMAND, 255, 1, 0, b"\1")]), set(), {}),
    ("baud", sound, set(), {"baud": 2400}),
    ("hello-period", on(FrameType.HELLO, lambda frame: [], asked=False), {"hello-first"}, {}),
    ("hello-period", on(FrameType.HELLO, lambda frame: [frame, frame]), {"seq"}, {}),
    ("hello-on-request", on(FrameType.HELLO, lambda frame: [], asked=True), set(), {}),
    ("hello-first", first_hellos_lost(), set(), {}),
    ("hello-content", on(FrameType.HELLO, lambda frame: replace(frame, payload=b'{"device": "x"}')), set(), {}),
    ("hello-content", without("boot_id", FrameType.HELLO), set(), {}),
    ("hello-content", stream(0, 2, 0), set(), {}),
    ("hello-content", stream(0, 3, "i4"), set(), {}),
    ("hello-content", stream(0, 4, 0.0), set(), {}),
    ("hello-content", stream(0, 0, "bvp"), set(), {}),
    ("hello-content", hello(device="x" * 33), set(), {}),
    ("hello-content", hello(streams=[]), set(), {}),
    ("hello-content", late_stream_change(), set(), {}),
    ("hello-clock", on(FrameType.HELLO, lambda frame: replace(frame, t_us=frame.t_us ^ 0x40)), set(), {}),
    ("hello-names", stream(0, 1, "kOhm"), set(), {}),
    ("boot-id", new_boot_every_time(), set(), {}),
    ("boot-id", hello(boot_id=1), set(), {"reboot_s": 6.0}),
    ("stream", on(DATA, lambda frame: replace(frame, stream=frame.stream + 2)), set(), {}),
    ("stream", on(FrameType.STATUS, lambda frame: replace(frame, stream=0)), set(), {}),
    ("data-size", on(DATA, lambda frame: replace(frame, count=len(frame.payload))), set(), {}),
    ("data-size", on(DATA, lambda frame: replace(frame, count=0)), set(), {}),
    ("flags", on(DATA, lambda frame: replace(frame, flags=0x10)), set(), {}),
    ("seq", on(DATA, lambda frame: replace(frame, seq=0)), set(), {}),
    ("seq", on(FrameType.STATUS, lambda frame: replace(frame, seq=0)), set(), {}),
    ("seq", on(DATA, lambda frame: replace(frame, seq=-frame.seq)), {"time-step"}, {}),
    ("overrun", on(DATA, lambda frame: replace(frame, flags=0)), set(), {"drop": every(20)}),
    ("overrun", on(DATA, lambda frame: replace(frame, flags=Flags.OVERRUN)), set(), {}),
    ("overrun", one_count_for_all(), {"drops"}, {}),
    ("time-order", on(DATA, lambda frame: replace(frame, t_us=7)), set(), {}),
    ("time-order", on(DATA, lambda frame: replace(frame, t_us=-frame.t_us & 0xFFFFFFFF)), set(), {}),
    ("time-step", late_stamps(), set(), {}),
    ("time-step", reused_seq(), {"rate"}, {}),
    ("time-step", in_milliseconds(), {"rate", "host-clock"}, {}),
    ("rate", stream(1, 2, 65.0), set(), {}),
    ("host-clock", sound, {"rate"}, {"skew_ppm": 20_000.0}),
    ("values", on(DATA, limits), set(), {}),
    ("values", on(DATA, missing), set(), {}),
    ("status-period", on(FrameType.STATUS, lambda frame: []), set(), {}),
    ("status-period", on(FrameType.STATUS, lambda frame: [frame, replace(frame, t_us=frame.t_us + 100)]), {"seq"}, {}),
    ("status-content", without("drops", FrameType.STATUS), set(), {}),
    ("status-content", status(battery=87), set(), {}),
    ("status-content", cbor(FrameType.STATUS, lambda says: {**says, "uptime_s": says["uptime_s"] * 1000}), set(), {}),
    ("drops", status(drops=0), set(), {"drop": every(20)}),
    ("drops", cbor(FrameType.STATUS, lambda says: {**says, "drops": says["uptime_s"]}), set(), {}),
    ("drops", cbor(FrameType.STATUS, lambda says: {**says, "drops": 99 - says["uptime_s"]}), set(), {}),
    ("time-reply", on(FrameType.TIME, lambda frame: []), set(), {}),
    ("time-reply", on(FrameType.TIME, no_echo), set(), {}),
    ("time-reply", on(FrameType.TIME, clock_from_zero), set(), {}),
    ("time-reply", on(FrameType.TIME, lambda frame: replace(frame, payload=frame.payload[:12])), set(), {}),
    ("ack", on(FrameType.ACK, lambda frame: []), {"ack-unknown"}, {}),
    ("ack", on(FrameType.ACK, lambda frame: replace(frame, seq=0)), {"ack-unknown"}, {}),
    ("ack", on(FrameType.ACK, lambda frame: replace(frame, payload=b"\1")), set(), {}),
    ("ack-unknown", on(FrameType.ACK, lambda frame: replace(frame, payload=b"\0")), set(), {}),
]


def test_a_sound_device_passes_whatever_it_sends():
    for sample_type in ("i2", "f4"):
        findings = play(sample_type=sample_type)
        assert list(findings) == list(RULES)
        unseen = {name for name, finding in findings.items() if finding.verdict is not Verdict.PASS}
        assert unseen == {"overrun"}, {name: findings[name] for name in unseen}


@pytest.mark.parametrize(
    ("rule", "firmware", "along", "how"), MISTAKES, ids=[f"{i}-{mistake[0]}" for i, mistake in enumerate(MISTAKES)]
)
def test_each_mistake_is_found_and_named(rule, firmware, along, how):
    findings = play(firmware, **how)
    assert rule in failed(findings)
    assert failed(findings) <= {rule} | along, {name: findings[name].seen for name in failed(findings)}
    assert findings[rule].seen
    assert findings[rule].times >= 1
    assert findings[rule].rule.advice


@pytest.mark.parametrize("frame_s", [0.02, 0.15])
def test_frames_of_another_length_than_40_to_100_ms_are_found(frame_s, monkeypatch):
    monkeypatch.setattr(wearable_module, "FRAME_S", frame_s)
    findings = play()
    assert failed(findings) == {"frame-length"}
    assert f"{1e3 * round(frame_s * 64) / 64:.4g} ms" in findings["frame-length"].seen


def test_every_rule_has_a_mistake_that_breaks_it():
    assert {mistake[0] for mistake in MISTAKES} | {"frame-length"} == set(RULES)


def test_drops_that_the_device_tells_of_are_no_mistake():
    findings = play(drop=every(7))
    assert not failed(findings)
    assert findings["overrun"].verdict is Verdict.PASS
    assert findings["drops"].seen.endswith("lost by seq")


def test_a_restart_with_a_new_boot_id_is_no_mistake_even_in_the_middle_of_a_frame():
    assert not failed(play(reboot_s=6.0))
    cut = {"done": False}

    def firmware(frame, asked):
        if frame.type is FrameType.HELLO and cbor2.loads(frame.payload)["boot_id"] == 6 and not cut["done"]:
            cut["done"] = True
            return [b"\x30half a frame", b"\0", frame]
        return [frame]

    findings = play(firmware, reboot_s=6.0)
    assert cut["done"]
    assert not failed(findings), {name: findings[name].seen for name in failed(findings)}
    assert findings["boot-id"].seen == "a restart was seen"


def test_lost_bytes_on_the_line_are_not_blamed_on_the_device():
    findings = play(sometimes(40, lambda frame: [encode(frame)[:3] + encode(frame)[4:]]))
    assert failed(findings) <= {"crc", "framing"}
    assert failed(findings)


def test_what_is_allowed_and_odd_is_a_note():
    assert play(stream(0, 0, "acc"))["hello-names"].verdict is Verdict.NOTE
    still = play(on(DATA, lambda frame: replace(frame, payload=bytes(len(frame.payload)))))
    assert still["values"].verdict is Verdict.NOTE
    assert "is the sensor connected?" in still["values"].seen
    dry = play(on(DATA, lambda frame: replace(frame, payload=bytes(len(frame.payload)))), sample_type="f4")
    assert dry["values"].verdict is Verdict.NOTE


def test_an_offence_is_shown_by_its_bytes_and_nothing_a_terminal_obeys():
    findings = play(hello(device="\x1b[2J"))
    assert bytes.fromhex(findings["hello-content"].excerpt.split("…")[0]).startswith(b"\x04\x10\xff")
    text = play(sometimes(20, lambda frame: [frame, b"hi \x1b[31m there and there\0"]))["framing"]
    assert "\x1b" not in text.seen
    assert bytes.fromhex(text.excerpt) == b"hi \x1b[31m there and there"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=300),
            st.builds(
                lambda kind, payload, count: encode(Frame(kind, 0, 0, 0, payload, 0, count)),
                st.sampled_from(FrameType),
                st.binary(max_size=240),
                st.integers(0, 255),
            ),
        ),
        max_size=30,
    )
)
def test_no_bytes_make_it_raise(parts):
    checker = ConformanceChecker(115_200)
    for number, part in enumerate(parts):
        checker.request(number * 0.3)
        checker.feed(part, number * 0.3)
    assert [finding.rule.name for finding in checker.findings(60.0)] == list(RULES)
