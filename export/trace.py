"""A network becomes an ONNX graph for one window at a time."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import onnx_ir as ir
import torch
from onnx import numpy_helper
from onnxscript import optimizer

from edgepain.bundle import NetworkSpec
from edgepain.engine.onnx import INPUT_NAME, OUTPUT_NAME
from edgepain.errors import VerificationError
from edgepain.export.rewrite import LeanNetwork
from edgepain.export.tidy import tidy
from edgepain.train.models import CrossModTransformer

OPSET = 18
TRIED_TORCH = "2.13"
# No tensor of this network is larger: everything that depends on weights alone is computed here, not at load.
FOLD_LIMIT_ELEMENTS = 1 << 24


def trace(network: CrossModTransformer, *, powers: bool = True) -> onnx.ModelProto:
    """The network as ONNX: input `window` [1, M, S], output `logits` [1, K], float32, opset 18.

    powers: see `LeanNetwork`; False where the graph is to compute in fp16.

    `network` must be on the CPU and is set to evaluation mode. Raises VerificationError where an LSTM was not traced to
    the LSTM operator.
    """
    graph = _exported(LeanNetwork(network, powers=powers).eval(), network.spec)
    optimizer.optimize(graph, input_size_limit=FOLD_LIMIT_ELEMENTS, output_size_limit=FOLD_LIMIT_ELEMENTS)
    tidy(graph)
    model = ir.to_proto(graph)
    _lay_out_like_matmul(model)
    strip(model)
    onnx.checker.check_model(model, full_check=True)
    found = sum(node.op_type == "LSTM" for node in model.graph.node)
    wanted = sum(module.num_layers for module in network.modules() if isinstance(module, torch.nn.LSTM))
    if found != wanted:
        raise VerificationError(
            f"torch {torch.__version__} traced {wanted} LSTM layers to {found} LSTM operators; "
            f"install torch {TRIED_TORCH} or newer"
        )
    return model


def trace_as_it_is(network: CrossModTransformer) -> onnx.ModelProto:
    """The network as torch exports it, nothing rearranged: what `trace` is measured against."""
    return ir.to_proto(_exported(network.eval(), network.spec))


def _exported(module: torch.nn.Module, spec: NetworkSpec) -> ir.Model:
    window = torch.zeros(1, len(spec.modalities), spec.steps)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            (window,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            verbose=False,
        )
    assert program is not None
    return program.model


def _lay_out_like_matmul(model: onnx.ModelProto) -> None:
    """Store the weights of Gemm [inputs, outputs], as MatMul has them: one layout for all that follows."""
    weights = {t.name: t for t in model.graph.initializer}
    turned = set()
    for node in model.graph.node:
        transposed = [a for a in node.attribute if a.name == "transB" and a.i]
        if node.op_type == "Gemm" and transposed:
            turned.add(node.input[1])
            node.attribute.remove(transposed[0])
    for name in turned:
        weights[name].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights[name]).T.copy(), name))


def strip(model: onnx.ModelProto) -> None:
    """Leave out stack traces and class names of the machine that traced."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    del model.graph.value_info[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what torch's exporter says of itself: missing torchvision, its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*_flat_weights.* were assigned during export", UserWarning)
            warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
