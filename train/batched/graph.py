"""A training step without the time it takes to start its kernels."""

from __future__ import annotations

from collections.abc import Callable

import torch

WARM_UP = 3


def repeatable(step: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """The same step, recorded once as a CUDA graph on a GPU: it reads and writes the same tensors each time.

    The step is called a few times before, on a stream of its own, as `torch.cuda.graph` asks for; it must then do
    nothing that lasts.
    """
    if device.type != "cuda":
        return step
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
