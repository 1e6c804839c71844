"""`edgepain lint`: what in an ONNX graph a runtime would refuse, or take and answer wrongly."""

from __future__ import annotations

from pathlib import Path

import click

from edgepain.cli.extras import require

RULES = ("onnxruntime", "tensorrt-8.5", "tensorrt-8.6", "tensorrt-10", "tensorrt-11")


@click.command("lint")
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--for", "rules", type=click.Choice(RULES), default="onnxruntime", show_default=True, help="Who is to read them."
)
def command(files: tuple[Path, ...], rules: str) -> None:
    """Check ONNX FILES by the rules of the runtime that is to read them; exit code 5 where one is broken.

    \b
    opset               newer than the runtime reads, or one that it reads wrongly
    schema              not valid ONNX of its opset
    domain              operators of a vendor
    external-data       weights outside the folder, or beyond the end of their file
    weights             a weight that is no finite number
    dynamic-shape       inputs, outputs or activations without a fixed shape
    forbidden-operator  unknown to the runtime, or known to be slow or wrong there
    unfolded            something between a weight and its layer (TensorRT)
    conv1d              a quantized convolution over one dimension (TensorRT)
    zero-point          quantization that is not symmetric
    axis                weights not quantized per output channel (TensorRT)
    scale               not positive, not finite, of the wrong type
    placement           Q/DQ elsewhere than in front of a convolution or linear layer (TensorRT)

    \b
    Examples:
      edgepain lint bundles/first/model.onnx bundles/first/model.int8.onnx
      edgepain lint bundles/orin/tensorrt/opset13.int8.onnx --for tensorrt-8.5
    """
    require("export", "torch", "sklearn", "safetensors", "onnx", "onnx_ir", "onnxscript")

    from edgepain.errors import VerificationError
    from edgepain.export.lint import lint

    broken = 0
    for path in files:
        found = lint(path, rules)  # type: ignore[arg-type]
        broken += bool(found)
        click.echo(f"{path}: {len(found) or 'nothing'} to complain of by the rules of {rules}")
        for finding in found:
            click.echo(f"  {finding}")
    if broken:
        raise VerificationError(f"{broken} of {len(files)} graphs break rules of {rules}; export them again")
