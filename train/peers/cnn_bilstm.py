"""1-D CNN and bidirectional LSTM at several levels of detail, in the manner of Phan et al., IEEE Access 11, 2023."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepain.train.peers.base import Inputs

EPOCHS, BATCH, LEARNING_RATE = 30, 128, 1e-3


class CnnBiLstm:
    """A fixed number of epochs, the last one counts; classes are weighted against their frequency."""

    def __init__(self, classes: int, seed: int) -> None:
        self._classes, self._seed = classes, seed

    def fit(self, inputs: Inputs, labels: npt.NDArray[np.int64], subjects: npt.NDArray[np.str_]) -> None:
        x, y = torch.from_numpy(inputs.x), torch.from_numpy(labels)
        weight = len(y) / (self._classes * torch.bincount(y, minlength=self._classes).clamp(min=1))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            self._network = _Network(x.shape[1], self._classes)
            adam = torch.optim.Adam(self._network.parameters(), lr=LEARNING_RATE)
            for rows in (part for _ in range(EPOCHS) for part in torch.split(torch.randperm(len(y)), BATCH)):
                adam.zero_grad()
                loss = functional.cross_entropy(self._network(x[rows]), y[rows], weight)
                loss.backward()  # type: ignore[no-untyped-call]
                adam.step()

    @torch.inference_mode()
    def predict(self, inputs: Inputs) -> npt.NDArray[np.float32]:
        x = torch.from_numpy(inputs.x)
        return torch.cat([self._network.eval()(part) for part in torch.split(x, 256)]).softmax(dim=1).numpy()


class _Network(nn.Module):
    """Three convolutions, each halving the steps; a biLSTM reads each one's output, the head all three."""

    def __init__(self, modalities: int, classes: int) -> None:
        super().__init__()
        shapes = ((modalities, 32, 7), (32, 64, 5), (64, 64, 3))
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv1d(i, o, k, stride=2, padding=k // 2), nn.BatchNorm1d(o), nn.ReLU())
            for i, o, k in shapes
        )
        self.lstms = nn.ModuleList(nn.LSTM(o, 32, batch_first=True, bidirectional=True) for _, o, _ in shapes)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(3 * 64, classes))

    def forward(self, x: Tensor) -> Tensor:
        levels = []
        for conv, lstm in zip(self.convs, self.lstms, strict=True):
            x = conv(x)
            levels.append(lstm(x.mT)[0].mean(dim=1))
        return self.head(torch.cat(levels, dim=1))  # type: ignore[no-any-return]
