"""`edgepain convert`: a recording of the wire as a file that other tools open."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="convert")
@click.argument("logs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="LOG...")
@click.option(
    "--to", "kind", required=True, type=click.Choice(["xdf", "edf", "bdf", "parquet", "csv"]), help="The format."
)
@click.option("--out", type=click.Path(path_type=Path), help="File, or folder that exists. Default: beside each LOG.")
def command(logs: tuple[Path, ...], kind: str, out: Path | None) -> None:
    """Write the signals of each LOG in their units, with markers, on the computer's time.

    XDF, Parquet and CSV keep every value as it is; BDF+ and EDF+ round to steps of 24 and 16 bits.
    docs/recording.md says what each does with gaps and restarts. EDF+, BDF+ and Parquet need the extra [convert].

    \b
    Examples:
      edgepain convert monday.wire --to xdf
      edgepain convert *.wire --to parquet --out sessions/
    """
    from edgepain.cli.progress import error_console
    from edgepain.firmware_bridge.convert import convert_log, output_path

    if len(logs) > 1 and out is not None and not out.is_dir():
        raise click.UsageError(f"--out {out}: several logs need a folder that exists")
    for log in logs:
        path = output_path(log, kind, out)
        with error_console.status(f"converting {log}"):
            session = convert_log(log, kind, path)
        counts = [f"{modality}: {session.count(modality)} samples" for modality in session.modalities]
        click.echo(f"{path}: {', '.join(counts)}; {len(session.markers)} markers")
        if session.damage:
            lost_bytes = session.recording.lost_bytes
            click.echo(f"{log}: {lost_bytes} bytes of it are damaged and left out; see replay --check", err=True)
