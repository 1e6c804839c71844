"""The yardstick of `edgepain bench train`: a stage as it is ordinarily written in PyTorch, all in float32.

TensorDataset, DataLoader, Adam, a loss read in every step. The blocks are the project's own, which outside of
bfloat16 are nn.Conv1d, nn.BatchNorm1d, nn.ReLU, nn.Dropout, nn.LSTM, nn.Linear, nn.LayerNorm and scaled dot-product
attention and nothing else.

`python -m edgepain.benchmarks.plain_training KIND WINDOWS THREADS CLOCK`: for every line of its input it runs an epoch
and answers {"plain": seconds, "kept": seconds}. In a process of its own, as training changes how memory is allocated.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from edgepain.benchmarks.train_blocks import CLOCKS, Blocks, Clock, Frozen


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


def main(kind: str, windows: int, threads: int, clock: Clock) -> None:
    """Serve epochs until standard input ends."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    blocks = Blocks.of(kind, windows)
    frozen, raw = blocks.frozen(), blocks.raw()
    rest = blocks.labels, blocks.config.batch_size, CLOCKS[clock]
    plain = plain_epochs(blocks.build(), (raw,), *rest, frozen)
    kept = plain_epochs(blocks.build(), blocks.kept(raw, frozen), *rest)
    for _ in sys.stdin:
        seconds = next(plain)
        answer = {"plain": seconds, "kept": seconds if frozen is None else next(kept)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _, kind, windows, threads, clock = sys.argv
    main(kind, int(windows), int(threads), "processor" if clock == "processor" else "wall")
