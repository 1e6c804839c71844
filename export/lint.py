"""A lint for ONNX graphs: what a runtime refuses, or, worse, takes and answers wrongly, found before it gets there.

    opset              newer than the runtime reads, or one that it reads wrongly
    schema             not valid ONNX of its opset (as edited by hand, or written with another opset's operators)
    domain             operators of a vendor
    external-data      weights outside the folder, or beyond the end of their file
    weights            a weight that is no finite number
    dynamic-shape      inputs, outputs or activations without a fixed shape
    forbidden-operator unknown there, or known to be slow or wrong
    unfolded           something between a weight and its layer that should have been computed at export
    conv1d             a quantized convolution over one dimension
    zero-point         quantization that is not symmetric
    axis               weights that are not quantized per output channel
    scale              not positive, not finite, of the wrong count or type
    placement          Q/DQ anywhere but in front of a convolution or linear layer

The last five are of explicit quantization (Q/DQ) and hold for TensorRT; for ONNX Runtime only weights must be
symmetric, and scales sound.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, external_data_helper, numpy_helper

from edgepain.errors import DataError, VerificationError

Rules = Literal["onnxruntime", "tensorrt-8.5", "tensorrt-8.6", "tensorrt-10", "tensorrt-11"]
RULES: tuple[Rules, ...] = get_args(Rules)
MAX_ONNX_BYTES = 1 << 30


@dataclass(frozen=True)
class Finding:
    """What breaks a rule. rule: one of those in the module's table; where: node, tensor or input."""

    rule: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.where}: {self.what}"


class Linted:
    """A graph, and who makes and takes each of its tensors."""

    def __init__(self, model: onnx.ModelProto, rules: Rules, folder: Path) -> None:
        self.model = model
        self.rules = rules
        self.folder = folder
        self.tensors = {t.name: t for t in model.graph.initializer}
        self.producers = {name: node for node in model.graph.node for name in node.output}
        self.consumers: dict[str, list[tuple[NodeProto, int]]] = defaultdict(list)
        for node in model.graph.node:
            for index, name in enumerate(node.input):
                self.consumers[name].append((node, index))

    @property
    def for_tensorrt(self) -> bool:
        """Whether the rules are those of a TensorRT."""
        return self.rules != "onnxruntime"

    @cached_property
    def opset(self) -> int:
        """Version of the standard operators; 0 where the file names none."""
        return max((o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx")), default=0)

    def values(self, name: str) -> npt.NDArray[np.generic] | None:
        """An initializer's values, None where `name` is none."""
        return numpy_helper.to_array(self.tensors[name]) if name in self.tensors else None

    def source(self, name: str) -> str:
        """The tensor that goes into the Q/DQ pair that `name` comes out of, or `name` itself."""
        node = self.producers.get(name)
        while node is not None and node.op_type in ("DequantizeLinear", "QuantizeLinear"):
            name = node.input[0]
            node = self.producers.get(name)
        return name

    def is_dequantized(self, name: str) -> bool:
        """Whether a tensor comes out of a DequantizeLinear."""
        node = self.producers.get(name)
        return node is not None and node.op_type == "DequantizeLinear"


def lint(path: Path, rules: Rules) -> tuple[Finding, ...]:
    """What in the ONNX file `path` breaks `rules`. Raises DataError where it is no ONNX file at all."""
    from edgepain.export.lint_rules import CHECKS, check_external_data

    model = _load(path)
    linted = Linted(model, rules, path.parent)
    found: list[Finding] = []
    try:
        # onnx warns of keys that it does not know and goes on.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found += check_external_data(linted)
            if found:  # Nothing else can be told without the weights.
                return tuple(found)
            external_data_helper.load_external_data_for_model(model, str(path.parent))
            for check in CHECKS:
                found += check(linted)
    # A hostile file may break any assumption of the checks; that it does is a finding.
    except (ValueError, TypeError, IndexError, KeyError, OSError, Warning) as error:
        found.append(Finding("schema", path.name, " ".join(str(error).split()) or type(error).__name__))
    return tuple(dict.fromkeys(found))


def require_clean(path: Path, rules: Rules) -> None:
    """Raise VerificationError, naming the first finding, where `path` breaks `rules`."""
    found = lint(path, rules)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise VerificationError(f"{path.name} breaks a rule of {rules}: {found[0]}{more}; see edgepain lint --help")


def _load(path: Path) -> onnx.ModelProto:
    try:
        if path.stat().st_size > MAX_ONNX_BYTES:
            raise DataError(
                f"{path} is larger than {MAX_ONNX_BYTES >> 20} MB and was not read; give a graph of edgepain"
            )
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}); name an .onnx file") from error
    except Exception as error:  # protobuf's DecodeError has no base that onnx exports.
        raise DataError(f"{path} is no ONNX file ({' '.join(str(error).split())}); export the bundle again") from error
    if not model.graph.node:
        raise DataError(f"{path} is no ONNX file (it has no operators); export the bundle again")
    return model


def is_float(tensor: TensorProto) -> bool:
    """Whether a tensor holds fp32 or fp16."""
    return tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16)
