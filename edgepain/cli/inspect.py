"""`edgepain inspect`: what to know of a bundle before trusting it."""

from __future__ import annotations

from pathlib import Path

import click

from edgepain.cli.trust import trusted_key_option


@click.command("inspect")
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@trusted_key_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def command(bundle: Path | None, trusted_key: Path | None, as_json: bool) -> None:
    """Check BUNDLE (by default the packaged demonstration) and say what it is.

    Who made and signed it, for which sensors, trained on whom and how, how accurate on people held out, what was
    quantized, and every file. Nothing of the bundle is run.

    \b
    Examples:
      edgepain inspect bundles/people
      edgepain inspect people.zip --trusted-key ward7.key.pub --json
    """
    import msgspec

    from edgepain.bundle import demonstration_bundle, inspect_bundle

    inspection = inspect_bundle(bundle or demonstration_bundle(), trusted_key=trusted_key)
    if as_json:
        click.echo(msgspec.json.encode(inspection))
        return
    from rich.console import Console
    from rich.text import Text

    from edgepain.cli.inspect_view import show

    console = Console()
    show(inspection, console)
    if inspection.manifest.targets:
        from edgepain.bundle import open_bundle
        from edgepain.cli.tensorrt_table import tensorrt_note, tensorrt_table
        from edgepain.engine.tensorrt.recipe import read_recipe

        recipe = read_recipe(open_bundle(Path(inspection.path), trusted_key=trusted_key))
        console.print(tensorrt_table(recipe))
        console.print(Text(tensorrt_note(recipe)))
