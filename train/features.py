"""Features of frozen blocks, computed once, kept on disk and mapped into memory."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from edgepain.train.files import make_folder, write_atomically

BATCH = 256


def frozen_features(folder: Path, name: str, block: nn.Module, inputs: tuple[Tensor, ...], index: int) -> Tensor:
    """What the frozen block gives for inputs [N, …], as one float32 tensor [N, …] mapped from `folder`.

    index: 0 for the tokens, 1 for the feature that the block returns. The file name carries a hash of
    weights and inputs, so features of other weights or windows are never taken for these.
    """
    digest = hashlib.sha256(f"{_weights_hash(block)} {index}".encode())
    for x in inputs:
        digest.update(np.ascontiguousarray(x.numpy()).view(np.uint8).data)
    make_folder(folder)
    path = folder / f"{name}.{digest.hexdigest()[:16]}.npy"
    if not path.is_file():
        write_atomically(path, lambda file: _compute(file, block.eval(), inputs, index))
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def _compute(file: BinaryIO, block: nn.Module, inputs: tuple[Tensor, ...], index: int) -> None:
    """Written batch by batch: a full disk is an error here, where a memory-mapped file would kill the process."""
    count = len(inputs[0])
    with torch.inference_mode():
        for begin in range(0, count, BATCH):
            features = np.ascontiguousarray(block(*(x[begin : begin + BATCH] for x in inputs))[index].numpy())
            if begin == 0:
                header = np.lib.format.header_data_from_array_1_0(features)
                np.lib.format.write_array_header_1_0(file, {**header, "shape": (count, *features.shape[1:])})
            file.write(features.data)


def _weights_hash(model: nn.Module) -> str:
    """Hash of all weights and buffers of a block."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
