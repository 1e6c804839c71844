"""Attention blocks of both streams (paper, Table 3, Eqs. 11 to 17).

Shapes: B batch, S and T time steps, D width of a token, H heads, W width of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepain.train.models.bf16 import Dropout, factor, trains_in_bf16
from edgepain.train.models.bf16_attention import attention_in_bf16, powers_scale


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

    def _forward_bf16(self, query_BSD: Tensor, memory_BTD: Tensor) -> Tensor:
        scale = powers_scale(self.query.out_features // self.heads)
        powers_BSD = functional.linear(query_BSD, self.query.weight * scale, self.query.bias * scale)
        mixed_BSD = attention_in_bf16(powers_BSD, self.key(memory_BTD), self.value(memory_BTD), self.heads)
        joined_BSD: Tensor = self.out(mixed_BSD)
        return joined_BSD

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
        a_BSD, b_BSD = factor(self, self.encoder_a(a_BSD)), factor(self, self.encoder_b(b_BSD))
        return torch.cat([self.cross_a(a_BSD, b_BSD), self.cross_b(b_BSD, a_BSD)], dim=2)


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


def fc_layers(inputs: int, widths: tuple[int, ...], dropout: float) -> nn.Sequential:
    """Linear and ReLU for each width, with dropout between them."""
    layers: list[nn.Module] = []
    for outputs in widths:
        layers += [nn.Linear(inputs, outputs), nn.ReLU(), Dropout(dropout)]
        inputs = outputs
    return nn.Sequential(*layers[:-1])
