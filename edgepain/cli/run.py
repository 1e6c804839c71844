"""`edgepain run`: live decisions from a sensor on a serial port."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepain.cli.live_options import Live, live_options
from edgepain.cli.outputs import Outputs, output_options
from edgepain.cli.own_stdout import own_stdout
from edgepain.cli.polite_end import end_politely, end_undisturbed
from edgepain.cli.trust import trusted_key_option

if TYPE_CHECKING:
    from contextlib import AbstractContextManager, ExitStack

    from edgepain.bundle import Bundle
    from edgepain.engine import Engine
    from edgepain.runtime import Decider, Sink
    from edgepain.signal import Source


@click.command(name="run")
@live_options
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
@click.option(
    "--hop", default=1.0, show_default=True, type=click.FloatRange(0.05, 3600), help="Seconds between windows."
)
@click.option("--calibration", type=click.FloatRange(0, 86400), help="Seconds at rest, instead of the bundle's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output, nothing else.")
@output_options
def command(
    replay: Path | None,
    model: Path | None,
    trusted_key: Path | None,
    precision: str | None,
    kind: str,
    engines: Path | None,
    hop: float,
    calibration: float | None,
    as_json: bool,
    live: Live,
    outputs: Outputs,
) -> None:
    """Judge the last 5.5 s of a wearable's signals every second.

    The wearable speaks edgeframe (docs/edgeframe.md), or is another --device (docs/devices.md). It first rests for a
    minute, so that its signals can be scaled by what came before. Ctrl-C ends the session with a summary.

    A pulled cable is waited for, and a sensor that stops is too, for ever: a day's session must not end with either.
    --give-up ends it then.

    With --marker, keys and lines of standard input mark moments as in `edgepain record`; with --lsl-markers, another
    program does. --lsl-out and --mqtt send decisions on (docs/integration.md).

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
    _check(live, replay, outputs)
    import math
    import time
    from contextlib import ExitStack

    from edgepain.bundle import demonstration_bundle, open_bundle
    from edgepain.engine import choose_engine
    from edgepain.firmware_bridge import ReplaySource
    from edgepain.runtime import Decider, Limits, ServiceManager, Session

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
    with ExitStack() as stack:
        source: Source
        if replay is None:
            source, limits, pulses = live.open(stack)
        else:
            # A file is never silent, however slow this machine is.
            source, limits, pulses = ReplaySource(replay), Limits(introduction_s=None, patience_s=math.inf), []
        opened = outputs.open(bundle, source, stack)
        facts = {"port": live.port, "replay": replay and str(replay), **_header(bundle, engine, decider)}
        view = _view(facts, as_json, keeps=live.record is not None, stack=stack)
        Session(source, decider, [view, service], limits, [service.pulse, *pulses], opened).run()
    end_undisturbed()


def _view(facts: dict[str, object], as_json: bool, keeps: bool, stack: ExitStack) -> Sink:
    """What a person or a program sees. keeps: something is recorded, which nothing that is shown may hold up."""
    from functools import partial

    from rich.console import Console

    from edgepain.runtime import Background, JsonLines, TerminalView

    out = own_stdout() if keeps else sys.stdout
    if as_json:
        lines = JsonLines(out)
        if keeps:
            return stack.enter_context(Background(lines, first=partial(lines.header, **facts)))
        lines.header(**facts)
        return lines
    view = TerminalView(Console(file=out), f"{facts['bundle']} · {facts['engine']}")
    shown: AbstractContextManager[Sink] = Background(view, opened=view) if keeps else view
    return stack.enter_context(shown)


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


def _check(live: Live, replay: Path | None, outputs: Outputs) -> None:
    if (live.port is None) == (replay is None):
        raise click.UsageError("give either --port or --replay")
    given = live.given + outputs.given
    if replay is not None and given:
        raise click.UsageError(f"--{given[0]} is for a port; leave it out with --replay")


DEMONSTRATION = (
    "This is the demonstration bundle: trained on simulated people only. It shows the way from a sensor to a decision "
    "and says nothing about anybody's pain. Give your own with --model."
)
