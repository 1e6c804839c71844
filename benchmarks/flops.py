"""Multiply-adds of the network, from its shape alone.

Counted: convolutions, linear layers with the output projections of attention, the products of attention with
keys and values, all gates of the LSTM, and the weighted sum of its hidden states. Not counted: bias, batch and
layer norm, activations, softmax, means, which together are below one percent. 1 multiply-add = 2 FLOPs.

The counts are those of the network as it is trained. The exported graph needs less (`edgepain.export.rewrite`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from edgepain.bundle import NetworkSpec

TOTAL = "all sub-networks"
CONVOLUTIONS = ((1, 1, 8), (1, 2, 5), (2, 1, 3))
"""Inputs, outputs (in multiples of the width; the first input is 1 channel), kernel of each layer of the FCN."""


@dataclass(frozen=True)
class Count:
    """Multiply-adds of a sub-network by kind of operation."""

    name: str
    operations: dict[str, int]

    @property
    def multiply_adds(self) -> int:
        """Total."""
        return sum(self.operations.values())

    @property
    def mflops(self) -> float:
        """Millions of FLOPs, two a multiply-add."""
        return 2 * self.multiply_adds / 1e6


def fcn(spec: NetworkSpec) -> Count:
    """The FCN of one modality."""
    total = 0
    for index, (inputs, outputs, kernel) in enumerate(CONVOLUTIONS):
        channels = 1 if index == 0 else inputs * spec.width
        total += spec.tokens * channels * outputs * spec.width * kernel
    return Count("FCN", {"convolution": total})


def alstm(spec: NetworkSpec) -> Count:
    """The ALSTM of one modality."""
    hidden = spec.width // 2
    return Count(
        "ALSTM",
        {
            "LSTM": lstm_multiply_adds(spec.tokens, hidden, spec.stride),
            "linear": spec.tokens * hidden,
            "weighted sum": spec.tokens * hidden,
        },
    )


def lstm_multiply_adds(steps: int, hidden: int, inputs: int = 1) -> int:
    """A two-layer LSTM over so many channels: four gates, each on its input and on the hidden state."""
    return steps * 4 * hidden * ((inputs + hidden) + (hidden + hidden))


def transformer(spec: NetworkSpec) -> Count:
    """The Transformer block of one modality."""
    fused = _cross_fusion(spec.tokens, spec.width)
    fused["linear"] += _fc(2 * spec.width, spec.width)
    return Count("Transformer block", fused)


def crossmod(spec: NetworkSpec) -> Count:
    """The multi-modal stream, in the fusion mode of `spec`."""
    pooled = spec.fusion == "pooled"
    steps, width = (1, spec.width) if pooled else (spec.tokens, 2 * spec.width)
    fused = _cross_fusion(steps, width)
    fused["linear"] += _fc(2 * width, spec.width) + spec.width * spec.classes
    return Count("CrossMod", fused)


def total(spec: NetworkSpec) -> Count:
    """The whole network: three sub-networks a modality and the multi-modal stream."""
    operations: dict[str, int] = {}
    for part in (fcn(spec), alstm(spec), transformer(spec), crossmod(spec)):
        for name, count in part.operations.items():
            operations[name] = operations.get(name, 0) + count * times_needed(part.name, spec)
    return Count(TOTAL, operations)


def times_needed(name: str, spec: NetworkSpec) -> int:
    """How often the network holds the sub-network called `name`."""
    return 1 if name == "CrossMod" else len(spec.modalities)


def _cross_fusion(steps: int, width: int) -> dict[str, int]:
    """Two encoders (attention and two feed-forward layers) and two cross-attentions."""
    attentions = 4
    projections = attentions * 4 + 2 * 2
    return {
        "linear": projections * steps * width * width,
        "attention products": attentions * 2 * steps * steps * width,
    }


def _fc(inputs: int, width: int) -> int:
    """The three FC layers: inputs → 4D → 2D → D."""
    widths = (inputs, 4 * width, 2 * width, width)
    return sum(a * b for a, b in pairwise(widths))
