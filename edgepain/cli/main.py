"""The `edgepain` command group. Commands are imported only when they are asked for."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from edgepain.errors import EdgepainError

# name → (module, one line for the overview). The module has a click command called `command`.
COMMANDS = {
    "bench": ("edgepain.cli.bench", "FLOPs, latency and memory of a bundle, beside the paper's figures"),
    "build": ("edgepain.cli.build", "what a bundle is fastest with here: TensorRT engines, or a graph for the CPU"),
    "conformance": ("edgepain.cli.conformance", "what is wrong with a firmware's edgeframe stream, rule by rule"),
    "convert": ("edgepain.cli.convert", "a recording of the wire as XDF, EDF+, BDF+, Parquet or CSV"),
    "data": ("edgepain.cli.data", "check a dataset on disk, or write a simulated one in its layout"),
    "demo": ("edgepain.cli.demo", "a simulated wearable, live decisions and a benchmark, on this machine"),
    "devices": ("edgepain.cli.devices", "wearables that can be read, with signals, rates and wiring"),
    "doctor": ("edgepain.cli.doctor", "what may go wrong on this machine, and what to do"),
    "evaluate": ("edgepain.cli.evaluate", "judge a bundle on recordings, and compare with live decisions"),
    "explain": ("edgepain.cli.explain", "what a trained network looks at: attention and embeddings, in pictures"),
    "export": ("edgepain.cli.export", "turn a training run into a bundle for a device"),
    "firmware": ("edgepain.cli.firmware", "a C library and an Arduino sketch for a wearable of your own"),
    "inspect": ("edgepain.cli.inspect", "what to know of a bundle before trusting it"),
    "keygen": ("edgepain.cli.keygen", "a pair of keys to sign bundles with"),
    "lint": ("edgepain.cli.lint", "rules that an ONNX graph must keep for a runtime"),
    "pack": ("edgepain.cli.pack", "a bundle as one zip file"),
    "ports": ("edgepain.cli.ports", "serial ports by names that stay, and what is likely plugged in"),
    "record": ("edgepain.cli.record", "keep what a wearable sends, with markers; no model is needed"),
    "replay": ("edgepain.cli.replay", "play a recording of the wire on a port again, or say what is in it"),
    "report": ("edgepain.cli.report", "results of runs beside the paper's, as a page, tables and pictures"),
    "run": ("edgepain.cli.run", "live decisions from a sensor on a serial port"),
    "search": ("edgepain.cli.search", "choose learning rate and dropout of a run within its training subjects"),
    "sign": ("edgepain.cli.sign", "put a signature on a bundle"),
    "simulate": ("edgepain.cli.simulate", "play a recording or a simulated person as a wearable on a port"),
    "train": ("edgepain.cli.train", "train the staged CrossMod-Transformer on a dataset"),
}


class LazyGroup(click.Group):
    """Knows its commands by name and imports one only to run it: `run` must not pay for `train`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in sorted(COMMANDS.items())])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 unusable data or run, "
    "4 bundle refused, 5 a model does not answer like its original, 6 port trouble, 130 interrupted.",
)
@click.version_option(package_name="edgepain", message="edgepain %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def group(debug: bool) -> None:
    """Pain recognition from EDA and ECG/BVP: train, export, measure, run live."""


def main() -> None:
    """Run the command line and turn errors into one line and an exit code."""
    debug = "--debug" in sys.argv[1:]
    try:
        _exit(group.main(prog_name="edgepain", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        _exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        _exit(130)
    except EdgepainError as error:
        if debug:
            raise
        click.echo(f"error: {error}", err=True)
        _exit(error.exit_code)


def _exit(result: Any) -> None:
    sys.exit(result if isinstance(result, int) else 0)
