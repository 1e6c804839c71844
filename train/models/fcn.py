"""Fully convolutional network: short-term patterns of one signal (paper, Table 1, Eqs. 1 to 5).

Shapes: B batch, S time steps, C width. With a stride, tokens are ⌈S / stride⌉ and not S.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgepain.train.models.bf16 import convolved, normalised, trains_in_bf16


class FCN(nn.Module):
    """Three convolutions that keep the length, each with batch norm, ReLU and dropout.

    Input [B, 1, S]; returns tokens F [B, S, C] and their mean over time g [B, C] (Eq. 5). stride: of the first one.
    """

    def __init__(self, width: int = 128, dropout: float = 0.2, stride: int = 1) -> None:
        super().__init__()
        # An even kernel cannot be padded evenly: 3 left, 4 right keeps S.
        self.layers = nn.Sequential(
            nn.ConstantPad1d((3, 4), 0.0),
            *_convolution(1, width, 8, 0, dropout, stride),
            *_convolution(width, 2 * width, 5, 2, dropout),
            *_convolution(2 * width, width, 3, 1, dropout),
        )

    def forward(self, x_B1S: Tensor) -> tuple[Tensor, Tensor]:
        if trains_in_bf16(self):
            return self._forward_bf16(x_B1S)
        features_BCS = self.layers(x_B1S)
        return features_BCS.transpose(1, 2), features_BCS.mean(dim=2)

    def _forward_bf16(self, x_B1S: Tensor) -> tuple[Tensor, Tensor]:
        pad, *layers = self.layers
        features_BC1S = pad(x_B1S).unsqueeze(2)
        for convolution, norm, _, dropout in zip(*[iter(layers)] * 4, strict=True):
            features_BC1S = normalised(convolved(features_BC1S, convolution), norm, dropout.p)
        features_BSC = features_BC1S.squeeze(2).transpose(1, 2)
        return features_BSC, features_BSC.mean(dim=1)


def _convolution(
    inputs: int, outputs: int, kernel: int, padding: int, dropout: float, stride: int = 1
) -> list[nn.Module]:
    return [
        nn.Conv1d(inputs, outputs, kernel, stride, padding),
        nn.BatchNorm1d(outputs),
        nn.ReLU(),
        nn.Dropout(dropout),
    ]
