"""`edgepain record`: keep what a wearable sends, without a model."""

from __future__ import annotations

from pathlib import Path

import click

from edgepain.cli.device_options import device_options
from edgepain.cli.marker_options import lsl_markers_option, marker_option, open_lsl_markers
from edgepain.cli.own_stdout import own_stdout
from edgepain.cli.polite_end import end_politely, end_undisturbed


@click.command(name="record")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--port", required=True, help="Serial port, e.g. /dev/ttyUSB0 or a name in /dev/serial/by-id.")
@device_options
@marker_option
@lsl_markers_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output, nothing else.")
@click.option("--duration", type=click.FloatRange(0, min_open=True), help="End after this many seconds.")
@click.option(
    "--give-up",
    type=click.FloatRange(0, min_open=True),
    help="End with exit code 6 when no sample came for so many seconds. Default: never.",
)
def command(
    out: Path,
    port: str,
    device: str | None,
    device_options: dict[str, str],
    baud: int | None,
    markers: dict[str, str],
    lsl_markers: tuple[str, ...],
    as_json: bool,
    duration: float | None,
    give_up: float | None,
) -> None:
    """Write all that comes over the wire to the new file OUT, and show what arrives. No model is needed.

    Ctrl-C ends it with a summary. What is killed keeps all but its last second.

    On a terminal, keys mark moments: 0 to 9 are self-reported pain (NRS), x is 10, others as --marker says. Elsewhere
    each line of standard input is a marker; a number at its end is its value: `NRS 7`, `heat on`.

    `edgepain replay` plays OUT again, `edgepain convert` makes XDF, EDF+, BDF+, Parquet or CSV of it.

    \b
    Examples:
      edgepain record --port /dev/ttyUSB0 --marker h="heat on" --marker o="heat off" monday.wire
      edgepain record --port /dev/rfcomm0 --device bitalino --duration 600 monday.wire
      ./stimulus.sh | edgepain record --port /dev/ttyUSB0 --json monday.wire
    """
    from contextlib import ExitStack
    from functools import partial

    from rich.console import Console

    from edgepain.firmware_bridge import DEFAULT_DEVICE, DeviceSource
    from edgepain.runtime import Background, JsonLines, RecordingSession, RecordingView, TypedMarkers

    end_politely()
    with ExitStack() as stack:
        # First: to find out what speaks on the port takes a while, and what is marked meanwhile has its own time.
        typed = TypedMarkers(markers)
        stack.callback(typed.close)
        marked = [typed, *open_lsl_markers(lsl_markers, stack)]
        source = DeviceSource(
            port,
            device=device or DEFAULT_DEVICE,
            options=device_options,
            baud=baud,
            record_to=out,
            reconnect_s=give_up,
        )
        stack.callback(source.close)
        if as_json:
            lines = JsonLines(own_stdout())
            shown = Background(lines, first=partial(lines.header, port=port, recording=str(out)))
        else:
            view = RecordingView(Console(file=own_stdout()), f"recording to {out}", typed.hint)
            shown = Background(view, opened=view)
        with shown:
            RecordingSession(source, marked, [shown], duration, give_up).run()
    end_undisturbed()
