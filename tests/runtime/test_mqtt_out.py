"""Decisions to a real Mosquitto that is killed, starts again, refuses, or is not there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from edgepain.errors import ConfigError
from edgepain.runtime import Abstention, Decision
from edgepain.runtime.mqtt_address import MqttAddress, mqtt_address
from edgepain.runtime.mqtt_out import MqttOut
from edgepain.signal import LinkChange, LinkState

MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
pytest.importorskip("paho.mqtt", reason="paho-mqtt is not installed: pip install 'edgepain[mqtt]'")
needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="no Mosquitto here: apt-get install mosquitto")


class Broker:
    """A Mosquitto on a free port of this machine; keeps its sessions in `folder` when it is ended."""

    def __init__(self, folder: Path, *settings: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._settings = folder / "mosquitto.conf"
        access = () if any("password_file" in each for each in settings) else ("allow_anonymous true",)
        user = ("user root",) if os.geteuid() == 0 else ()
        lines = (f"listener {self.port} 127.0.0.1", f"persistence_location {folder}/", "persistence true")
        self._settings.write_text("\n".join((*lines, "max_queued_messages 0", *access, *user, *settings)) + "\n")
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        assert MOSQUITTO is not None
        self.process = subprocess.Popen([MOSQUITTO, "-c", str(self._settings)], stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 10
        while time.monotonic() < deadline_s:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise AssertionError("Mosquitto did not start")

    def stop(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.terminate()
            process.wait(10)


class Ward:
    """Who listens: every message of a prefix, in order of arrival; the broker keeps them while it is away."""

    def __init__(self, broker: Broker, prefix: str, user: str | None = None, password: str | None = None) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.messages: list[tuple[str, dict[str, Any], bool]] = []
        self._listening = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, f"ward-{uuid4().hex[:8]}", clean_session=False)
        if user is not None:
            self._client.username_pw_set(user, password)
        self._client.on_connect = lambda client, *_: client.subscribe(f"{prefix}/#", 1)
        self._client.on_subscribe = lambda *_: self._listening.set()
        self._client.on_message = lambda _, __, got: self.messages.append(
            (got.topic, json.loads(got.payload), bool(got.retain))
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        assert self._listening.wait(10)

    def of(self, topic: str) -> list[dict[str, Any]]:
        """Payloads, each id once, in the order in which they first came."""
        found: dict[str, dict[str, Any]] = {}
        for number, (where, content, _) in enumerate(self.messages):
            if where == topic:
                found.setdefault(content.get("id", str(number)), content)
        return list(found.values())

    def until(self, enough: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + 40
        while not enough():
            assert time.monotonic() < deadline_s, self.messages[-3:]
            time.sleep(0.02)

    def leave(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    started = Broker(tmp_path)
    yield started
    started.stop()


@pytest.fixture
def ward(broker: Broker) -> Iterator[Ward]:
    there = Ward(broker, "ward")
    yield there
    there.leave()


def decision(index: int) -> Decision:
    return Decision(
        index, index, index + 5.5, "2026-01-01T00:00:00+00:00", "pain", {"no pain": 0.25, "pain": 0.75}, None, "", {},
        1.0, 1.0, 0,
    )  # fmt: skip


def opened(url: str, **options: Any) -> MqttOut:
    return MqttOut(mqtt_address(f"{url}/ward"), "bed 7", {"bundle": "small"}, **options)


def pulsed(out: MqttOut, enough: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 40
    while not enough():
        assert time.monotonic() < deadline_s
        out.pulse()
        time.sleep(0.02)


@needs_broker
def test_topics_and_what_is_in_them(broker: Broker, ward: Ward):
    out = opened(broker.url)
    out.link(LinkChange(LinkState.CONNECTED, time.monotonic(), "/dev/ttyACM0 at 115200 baud"))
    out.decision(decision(0))
    out.decision(Decision(1, 1, 6.5, "x", None, None, Abstention.GAPS, "eda: 30 % is missing", {}, None, None, 2))
    totals = out.finish()
    assert (totals.sent, totals.waiting, totals.dropped, totals.trouble) == (3, 0, 0, "")
    ward.until(lambda: len(ward.messages) == 5)
    online, offline = ward.of("ward/bed 7/status")
    assert (online["state"], online["bundle"]) == ("online", "small")
    assert (offline["state"], offline["why"]) == ("offline", "the session ended")
    (link,) = ward.of("ward/bed 7/link")
    assert (link["state"], link["detail"]) == ("connected", "/dev/ttyACM0 at 115200 baud")
    first, second = ward.of("ward/bed 7/decision")
    assert first["id"] == f"{online['run']}-0"
    assert (first["label"], first["probabilities"], first["abstain"]) == ("pain", {"no pain": 0.25, "pain": 0.75}, None)
    assert (second["label"], second["abstain"], second["frames_lost"]) == (None, "gaps", 2)
    later = Ward(broker, "ward")
    later.until(lambda: bool(later.messages))
    assert [(topic, content["state"], kept) for topic, content, kept in later.messages] == [
        ("ward/bed 7/status", "offline", True)
    ]
    later.leave()


@needs_broker
def test_a_broker_that_goes_away_gets_everything_in_order_when_it_is_back(broker: Broker, ward: Ward):
    told: list[str] = []
    out = opened(broker.url, tell=told.append)
    for index in range(50):
        out.decision(decision(index))
    pulsed(out, lambda: len(ward.of("ward/bed 7/decision")) == 50)
    broker.stop()
    # Nobody said that it would: these are on their way when the connection breaks.
    for index in range(50, 60):
        out.decision(decision(index))
    pulsed(out, lambda: len(told) == 2)
    for index in range(60, 3000):
        out.decision(decision(index))
    broker.start()
    pulsed(out, lambda: len(told) == 3)
    for index in range(3000, 3010):
        out.decision(decision(index))
    pulsed(out, lambda: len(ward.of("ward/bed 7/decision")) >= 3010)
    assert [each["index"] for each in ward.of("ward/bed 7/decision")] == list(range(3010))
    totals = out.finish()
    assert (totals.sent, totals.waiting, totals.dropped) == (3010, 0, 0)
    assert told[0].startswith("MQTT: connected")
    assert told[1].startswith(f"MQTT: no broker (127.0.0.1:{broker.port}")
    assert [told[2].split(";")[0], int(told[2].split()[2]) >= 2940] == ["MQTT: connected", True]


@needs_broker
def test_a_broker_that_is_killed_with_messages_on_their_way(tmp_path: Path):
    """It stopped answering first: what it took and did not confirm is sent again, and nothing overtakes it."""
    broker = Broker(tmp_path, "autosave_on_changes true", "autosave_interval 1")
    try:
        ward = Ward(broker, "ward")
        out = opened(broker.url)
        pulsed(out, lambda: len(ward.messages) == 1)
        assert broker.process is not None
        broker.process.send_signal(signal.SIGSTOP)
        for index in range(10):
            out.decision(decision(index))
        broker.process.kill()
        broker.process.wait(10)
        for index in range(10, 500):
            out.decision(decision(index))
        broker.start()
        pulsed(out, lambda: len(ward.of("ward/bed 7/decision")) >= 500)
        assert [each["index"] for each in ward.of("ward/bed 7/decision")] == list(range(500))
        totals = out.finish()
        assert (totals.sent, totals.waiting, totals.dropped) == (500, 0, 0)
        ward.leave()
    finally:
        broker.stop()


@needs_broker
def test_what_is_too_much_is_dropped_from_the_oldest_on_and_counted(broker: Broker, ward: Ward):
    broker.stop()
    out = opened(broker.url, max_waiting=100)
    for index in range(250):
        out.decision(decision(index))
    broker.start()
    pulsed(out, lambda: len(ward.of("ward/bed 7/decision")) >= 100)
    assert [each["index"] for each in ward.of("ward/bed 7/decision")] == list(range(150, 250))
    totals = out.finish()
    assert (totals.sent, totals.waiting, totals.dropped) == (100, 0, 150)
    assert "Connection refused" in totals.trouble


def test_no_broker_at_all_costs_nothing_but_the_messages():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        out = opened(f"mqtt://127.0.0.1:{nobody.getsockname()[1]}")
        for index in range(30):
            out.decision(decision(index))
        totals = out.finish()
    assert (totals.sent, totals.waiting, totals.dropped) == (0, 30, 0)
    assert totals.trouble
    out.close()


def test_an_error_that_nobody_expects_is_told_and_does_not_end_the_thread():
    told: list[str] = []
    # No such name can be looked up; `mqtt_address` refuses it.
    out = MqttOut(MqttAddress("a..b", 1883, False, "ward"), "bed 7", {}, told.append)
    out.decision(decision(0))
    pulsed(out, lambda: bool(told))
    assert told[0].startswith("MQTT: no broker (a..b:1883: ")
    assert [thread for thread in threading.enumerate() if thread.name.startswith("paho-mqtt-client-edgepain")]
    totals = out.finish()
    assert (totals.sent, totals.waiting) == (0, 1)
    assert totals.trouble.startswith("a..b:1883: ")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("paho-mqtt-client-edgepain")]


@needs_broker
def test_a_broker_that_stops_reading_does_not_hold_the_session(broker: Broker, ward: Ward):
    out = opened(broker.url)
    pulsed(out, lambda: len(ward.messages) == 1)
    assert broker.process is not None
    broker.process.send_signal(signal.SIGSTOP)
    for index in range(2000):
        out.decision(decision(index))
    broker.process.send_signal(signal.SIGCONT)
    pulsed(out, lambda: len(ward.of("ward/bed 7/decision")) == 2000)
    assert out.finish().sent == 2000


@needs_broker
def test_user_and_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        pytest.skip("no mosquitto_passwd here")
    subprocess.run([tool, "-b", str(passwords), "nurse", "secret"], check=True, capture_output=True)
    guarded = Broker(tmp_path, f"password_file {passwords}", "allow_anonymous false")
    try:
        ward = Ward(guarded, "ward", "nurse", "secret")
        told: list[str] = []
        monkeypatch.setenv("EDGEPAIN_MQTT_USER", "nurse")
        monkeypatch.setenv("EDGEPAIN_MQTT_PASSWORD", "wrong")
        out = opened(guarded.url, tell=told.append)
        out.decision(decision(0))
        pulsed(out, lambda: bool(told))
        totals = out.finish()
        assert (totals.sent, totals.waiting) == (0, 1)
        assert "Not authorized" in told[0]
        assert "secret" not in told[0]
        file = tmp_path / "credentials"
        file.write_text("nurse\nsecret\n")
        file.chmod(0o600)
        out = MqttOut(mqtt_address(f"{guarded.url}/ward", file), "bed 7", {})
        out.decision(decision(0))
        pulsed(out, lambda: bool(ward.of("ward/bed 7/decision")))
        assert out.finish().sent == 1
        ward.leave()
    finally:
        guarded.stop()


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@needs_broker
def test_tls_with_a_certificate_of_ones_own(tmp_path: Path):
    authority, key = _certificate(tmp_path)
    guarded = Broker(tmp_path, f"cafile {authority}", f"certfile {authority}", f"keyfile {key}")
    try:
        address = f"mqtts://localhost:{guarded.port}/ward"
        told: list[str] = []
        out = MqttOut(mqtt_address(address, ca_file=authority), "bed 7", {}, told.append)
        out.decision(decision(0))
        pulsed(out, lambda: bool(told))
        assert out.finish().sent == 1
        told.clear()
        stranger = MqttOut(mqtt_address(address), "bed 7", {}, told.append)
        stranger.decision(decision(0))
        pulsed(stranger, lambda: bool(told))
        assert "certificate verify failed" in told[0]
        assert stranger.finish().sent == 0
    finally:
        guarded.stop()


def _certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "broker.pem", folder / "broker.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make a certificate")
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://host", "is no address of a broker; give mqtt://host:1883/prefix"),
        ("mqtt://", "is no address of a broker"),
        ("mqtt://host:port", "give mqtt://host:1883/prefix"),
        ("mqtt://nurse:secret@host/ward", "has a user or password in it, which others can see; set EDGEPAIN_MQTT_USER"),
        ("mqtt://host/a/%23", "the prefix of topics is 'a/#': leave out +, #"),
        ("mqtt://host/ward?x=1", "is no address of a broker"),
        ("mqtt://a..b/ward", "give mqtt://host:1883/prefix"),
    ],
)
def test_addresses_that_are_none(url: str, complaint: str):
    with pytest.raises(ConfigError) as caught:
        mqtt_address(url)
    assert complaint in str(caught.value)
    assert "secret" not in str(caught.value)


def test_addresses(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("EDGEPAIN_MQTT_USER", raising=False)
    address = mqtt_address("mqtt://broker/hospital/ward%203/")
    assert (address.host, address.port, address.tls, address.prefix, address.user) == (
        "broker", 1883, False, "hospital/ward 3", None,
    )  # fmt: skip
    assert address.topic("bed 7", "decision") == "hospital/ward 3/bed 7/decision"
    assert mqtt_address("mqtts://[::1]").port == 8883
    assert mqtt_address("mqtt://host").topic("a", "status") == "a/status"
    monkeypatch.setenv("EDGEPAIN_MQTT_USER", "nurse")
    monkeypatch.setenv("EDGEPAIN_MQTT_PASSWORD", "secret")
    assert "secret" not in repr(mqtt_address("mqtts://host"))


@pytest.mark.parametrize("host", ["broker.example", "192.168.0.7", "[fd00::7]", "localhost.example"])
def test_a_password_goes_over_no_network_in_clear_text(monkeypatch: pytest.MonkeyPatch, host: str):
    monkeypatch.delenv("EDGEPAIN_MQTT_USER", raising=False)
    assert mqtt_address(f"mqtt://{host}").user is None
    monkeypatch.setenv("EDGEPAIN_MQTT_USER", "nurse")
    monkeypatch.setenv("EDGEPAIN_MQTT_PASSWORD", "secret")
    with pytest.raises(ConfigError, match="in clear text; give mqtts://") as caught:
        mqtt_address(f"mqtt://{host}")
    assert "secret" not in str(caught.value)
    assert mqtt_address(f"mqtts://{host}").user == "nurse"
    assert [mqtt_address(f"mqtt://{near}").user for near in ("localhost", "127.0.0.1", "[::1]")] == ["nurse"] * 3


@pytest.mark.parametrize(("mode", "text", "complaint"), [
    (0o644, "nurse\nsecret\n", "others may read the password in it; run: chmod 600"),
    (0o600, "", "expected two lines, user and password, got 0"),
    (0o600, "a\nb\nc\n", "expected two lines"),
])  # fmt: skip
def test_files_of_credentials(tmp_path: Path, mode: int, text: str, complaint: str):
    file = tmp_path / "credentials"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        mqtt_address("mqtt://host", file)
    assert complaint in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        mqtt_address("mqtt://host", tmp_path / "nothing")
    with pytest.raises(ConfigError, match="is for mqtts:// addresses"):
        mqtt_address("mqtt://host", ca_file=file)


@needs_broker
def test_edgepain_run_sends_decisions_and_its_death_is_told(broker, ward, live, simulate, tmp_path: Path):
    link = tmp_path / "wearable"
    options = ("--mqtt", f"{broker.url}/ward", "--mqtt-device", "bed 7", "--calibration", 1)
    with simulate("--link", link, "--no-wait", "--loop", "--speed", 5), live(link, *options) as run:
        ward.until(lambda: len(ward.of("ward/bed 7/decision")) > 8)
        assert run.end(signal.SIGKILL) == -signal.SIGKILL
        ward.until(lambda: len(ward.of("ward/bed 7/status")) == 2)
    online, offline = ward.of("ward/bed 7/status")
    assert online["state"] == "online"
    assert (offline["state"], offline["why"]) == ("offline", "the connection broke")
    assert [each["index"] for each in ward.of("ward/bed 7/decision")][:8] == list(range(8))
    assert ward.of("ward/bed 7/link")[0]["state"] == "connected"


@needs_broker
def test_edgepain_run_goes_on_without_its_broker(broker, ward, live, simulate, tmp_path: Path):
    link = tmp_path / "wearable"
    options = ("--mqtt", f"{broker.url}/ward", "--mqtt-device", "bed 7", "--calibration", 1)
    with simulate("--link", link, "--no-wait", "--loop", "--speed", 5), live(link, *options) as run:
        ward.until(lambda: len(ward.of("ward/bed 7/decision")) > 2)
        broker.stop()
        last = run.until(lambda line: line["type"] == "decision")["index"]
        run.until(lambda line: line["type"] == "decision" and line["index"] > last + 20)
        broker.start()
        ward.until(lambda: len(ward.of("ward/bed 7/decision")) > last + 25)
        assert run.end(signal.SIGINT) == 0
    ward.until(lambda: len(ward.of("ward/bed 7/decision")) == len(run.of("decision")))
    sent = [each["index"] for each in ward.of("ward/bed 7/decision")]
    assert sent == [each["index"] for each in run.of("decision")] == list(range(len(sent)))
    totals = run.summary["outputs"]["mqtt"]
    assert (totals["sent"], totals["waiting"], totals["dropped"]) == (len(sent) + len(run.of("link")), 0, 0)
    assert re_lines(run.errors) == ["MQTT: connected", "MQTT: no broker", "MQTT: connected"]


def re_lines(errors: str) -> list[str]:
    return [line.split(";")[0].split(" (")[0] for line in errors.splitlines() if line.startswith("MQTT")]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--replay", "x", "--mqtt", "mqtt://host"], "--mqtt is for a port; leave it out with --replay"),
        (["--port", "x", "--mqtt-ca", "y"], "--mqtt-ca is for --mqtt; give that too"),
    ],
)
def test_options_that_do_not_fit(options: list[str], complaint: str):
    command = [sys.executable, "-m", "edgepain", "run", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert complaint in done.stderr
