"""`edgepain demo`: the whole way on one machine, with a simulated wearable and the demonstration bundle."""

from __future__ import annotations

import signal
import subprocess
import sys

import click

from edgepain.cli.polite_end import end_politely


@click.command(name="demo")
@click.option(
    "--seconds", default=150.0, show_default=True, type=click.FloatRange(70), help="Of the recording to play."
)
@click.option("--speed", default=5.0, show_default=True, type=click.FloatRange(1, 20), help="Times real time.")
@click.option("--bench/--no-bench", default=True, help="Measure the bundle at the end.")
def command(seconds: float, speed: float, bench: bool) -> None:
    """Play a simulated wearable on a pseudo-terminal, decide live, then measure the bundle.

    The recording and the bundle are synthetic: this shows the way from a sensor to a decision, and nothing about
    pain. Needs the base install only.

    \b
    Example:
      edgepain demo --seconds 90 --speed 10
    """
    end_politely()
    click.echo(f"1. a simulated wearable plays {seconds:g} s at {speed:g} times real time")
    # Its progress would be drawn over that of the session.
    simulator = _start("simulate", "--speed", f"{speed:g}", "--duration", f"{seconds:g}", output=subprocess.PIPE)
    try:
        assert simulator.stdout is not None
        port = simulator.stdout.readline().strip().removeprefix("port: ")
        if not port:
            click.echo(simulator.communicate()[1], err=True, nl=False)
            sys.exit(simulator.returncode)
        click.echo(f"2. live decisions from {port}")
        live = _start("run", "--port", port, "--give-up", "30")
        try:
            _until_played(simulator, live)
        finally:
            _end(live)
    finally:
        _end(simulator)
    if live.returncode:
        sys.exit(live.returncode)
    if bench:
        click.echo("3. the bundle, measured on this machine")
        sys.exit(_start("bench").wait())


def _start(*arguments: str, output: int | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "edgepain", *arguments], stdout=output, stderr=output, text=True)


def _until_played(simulator: subprocess.Popen[str], live: subprocess.Popen[str]) -> None:
    while simulator.poll() is None and live.poll() is None:
        try:
            simulator.wait(0.2)
        except subprocess.TimeoutExpired:
            continue
    if live.poll() is None:
        # Nothing more will come: let the session end as a person would end it, with its summary.
        live.send_signal(signal.SIGINT)
        live.wait()


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        process.wait()
