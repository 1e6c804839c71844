"""`edgepain run`: live decisions from a sensor on a serial port."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepain.cli.device_options import device_options
from edgepain.cli.marker_options import marker_option
from edgepain.cli.polite_end import end_politely, end_undisturbed
from edgepain.cli.trust import trusted_key_option

if TYPE_CHECKING:
    from edgepain.bundle import Bundle
    from edgepain.engine import Engine
    from edgepain.runtime import Decider
    from edgepain.signal import Source


@click.command(name="run")
@click.option("--port", help="Serial port, e.g. /dev/ttyUSB0 or a name in /dev/serial/by-id.")
@click.option(
    "--replay", type=click.Path(path_type=Path), help="Instead of a port: judge a wire log made with --record."
)
@click.option("--model", type=click.Path(path_type=Path), help="Bundle. Default: the demonstration bundle.")
@trusted_key_option
@click.option("--precision", type=click.Choice(["fp32", "int8"]), help="Default: int8 where the bundle has it.")
@click.option(
    "--engine",
    "kind",
    type=click.Choice(["auto", "onnx", "tensorrt"]),
    default="auto",
    show_default=True,
    help="auto: TensorRT where `edgepain build` made an engine that fits this device, else ONNX Runtime.",
)
@click.option(
    "--engines",
    type=click.Path(path_type=Path),
    help="Folder of engines, where build was given --out; nobody else may write to it.",
)
@device_options
@marker_option
@click.option(
    "--hop", default=1.0, show_default=True, type=click.FloatRange(0.05, 3600), help="Seconds between windows."
)
@click.option("--calibration", type=click.FloatRange(0, 86400), help="Seconds at rest, instead of the bundle's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output, nothing else.")
@click.option("--record", type=click.Path(path_type=Path), help="Write all that comes over the wire to this new file.")
@click.option("--duration", type=click.FloatRange(0, min_open=True), help="End after this many seconds.")
@click.option(
    "--give-up",
    type=click.FloatRange(0, min_open=True),
    help="End with exit code 6 when no sample came for so many seconds. Default: never; 10 s for the first one.",
)
def command(
    port: str | None,
    replay: Path | None,
    model: Path | None,
    trusted_key: Path | None,
    precision: str | None,
    kind: str,
    engines: Path | None,
    device: str | None,
    device_options: dict[str, str],
    baud: int | None,
    markers: dict[str, str],
    hop: float,
    calibration: float | None,
    as_json: bool,
    record: Path | None,
    duration: float | None,
    give_up: float | None,
) -> None:
    """Judge the last 5.5 s of a wearable's signals every second.

    The wearable speaks edgeframe (docs/edgeframe.md), or is another --device (docs/devices.md). It first rests for a
    minute, so that its signals can be scaled by what came before. Ctrl-C ends the session with a summary.

    A pulled cable is waited for, and a sensor that stops is too, for ever: a day's session must not end with either.
    --give-up ends it then.

    With --marker, keys and lines of standard input mark moments as in `edgepain record`.

    Started by systemd with Type=notify, it says when it is ready and, with WatchdogSec, that it is alive
    (docs/deploy/raspberry-pi.md).

    --replay decides again on what --record kept, as fast as it can: the decisions are those of the session, except
    where that gave windows up because nothing came, and without latencies. What of the file is damaged is left out
    and told.

    \b
    Examples:
      edgepain run --port /dev/ttyUSB0 --model bundles/biovid --record monday.wire
      edgepain run --port /dev/ttyUSB0 --json | tee decisions.jsonl
      edgepain run --replay monday.wire --model bundles/biovid --json
    """
    of_a_port = {
        "device": device,
        "device-option": device_options or None,
        "baud": baud,
        "marker": markers or None,
        "record": record,
        "duration": duration,
        "give-up": give_up,
    }
    _check(port, replay, [name for name, value in of_a_port.items() if value is not None])
    import math
    import time
    from contextlib import ExitStack

    from rich.console import Console

    from edgepain.bundle import demonstration_bundle, open_bundle
    from edgepain.engine import choose_engine
    from edgepain.firmware_bridge import DEFAULT_DEVICE, DeviceSource, ReplaySource
    from edgepain.runtime import (
        Decider,
        JsonLines,
        Limits,
        ServiceManager,
        Session,
        TerminalView,
        TypedMarkers,
        forward,
    )

    bundle = open_bundle(model or demonstration_bundle(), trusted_key=trusted_key)
    if bundle.manifest.demonstration:
        click.echo(DEMONSTRATION, err=True)
    engine, remark = choose_engine(bundle, kind, precision, engines)  # type: ignore[arg-type]
    if remark:
        click.echo(remark, err=True)
    clock = None if replay else time.monotonic
    decider = Decider(bundle, engine, hop_s=hop, calibration_s=calibration, clock=clock)
    end_politely()
    service = ServiceManager(hop)
    with ExitStack() as open_ones:
        pulses = [service.pulse]
        if replay is None:
            read = DeviceSource(
                port or "",
                device=device or DEFAULT_DEVICE,
                options=device_options,
                baud=baud,
                record_to=record,
                reconnect_s=give_up,
            )
            open_ones.callback(read.close)
            source: Source = read
            limits = Limits(duration) if give_up is None else Limits(duration, give_up, give_up)
            if markers:
                typed = TypedMarkers(markers)
                open_ones.callback(typed.close)
                pulses.append(lambda: forward([typed], read.mark))
        else:
            # A file is never silent, however slow this machine is.
            source, limits = ReplaySource(replay), Limits(introduction_s=None, patience_s=math.inf)
        if as_json:
            lines = JsonLines(sys.stdout)
            lines.header(port=port, replay=replay and str(replay), **_header(bundle, engine, decider))
            Session(source, decider, [lines, service], limits, pulses).run()
        else:
            title = f"{bundle.manifest.name} · {engine.description}"
            with TerminalView(Console(), title) as view:
                Session(source, decider, [view, service], limits, pulses).run()
    end_undisturbed()


def _header(bundle: Bundle, engine: Engine, decider: Decider) -> dict[str, object]:
    """What decides, for whoever reads the decisions."""
    from edgepain import __version__

    return {
        "edgepain": __version__,
        "bundle": bundle.manifest.name,
        "demonstration": bundle.manifest.demonstration,
        "bundle_sha256": bundle.manifest.sha256,
        "trusted_key": bundle.signature.fingerprint if bundle.trusted and bundle.signature else None,
        "model_sha256": engine.model_sha256,
        "engine": engine.description,
        "hop_s": decider.hop_s,
        "calibration_s": decider.calibration_s,
    }


def _check(port: str | None, replay: Path | None, of_a_port: list[str]) -> None:
    if (port is None) == (replay is None):
        raise click.UsageError("give either --port or --replay")
    if replay is not None and of_a_port:
        raise click.UsageError(f"--{of_a_port[0]} is for a port; leave it out with --replay")


DEMONSTRATION = (
    "This is the demonstration bundle: trained on simulated people only. It shows the way from a sensor to a decision "
    "and says nothing about anybody's pain. Give your own with --model."
)
