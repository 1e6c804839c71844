"""Decisions to an MQTT broker, for a ward of devices: nothing is lost while the broker is away for hours.

What cannot be sent waits in memory, in order; the oldest is dropped where more than `MAX_WAITING` wait. Messages go out
with QoS 1: each arrives at least once, and its `id` tells whether it did before.
"""

from __future__ import annotations

import json
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import msgspec

from edgepain.errors import ConfigError, MissingExtraError
from edgepain.runtime.decision import Decision, utc
from edgepain.runtime.mqtt_address import MqttAddress, topic_part
from edgepain.runtime.session import OutputTotals, Summary
from edgepain.signal import DeviceInfo, LinkChange, Marker, Samples

# 14 hours at one decision a second; some 40 MB.
MAX_WAITING = 50_000
# On their way at once: more than a second's worth, so that a backlog is gone soon.
MAX_IN_FLIGHT = 20
FIRST_RETRY_S, LAST_RETRY_S = 1, 30
KEEPALIVE_S = 20
FINISH_S = 5.0


class MqttOut:
    """An output of a session; see `Output`.

    Topics: `PREFIX/DEVICE/decision`, `…/link` and, retained, `…/status`: online, or offline, which the broker says for
    a process that was killed. facts: what stands in `online`. tell: told in words when the broker comes and goes.
    waiting: most messages that wait.

    paho's thread only moves bytes and notes what happened; all decisions are made in the session's thread.

    Raises MissingExtraError, ConfigError.
    """

    name = "mqtt"

    def __init__(
        self,
        address: MqttAddress,
        device: str,
        facts: Mapping[str, Any],
        tell: Callable[[str], None] = lambda text: None,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._topics = {kind: address.topic(topic_part(device, "the name of the device"), kind) for kind in _KINDS}
        self._run = uuid4().hex[:12]
        self._facts = {"run": self._run, **facts}
        self._tell = tell
        self._max_waiting = max_waiting
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._in_flight: set[int] = set()
        self._sent = self._dropped = self._links = 0
        self._news: deque[tuple[str, Any]] = deque()
        self._connected = self._resuming = False
        # Until the broker is known to be away, it may still answer.
        self._hopeful = True
        self._told: set[str] = set()
        self._trouble = f"no answer of {address.host}:{address.port} yet"
        self._closing = threading.Event()
        self._client = self._start(address)

    def decision(self, decision: Decision) -> None:
        """Send a decision."""
        self._put("decision", {"id": f"{self._run}-{decision.index}", **msgspec.to_builtins(decision)})

    def link(self, change: LinkChange) -> None:
        """Send a change of the wire."""
        self._links += 1
        self._put(
            "link",
            {
                "id": f"{self._run}-link-{self._links}",
                "host_time": utc(time.monotonic() - change.at_s),
                "state": str(change.state),
                "detail": change.detail,
            },
        )

    def device(self, device: DeviceInfo) -> None:
        """Nothing."""

    def marker(self, marker: Marker) -> None:
        """Nothing."""

    def samples(self, samples: Samples) -> None:
        """Nothing."""

    def summary(self, summary: Summary) -> None:
        """Nothing."""

    def pulse(self) -> None:
        """Send what waits, as far as the broker takes it."""
        while self._news:
            kind, what = self._news.popleft()
            if kind == "sent":
                self._sent += what in self._in_flight
                self._in_flight.discard(what)
            else:
                self._turn(kind, what)
        # After a break paho first sends again what was on its way: later messages wait for that, to stay in order.
        self._resuming = self._resuming and bool(self._in_flight)
        while self._waiting and self._connected and not self._resuming and len(self._in_flight) < MAX_IN_FLIGHT:
            topic, payload = self._waiting.popleft()
            self._in_flight.add(self._client.publish(topic, payload, qos=1).mid)

    def finish(self) -> OutputTotals:
        """Send what waits, for a few seconds at most, and say that the session is over."""
        if self._client is None:
            return self._totals
        deadline_s = time.monotonic() + FINISH_S
        self.pulse()
        while self._hopeful and (self._waiting or self._in_flight) and time.monotonic() < deadline_s:
            time.sleep(0.02)
            self.pulse()
        if self._connected:
            told = self._client.publish(self._topics["status"], _status("offline", why="the session ended"), 1, True)
            while self._connected and not told.is_published() and time.monotonic() < deadline_s:
                time.sleep(0.02)
        self.close()
        return self._totals

    def close(self) -> None:
        """Leave the broker."""
        client, self._client = self._client, None
        if client is not None:
            self._closing.set()
            client.disconnect()
            client.loop_stop()

    @property
    def _totals(self) -> OutputTotals:
        left = len(self._waiting) + len(self._in_flight)
        return OutputTotals(self._sent, left, self._dropped, self._trouble if left or self._dropped else "")

    def _put(self, kind: str, content: dict[str, Any]) -> None:
        if len(self._waiting) >= self._max_waiting:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append((self._topics[kind], msgspec.json.encode(content)))
        self.pulse()

    def _turn(self, kind: str, why: str) -> None:
        self._connected = self._hopeful = kind == "connected"
        if self._connected:
            self._resuming = True
            self._tell(f"MQTT: connected; {len(self._waiting) + len(self._in_flight)} messages waited")
            self._told.clear()
            return
        self._trouble = why
        if kind not in self._told:
            self._tell(f"MQTT: no broker ({why}); messages wait")
        # A broker that refuses hangs up, too.
        self._told |= {kind, "lost"}

    def _start(self, address: MqttAddress) -> Any:
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ModuleNotFoundError as error:
            raise MissingExtraError("paho-mqtt", "mqtt") from error
        # A name of its own: two processes of one name would throw each other out for ever.
        client: Any = Client(CallbackAPIVersion.VERSION2, client_id=f"edgepain-{self._run}")
        client.will_set(self._topics["status"], _status("offline", why="the connection broke"), 1, True)
        if address.user is not None:
            client.username_pw_set(address.user, address.password)
        if address.tls:
            try:
                client.tls_set(str(address.ca_file) if address.ca_file else None)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"{address.ca_file}: no certificates can be read there ({error})") from error
        client.max_inflight_messages_set(MAX_IN_FLIGHT + 1)
        client.reconnect_delay_set(FIRST_RETRY_S, LAST_RETRY_S)
        where = f"{address.host}:{address.port}"
        self._listen(client, where)
        client.loop_forever = self._tireless(client.loop_forever, where)
        client.connect_async(address.host, address.port, KEEPALIVE_S)
        client.loop_start()
        return client

    def _tireless(self, loop_forever: Callable[..., Any], where: str) -> Callable[..., None]:
        """What paho's thread runs: an error that paho does not expect would end it for good, and only it would know."""

        def loop(**options: Any) -> None:
            while not self._closing.is_set():
                try:
                    loop_forever(**options)
                    return
                except Exception as error:
                    self._news.append(("lost", f"{where}: {error}"))
                    self._closing.wait(LAST_RETRY_S)

        return loop

    def _listen(self, client: Any, where: str) -> None:
        news = self._news

        def on_connect(client: Any, _: Any, flags: Any, reason: Any, properties: Any) -> None:
            if reason.is_failure:
                news.append(("refused", f"{where}: {reason}"))
                return
            online = _status("online", **self._facts)
            client.publish(self._topics["status"], online, 1, True)
            news.append(("connected", ""))

        def on_disconnect(client: Any, _: Any, flags: Any, reason: Any, properties: Any) -> None:
            news.append(("lost", f"{where}: {reason}"))

        def on_publish(client: Any, _: Any, mid: int, reason: Any, properties: Any) -> None:
            news.append(("sent", mid))

        client.on_connect, client.on_disconnect, client.on_publish = on_connect, on_disconnect, on_publish
        # paho calls this while it handles the error.
        client.on_connect_fail = lambda client, _: news.append(("lost", f"{where}: {sys.exc_info()[1]}"))


_KINDS = ("decision", "link", "status")


def _status(state: str, **facts: Any) -> bytes:
    return json.dumps({"state": state, "host_time": utc(), **facts}).encode()
