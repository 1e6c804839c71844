"""Where decisions go besides the terminal: the options, and what they open."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from edgepain.bundle import Bundle
    from edgepain.runtime import Output
    from edgepain.signal import Source

_Command = TypeVar("_Command", bound=Callable[..., Any])
DEFAULT_NAME = "edgepain"
_OPTIONS = (
    click.option(
        "--lsl-out",
        is_flag=False,
        flag_value=DEFAULT_NAME,
        metavar="[NAME]",
        help="Publish decisions and clean signals as LSL streams NAME-…; needs edgepain[lsl] (docs/integration.md).",
    ),
    click.option(
        "--lsl-scope",
        type=click.Choice(["machine", "network"]),
        help="Who may see these streams. Default: this machine alone.",
    ),
    click.option(
        "--mqtt",
        metavar="URL",
        help="Send decisions to a broker: mqtt://host:1883/prefix, or mqtts:// for TLS; needs edgepain[mqtt]. User and "
        "password are EDGEPAIN_MQTT_USER and EDGEPAIN_MQTT_PASSWORD of the environment.",
    ),
    click.option(
        "--mqtt-device", metavar="ID", help="What stands for this wearable in topics. Default: the host's name."
    ),
    click.option(
        "--mqtt-credentials", type=click.Path(path_type=Path), help="File of two lines, user and password, instead."
    ),
    click.option("--mqtt-ca", type=click.Path(path_type=Path), help="Certificates to trust, instead of the system's."),
)


@dataclass(frozen=True)
class Outputs:
    """What was asked for."""

    lsl_out: str | None
    lsl_scope: str | None
    mqtt: str | None
    mqtt_device: str | None
    mqtt_credentials: Path | None
    mqtt_ca: Path | None

    def __post_init__(self) -> None:
        for option in ("mqtt_device", "mqtt_credentials", "mqtt_ca"):
            if self.mqtt is None and getattr(self, option) is not None:
                raise click.UsageError(f"--{option.replace('_', '-')} is for --mqtt; give that too")
        if self.lsl_out is None and self.lsl_scope is not None:
            raise click.UsageError("--lsl-scope is for --lsl-out; give that too")

    @property
    def given(self) -> list[str]:
        """Names of the outputs that were asked for."""
        return [name for name, value in (("lsl-out", self.lsl_out), ("mqtt", self.mqtt)) if value is not None]

    def open(self, bundle: Bundle, source: Source, stack: ExitStack) -> list[Output]:
        """What was asked for, to be closed with `stack`. Raises MissingExtraError, ConfigError."""
        outputs = [*self._open_lsl(bundle, source), *self._open_mqtt(bundle)]
        for output in outputs:
            stack.callback(output.close)
        return outputs

    def _open_lsl(self, bundle: Bundle, source: Source) -> list[Output]:
        if self.lsl_out is None:
            return []
        from edgepain.runtime.lsl_out import LslOut

        manifest = bundle.manifest
        period_s = manifest.window_spec.period_s
        everywhere = self.lsl_scope == "network"
        return [
            LslOut(
                self.lsl_out,
                manifest.labels,
                manifest.network.modalities,
                period_s,
                source.host_s,
                everywhere=everywhere,
            )
        ]

    def _open_mqtt(self, bundle: Bundle) -> list[Output]:
        if self.mqtt is None:
            return []
        import socket

        from edgepain.runtime.mqtt_address import mqtt_address
        from edgepain.runtime.mqtt_out import MqttOut

        address = mqtt_address(self.mqtt, self.mqtt_credentials, self.mqtt_ca)
        facts = {"bundle": bundle.manifest.name, "bundle_sha256": bundle.manifest.sha256}
        return [
            MqttOut(address, self.mqtt_device or socket.gethostname(), facts, lambda text: click.echo(text, err=True))
        ]


def output_options(command: _Command) -> _Command:
    """Add the options of outputs; given as one argument, `outputs`."""

    @functools.wraps(command)
    def with_outputs(**given: Any) -> Any:
        asked = {name: given.pop(name) for name in Outputs.__dataclass_fields__}
        return command(**given, outputs=Outputs(**asked))

    wrapped: Any = with_outputs
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]
