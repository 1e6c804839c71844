"""Decisions and clean signals as LSL streams, read back by LSL and judged again."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from edgepain.bundle import Bundle, NetworkSpec
from edgepain.engine import open_engine
from edgepain.firmware_bridge import DeviceSource
from edgepain.lsl import monotonic_offset_s
from edgepain.runtime import Decider, Decision
from edgepain.runtime.lsl_out import LslOut
from edgepain.runtime.lsl_scope import _port, _sockets
from edgepain.signal import Modality, Samples

RATES_HZ = {Modality.EDA: 4.0, Modality.BVP: 64.0}
GRID_HZ = dict.fromkeys(RATES_HZ, 8.0)
SECONDS = 40
# On this machine's clock.
BEGAN_S = time.monotonic()


@pytest.fixture(scope="module")
def eighths(small_run, tmp_path_factory) -> Bundle:
    """A bundle whose windows have a point every eighth of a second, so that those of every hop share them."""
    from edgepain.export import export_run

    spec = NetworkSpec((Modality.EDA, Modality.BVP), 2, "pooled", 45, 32, 4)
    return export_run(small_run(spec=spec), tmp_path_factory.mktemp("eighths") / "small")


@pytest.fixture
def name() -> str:
    return f"out {uuid4().hex[:8]}"


@pytest.fixture
def out(lsl: Any, name: str) -> Iterator[Callable[..., LslOut]]:
    opened: list[LslOut] = []

    def made(**options: Any) -> LslOut:
        opened.append(LslOut(name, ["no pain", "pain"], list(RATES_HZ), 0.125, lambda device_s: None, **options))
        return opened[-1]

    yield made
    for each in opened:
        each.close()


def session(rates_hz: Mapping[Modality, float] = RATES_HZ) -> Iterator[Samples]:
    """A simulated session, a quarter of a second at a time, with a loose electrode and a gap."""
    rng = np.random.default_rng(6)
    for quarter in range(4 * SECONDS):
        for modality, rate_hz in rates_hz.items():
            count = int(rate_hz / 4)
            times_s = quarter / 4 + np.arange(count) / rate_hz
            level = 3 + np.sin(times_s / 3) if modality is Modality.EDA else 40 * np.sin(7 * times_s)
            values = (level + rng.normal(0, 0.02, count)).astype(np.float32)
            if 100 <= quarter < 112 and modality is Modality.BVP:
                continue
            loose = modality is Modality.EDA and 130 <= quarter < 136
            yield Samples(modality, times_s, values, rate_hz, BEGAN_S + (quarter + 1) / 4, lead_off=loose)


def judged(decider: Decider, samples: Samples) -> list[Decision]:
    decider.push(samples)
    return list(decider.decisions())


def inlet(lsl: Any, stream: str) -> Any:
    (info,) = lsl.resolve_byprop("name", stream, timeout=5)
    opened = lsl.StreamInlet(info, recover=False)
    opened.open_stream(timeout=5)
    return opened


@pytest.mark.parametrize(("rates_hz", "exact_until_s"), [(GRID_HZ, 20.0), (RATES_HZ, 0.0)])
def test_what_was_published_is_decided_on_alike(lsl, out, name: str, eighths: Bundle, rates_hz, exact_until_s):
    """Through LSL and a second edgepain: the same windows, and the same answers.

    Not to the last digit where the rate is another than the grid's, or after a gap: the history that windows are scaled
    by ends with the last sample before them, and that is a point of the grid more or less.
    """
    engine = open_engine(eighths)
    sender, first, second = out(), Decider(eighths, engine), Decider(eighths, engine)
    source = DeviceSource(f"{name}-eda,{name}-bvp", device="lsl")
    # An inlet is open a moment before the outlet sends to it.
    assert all(stream.wait_for_consumers(10) for _, stream in sender._signals.values())
    then: list[Decision] = []
    for samples in session(rates_hz):
        sender.samples(samples)
        then += judged(first, samples)
    now: list[Decision] = []
    deadline_s = time.monotonic() + 20
    with closing(source):
        while len(now) < len(then) - 1 and time.monotonic() < deadline_s:
            for event in source.recv(0.5):
                if isinstance(event, Samples):
                    second.push(event)
            now += second.decisions()
    assert len(now) >= len(then) - 1
    labelled = 0
    for before, after in zip(then, now, strict=False):
        assert before.start_s == after.start_s
        if before.probabilities is None:
            assert before.abstain == after.abstain or {str(before.abstain), str(after.abstain)} == {
                "no_contact",
                "gaps",
            }
        else:
            exact = before.start_s < exact_until_s
            assert after.probabilities == pytest.approx(before.probabilities, abs=1e-6 if exact else 0.05)
            labelled += 1
    assert labelled > 10
    assert {str(d.abstain) for d in then} >= {"calibrating", "gaps", "no_contact", "None"}


def test_signals_say_what_they_are_and_when_they_were_taken(lsl, out, name: str):
    sender = out()
    opened = inlet(lsl, f"{name}-eda")
    assert sender._signals[Modality.EDA][1].wait_for_consumers(10)
    for samples in session():
        sender.samples(samples)
    assert sender.finish().sent > 0
    info = opened.info(timeout=5)
    assert (info.type(), info.nominal_srate(), info.channel_count()) == ("EDA", 8.0, 1)
    assert (info.get_channel_labels(), info.get_channel_units()) == (["eda"], ["microsiemens"])
    values, stamps_s = collected(opened, 8 * SECONDS - 8)
    # The newest sample of BVP is a period old when it arrives: the fastest there is.
    offset_s = BEGAN_S + 1 / 64 - monotonic_offset_s()
    np.testing.assert_allclose(stamps_s, offset_s + np.arange(stamps_s.size) / 8, atol=2e-3)
    assert np.isnan(values[130 * 2 : 136 * 2 - 2]).all()
    assert np.isfinite(values[: 129 * 2]).all()


def collected(opened: Any, least: int) -> tuple[np.ndarray, np.ndarray]:
    values: list[Any] = []
    stamps_s: list[float] = []
    deadline_s = time.monotonic() + 10
    while len(values) < least and time.monotonic() < deadline_s:
        more, at_s = opened.pull_chunk(timeout=0.1)
        values, stamps_s = values + more, stamps_s + at_s
    assert len(values) >= least
    return np.array(values)[:, 0], np.array(stamps_s)


def test_decisions_are_published_whole(lsl, out, name: str, eighths: Bundle):
    sender, decider = out(), Decider(eighths, open_engine(eighths))
    texts, shares = inlet(lsl, f"{name}-decisions"), inlet(lsl, f"{name}-probabilities")
    assert sender._decisions.wait_for_consumers(10)
    assert sender._probabilities.wait_for_consumers(10)
    assert shares.info(timeout=5).get_channel_labels() == ["no pain", "pain"]
    then: list[Decision] = []
    for samples in session():
        for decision in judged(decider, samples):
            then.append(decision)
            sender.decision(decision)
    for decision in then:
        (label, abstain, text), stamp_s = texts.pull_sample(timeout=5)
        told = json.loads(text)
        assert (label, abstain) == (decision.label or "", str(decision.abstain or ""))
        assert (told["index"], told["reason"], told["probabilities"]) == (
            decision.index,
            decision.reason,
            decision.probabilities,
        )
        values, same_s = shares.pull_sample(timeout=5)
        assert same_s == stamp_s
        expected = list((decision.probabilities or {"no pain": np.nan, "pain": np.nan}).values())
        np.testing.assert_allclose(values, expected, rtol=1e-6)


@pytest.mark.parametrize("everywhere", [False, True])
def test_nobody_else_sees_them_unless_asked(lsl, out, everywhere: bool):
    """Every socket that listens takes what comes over the loopback device alone."""
    before = {inode for inode, _, _ in listening()}
    sender = out(everywhere=everywhere)
    new = [(port, device) for inode, port, device in listening() if inode not in before]
    assert len(new) >= 4 * 3, "a data, a service and a search port for each of four streams"
    assert 16571 in {port for port, _ in new}
    assert {device for _, device in new} == ({b""} if everywhere else {b"lo"})
    sender.close()


def listening() -> list[tuple[int, int, bytes]]:
    """Inode, port and device of the sockets of this process that take what comes from anybody."""
    return [
        (
            os.fstat(each.fileno()).st_ino,
            _port(each),
            each.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0"),
        )
        for each in _sockets()
        if 16571 <= _port(each) < 16700
    ]


def test_no_file_stays_open(lsl, out):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        out().close()
    deadline_s = time.monotonic() + 5
    while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_edgepain_run_publishes_and_another_reads(lsl, name, live, simulate, exported, tmp_path: Path):
    link = tmp_path / "wearable"
    with simulate("--link", link, "--no-wait", "--loop"), live(link, "--lsl-out", name, "--calibration", 1) as first:
        first.until(lambda line: line["type"] == "device")
        port = f"{name}-eda,{name}-bvp"
        with live(port, "--device", "lsl", "--calibration", 1, "--duration", 12) as second:
            assert second.end() == 0, second.errors
        first.until(lambda line: line["type"] == "decision" and line["label"])
        first.end(2)
    assert second.summary["decisions"] > 0
    assert second.summary["frames_lost"] == second.summary["crc_errors"] == 0
    (device,) = second.of("device")
    assert [stream["unit"] for stream in device["streams"]] == ["uS", "a.u."]
    totals = first.summary["outputs"]["lsl"]
    assert totals["sent"] > 2 * len(first.of("decision"))
    assert (totals["waiting"], totals["dropped"]) == (0, 0)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--replay", "x", "--lsl-out"], "--lsl-out is for a port; leave it out with --replay"),
        (["--port", "x", "--lsl-scope", "network"], "--lsl-scope is for --lsl-out; give that too"),
    ],
)
def test_options_that_do_not_fit(options: list[str], complaint: str):
    command = [sys.executable, "-m", "edgepain", "run", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert complaint in done.stderr
