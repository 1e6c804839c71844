"""`edgepain firmware`: the C library for a device of one's own."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("firmware")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the files of an earlier copy.")
def command(folder: Path, force: bool) -> None:
    """Copy the edgeframe library for firmware to FOLDER/edgeframe: two C files, and an Arduino sketch for EDA and PPG.

    In the libraries folder of the Arduino IDE it is an installed library; elsewhere, compile src/edgeframe.c with
    your own (docs/firmware.md). `edgepain conformance` then checks what the firmware sends.

    \b
    Examples:
      edgepain firmware ~/Arduino/libraries
      edgepain firmware .
    """
    from edgepain.firmware_bridge.firmware_files import copy_firmware

    target = copy_firmware(folder, force=force)
    click.echo(f"{target}: src/edgeframe.h, src/edgeframe.c, examples/edgeframe_eda_ppg")
