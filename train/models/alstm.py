"""Attention-based LSTM: long-term dependencies of one signal (paper, Table 2, Eqs. 6 to 10).

Shapes: B batch, S time steps, H hidden width. With a stride R, tokens are ⌈S / R⌉ and not S.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepain.train.models.bf16 import Dropout, trains_in_bf16


def elish(x: Tensor) -> Tensor:
    """x for x ≥ 0, else (eˣ − 1) / (1 + e⁻ˣ) (Eq. 7 as printed), for any finite x without overflow."""
    return torch.where(x >= 0, x, torch.expm1(x.clamp(max=0)) * torch.sigmoid(x))


class ALSTM(nn.Module):
    """Two-layer LSTM whose hidden states are summed by attention.

    Input [B, 1, S]; returns tokens L [B, S, 2H] with L_t = [c ; h_t], and z = L_S = [c ; h_S] [B, 2H] (Eq. 10).
    stride: time steps that the LSTM is given at once, side by side; the last of them are filled up with zeros.
    """

    def __init__(self, width: int = 128, dropout: float = 0.2, stride: int = 1) -> None:
        super().__init__()
        hidden = width // 2
        self.stride = stride
        self.lstm = nn.LSTM(stride, hidden, num_layers=2, batch_first=True)
        self.dropout = Dropout(dropout)
        self.score = nn.Linear(hidden, 1)

    def forward(self, x_B1S: Tensor) -> tuple[Tensor, Tensor]:
        hidden_BSH, _ = self.lstm(self.steps(x_B1S))
        hidden_BSH = self.dropout(hidden_BSH)
        weights_BS1 = torch.softmax(elish(self.score(hidden_BSH)), dim=1)
        context_B1H = (weights_BS1 * hidden_BSH).sum(dim=1, keepdim=True)
        tokens_BSC = torch.cat([context_B1H.expand_as(hidden_BSH), hidden_BSH], dim=2)
        if trains_in_bf16(self):
            # Gradients then need not pass through all tokens to the last.
            return tokens_BSC, torch.cat([context_B1H[:, 0], hidden_BSH[:, -1]], dim=1)
        return tokens_BSC, tokens_BSC[:, -1]

    def steps(self, x_B1S: Tensor) -> Tensor:
        """What the LSTM is given, [B, ⌈S / R⌉, R]."""
        if self.stride == 1:
            return x_B1S.transpose(1, 2)
        return functional.pad(x_B1S, (0, -x_B1S.shape[2] % self.stride)).reshape(len(x_B1S), -1, self.stride)
