"""Where an MQTT broker is, and who may speak to it."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from edgepain.errors import ConfigError

USER_VARIABLE, PASSWORD_VARIABLE = "EDGEPAIN_MQTT_USER", "EDGEPAIN_MQTT_PASSWORD"
_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True)
class MqttAddress:
    """prefix: what topics begin with; may be empty. ca_file: certificates to trust, None for those of the system."""

    host: str
    port: int
    tls: bool
    prefix: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None

    def topic(self, *parts: str) -> str:
        """A topic below the prefix."""
        return "/".join(filter(None, (self.prefix, *parts)))


def mqtt_address(url: str, credentials: Path | None = None, ca_file: Path | None = None) -> MqttAddress:
    """From `mqtt://host:port/prefix` or `mqtts://…`.

    User and password are two lines of the file `credentials`, else EDGEPAIN_MQTT_USER and EDGEPAIN_MQTT_PASSWORD of
    the environment, else there are none. Raises ConfigError, for a password in the URL too: command lines are seen by
    everybody on the machine; and for one that would go over a network in clear text.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        # What no name can be, such as a..b, would be found out only where it is looked up.
        (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise ConfigError(f"{url!r}: {error}; give mqtt://host:1883/prefix") from error
    if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"{url!r} is no address of a broker; give mqtt://host:1883/prefix, or mqtts:// for TLS")
    if "@" in parts.netloc:
        raise ConfigError(
            f"the address of the broker has a user or password in it, which others can see; set {USER_VARIABLE} and "
            f"{PASSWORD_VARIABLE}, or name a file"
        )
    if ca_file is not None and (parts.scheme != "mqtts" or not ca_file.is_file()):
        raise ConfigError(f"{ca_file}: " + ("no such file" if parts.scheme == "mqtts" else "is for mqtts:// addresses"))
    prefix = topic_part(unquote(parts.path).strip("/"), "the prefix of topics", levels=True)
    user, password = _credentials(credentials)
    if user is not None and parts.scheme == "mqtt" and not _is_loopback(parts.hostname):
        raise ConfigError(
            f"user and password would go to {parts.hostname} in clear text; give mqtts://, or neither user nor password"
        )
    return MqttAddress(
        parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "mqtts", prefix, user, password, ca_file
    )


def topic_part(text: str, what: str, levels: bool = False) -> str:
    """`text`, where it may stand in a topic. Raises ConfigError."""
    if re.search(r"[+#\x00-\x1f\x7f]" if levels else r"[+#/\x00-\x1f\x7f]", text) or len(text) > 200:
        raise ConfigError(
            f"{what} is {text[:40]!r}: leave out +, # and control characters" + ("" if levels else " and /")
        )
    return text


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _credentials(file: Path | None) -> tuple[str | None, str | None]:
    if file is None:
        return os.environ.get(USER_VARIABLE), os.environ.get(PASSWORD_VARIABLE)
    try:
        mode, lines = file.stat().st_mode, file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: user and password cannot be read ({error}); check the name") from error
    if mode & 0o077:
        raise ConfigError(f"{file}: others may read the password in it; run: chmod 600 {file}")
    if not 1 <= len(lines) <= 2:
        raise ConfigError(f"{file}: expected two lines, user and password, got {len(lines)}")
    return lines[0], lines[1] if len(lines) > 1 else None
