"""The yardstick of `edgepain bench train`: a stage as it is ordinarily written in PyTorch, all in float32.

TensorDataset, DataLoader, Adam, a loss read in every step. The blocks are the project's own, which outside of
bfloat16 are nn.Conv1d, nn.BatchNorm1d, nn.ReLU, nn.Dropout, nn.LSTM, nn.Linear, nn.LayerNorm and scaled dot-product
attention and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

Frozen = Callable[..., tuple[Tensor, ...]]


def plain_epochs(
    model: nn.Module,
    inputs: Sequence[Tensor],
    labels: Tensor,
    batch_size: int,
    clock: Callable[[], float],
    frozen: Frozen | None = None,
) -> Iterator[float]:
    """Train `model` for ever; seconds of each epoch by `clock`.

    frozen: what the blocks before this one make of a batch; they run again in every step.
    """
    loader = DataLoader(TensorDataset(*inputs, labels), batch_size=batch_size, shuffle=True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    while True:
        start = clock()
        model.train()
        total_loss = 0.0
        for *batch, targets in loader:
            if frozen is not None:
                with torch.no_grad():
                    batch = frozen(*batch)
            loss = criterion(model(*batch), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total_loss += loss.item() * len(targets)
        yield clock() - start
