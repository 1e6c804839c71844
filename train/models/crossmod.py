"""The whole network: a uni-modal stream a modality, and the multi-modal stream that fuses them.

Shapes: B batch, M modalities, S time steps, D width, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgepain.bundle import NetworkSpec
from edgepain.train.models.alstm import ALSTM
from edgepain.train.models.bf16 import trains_in_bf16
from edgepain.train.models.fcn import FCN
from edgepain.train.models.transformer import CrossFusion, TransformerBlock, fc_layers


class CrossModFusion(nn.Module):
    """The multi-modal stream (Eq. 18), in one of two readings of the paper.

    `pooled`: fuses the embeddings m of each modality, one token [B, 1, D] each.
    `sequence`: fuses the sequences of Eq. 16, [B, S, 2D] each, and averages over S afterwards.
    Input: one feature a modality, [B, D] (pooled) or [B, S, 2D] (sequence). Returns logits [B, K].
    """

    def __init__(self, spec: NetworkSpec, dropout: float = 0.5) -> None:
        super().__init__()
        self.pooled = spec.fusion == "pooled"
        width = spec.width
        token_width = width if self.pooled else 2 * width
        self.fusion = CrossFusion(token_width, spec.heads, dropout)
        self.fc = fc_layers(2 * token_width, (4 * width, 2 * width, width), dropout)
        self.classify = nn.Linear(width, spec.classes)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        if not self.pooled:
            return self._logits(first, second)
        first, second = first.unsqueeze(1), second.unsqueeze(1)
        if not trains_in_bf16(self):
            return self._logits(first, second)
        # One token a modality is too little work for bfloat16 to save time.
        with torch.autocast("cpu", enabled=False):
            return self._logits(first, second)

    def _logits(self, first_BSE: Tensor, second_BSE: Tensor) -> Tensor:
        logits_BK: Tensor = self.classify(self.fc(self.fusion.mean(first_BSE, second_BSE)))
        return logits_BK


class UnimodalStream(nn.Module):
    """FCN, ALSTM and Transformer block of one modality.

    Input [B, 1, S]; returns the fused sequence M [B, S, 2D] and the embedding m [B, D].
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.fcn = FCN(spec.width, stride=spec.stride)
        self.alstm = ALSTM(spec.width, stride=spec.stride)
        self.transformer = TransformerBlock(spec.width, spec.heads)

    def forward(self, x_B1S: Tensor) -> tuple[Tensor, Tensor]:
        tokens_fcn, _ = self.fcn(x_B1S)
        tokens_alstm, _ = self.alstm(x_B1S)
        sequence, embedding = self.transformer(tokens_fcn, tokens_alstm)
        return sequence, embedding


class CrossModTransformer(nn.Module):
    """From scaled windows [B, M, S] to logits [B, K]. Softmax is left to whoever needs probabilities."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.streams = nn.ModuleDict({str(m): UnimodalStream(spec) for m in spec.modalities})
        self.crossmod = CrossModFusion(spec)

    def forward(self, x_BMS: Tensor) -> Tensor:
        features = []
        for index, stream in enumerate(self.streams.values()):
            sequence, embedding = stream(x_BMS[:, index : index + 1])
            features.append(embedding if self.crossmod.pooled else sequence)
        logits_BK: Tensor = self.crossmod(*features)
        return logits_BK


def assemble(spec: NetworkSpec, blocks: Mapping[str, Mapping[str, Tensor]]) -> CrossModTransformer:
    """Put trained blocks together, in evaluation mode.

    blocks: state dicts by stage name, `fcn.eda`, `alstm.eda`, `transformer.eda`, …, `crossmod`.
    """
    network = CrossModTransformer(spec)
    for name, stream in network.streams.items():
        assert isinstance(stream, UnimodalStream)
        for part in ("fcn", "alstm", "transformer"):
            getattr(stream, part).load_state_dict(blocks[f"{part}.{name}"])
    network.crossmod.load_state_dict(blocks["crossmod"])
    return network.eval()
