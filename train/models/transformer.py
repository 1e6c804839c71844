"""Attention blocks of both streams (paper, Table 3, Eqs. 11 to 17).

Shapes: B batch, S and T time steps, D width of a token, H heads, W width of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepain.train.models.bf16 import Dropout, factor, trains_in_bf16
from edgepain.train.models.bf16_attention import attention_in_bf16, mean_weights_in_bf16, powers_scale


class Attention(nn.Module):
    """Multi-head attention of a query sequence over a key/value sequence, with output projection (Eqs. 11 to 13)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        for projection in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(self, query_BSD: Tensor, memory_BTD: Tensor) -> Tensor:
        if trains_in_bf16(self):
            return self._forward_bf16(query_BSD, memory_BTD)
        mixed_BHSW = functional.scaled_dot_product_attention(
            self._split(self.query(query_BSD)),
            self._split(self.key(memory_BTD)),
            self._split(self.value(memory_BTD)),
        )
        joined_BSD: Tensor = self.out(mixed_BHSW.transpose(1, 2).flatten(2))
        return joined_BSD

    def mean_in_bf16(self, query_BSD: Tensor, memory_BTD: Tensor) -> Tensor:
        """The mean of `forward` over S, [B, D]: it is linear in the weights, so their mean over S is enough."""
        weights_BHT = mean_weights_in_bf16(self._powers(query_BSD), self.key(memory_BTD), self.heads)
        mixed_HBD = torch.bmm(weights_BHT, memory_BTD).transpose(0, 1)
        value_HDW = self.value.weight.view(self.heads, -1, memory_BTD.shape[2]).mT
        joined_BD = torch.bmm(mixed_HBD, value_HDW).transpose(0, 1).flatten(1) + self.value.bias
        mean_BD: Tensor = self.out(joined_BD)
        return mean_BD

    def _forward_bf16(self, query_BSD: Tensor, memory_BTD: Tensor) -> Tensor:
        key_BTD, value_BTD = self.key(memory_BTD), self.value(memory_BTD)
        joined_BSD: Tensor = self.out(attention_in_bf16(self._powers(query_BSD), key_BTD, value_BTD, self.heads))
        return joined_BSD

    def _powers(self, query_BSD: Tensor) -> Tensor:
        scale = powers_scale(self.query.out_features // self.heads)
        return functional.linear(query_BSD, self.query.weight * scale, self.query.bias * scale)

    def weights(self, query_BSD: Tensor, memory_BTD: Tensor) -> Tensor:
        """Attention weights [B, H, S, T], the softmax of Eq. 12."""
        query_BHSW = self._split(self.query(query_BSD))
        key_BHTW = self._split(self.key(memory_BTD))
        return torch.softmax(query_BHSW @ key_BHTW.transpose(2, 3) / math.sqrt(key_BHTW.shape[3]), dim=3)

    def _split(self, x_BSD: Tensor) -> Tensor:
        batch, steps, width = x_BSD.shape
        return x_BSD.reshape(batch, steps, self.heads, width // self.heads).transpose(1, 2)


class Encoder(nn.Module):
    """Self-attention and feed-forward, each with residual and layer norm after it (Eq. 14). [B, S, D] → [B, S, D]."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.norm2 = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, x_BSD: Tensor) -> Tensor:
        factor_BSD = factor(self, x_BSD)
        x_BSD = self.norm1(x_BSD + self.dropout(self.attention(factor_BSD, factor_BSD)))
        encoded_BSD: Tensor = self.norm2(x_BSD + self.dropout(self.feed_forward(x_BSD)))
        return encoded_BSD


class CrossFusion(nn.Module):
    """An encoder a sequence, cross-attention both ways, concatenation (Eqs. 14 to 16).

    Input: two sequences [B, S, D]; returns [B, S, 2D].
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.encoder_a = Encoder(width, heads, dropout)
        self.encoder_b = Encoder(width, heads, dropout)
        self.cross_a = Attention(width, heads)
        self.cross_b = Attention(width, heads)

    def forward(self, a_BSD: Tensor, b_BSD: Tensor) -> Tensor:
        a_BSD, b_BSD = self._encoded(a_BSD, b_BSD)
        return torch.cat([self.cross_a(a_BSD, b_BSD), self.cross_b(b_BSD, a_BSD)], dim=2)

    def mean(self, a_BSD: Tensor, b_BSD: Tensor) -> Tensor:
        """The mean of `forward` over S (Eq. 17), [B, 2D], at less cost where it trains in bfloat16."""
        if not trains_in_bf16(self):
            fused_BSE: Tensor = self(a_BSD, b_BSD)
            return fused_BSE.mean(dim=1)
        a_BSD, b_BSD = self._encoded(a_BSD, b_BSD)
        return torch.cat([self.cross_a.mean_in_bf16(a_BSD, b_BSD), self.cross_b.mean_in_bf16(b_BSD, a_BSD)], dim=1)

    def _encoded(self, a_BSD: Tensor, b_BSD: Tensor) -> tuple[Tensor, Tensor]:
        return factor(self, self.encoder_a(a_BSD)), factor(self, self.encoder_b(b_BSD))


class TransformerBlock(nn.Module):
    """Joins the FCN and ALSTM tokens of one modality.

    Input: F and L, [B, S, D] each. Returns the fused sequence M [B, S, 2D] (Eq. 16) and the embedding
    m [B, D]: mean over S (Eq. 17), then FC 2D → 4D → 2D → D, each with ReLU (Table 3, FC1 to FC3).
    """

    def __init__(self, width: int = 128, heads: int = 8, dropout: float = 0.2) -> None:
        super().__init__()
        self.fusion = CrossFusion(width, heads, dropout)
        self.fc = fc_layers(2 * width, (4 * width, 2 * width, width), dropout)

    def forward(self, fcn_BSD: Tensor, alstm_BSD: Tensor) -> tuple[Tensor, Tensor]:
        fused_BSE = self.fusion(fcn_BSD, alstm_BSD)
        return fused_BSE, self.fc(fused_BSE.mean(dim=1))

    def embed(self, fcn_BSD: Tensor, alstm_BSD: Tensor) -> Tensor:
        """The embedding alone, [B, D]: all that the head reads in training."""
        embedding_BD: Tensor = self.fc(self.fusion.mean(fcn_BSD, alstm_BSD))
        return embedding_BD


def fc_layers(inputs: int, widths: tuple[int, ...], dropout: float) -> nn.Sequential:
    """Linear and ReLU for each width, with dropout between them."""
    layers: list[nn.Module] = []
    for outputs in widths:
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), Dropout(dropout)]
        inputs = outputs
    return nn.Sequential(*layers[:-1])
