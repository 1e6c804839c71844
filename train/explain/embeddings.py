"""Where held-out windows lie in the embeddings of every block.

Shapes: N windows, M modalities, S steps, D width of an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import nn

from edgepain.errors import DataError
from edgepain.train.explain.attention import observed, unimodal_streams
from edgepain.train.explain.choice import Fold, Run
from edgepain.train.models import CrossModTransformer
from edgepain.train.windows import WindowTable

Method = Literal["tsne", "pca"]
BATCH = 256
# t-SNE and a plane of principal components say nothing about fewer points.
MIN_WINDOWS = 5


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of usable held-out windows.

    windows: the N rows of the run's table. answers: [N] int64, the class that the network gives. vectors: [N, D] by
    block: `fcn.<modality>`, `alstm.<modality>`, `transformer.<modality>`, and `crossmod`, before the last layer.
    """

    windows: WindowTable
    answers: npt.NDArray[np.int64]
    vectors: Mapping[str, npt.NDArray[np.float32]]


def embed_held_out(run: Run, fold: Fold) -> Embeddings:
    """Embed the held-out windows of a fold. Raises DataError where fewer than five can be scaled."""
    part = run.table.select(np.isin(run.table.subjects, fold.split.held_out))
    x, usable = part.scaled(run.scaling)
    if np.count_nonzero(usable) < MIN_WINDOWS:
        raise DataError(
            f"{np.count_nonzero(usable)} of {len(part)} held-out windows can be scaled; a map needs {MIN_WINDOWS}"
        )
    vectors, answers = _embed(fold.network(), x[usable])
    return Embeddings(part.select(usable), answers, vectors)


def project(vectors: npt.NDArray[np.float32], method: Method, seed: int = 0) -> npt.NDArray[np.float32]:
    """A plane [N, 2] of vectors [N, D], the same for the same seed: t-SNE, or the first two principal components."""
    if (vectors == vectors[0]).all():
        return np.zeros((len(vectors), 2), np.float32)
    if method == "pca":
        reducer = PCA(n_components=2, random_state=seed)
    else:
        # At most a third of the other points can be neighbours.
        reducer = TSNE(perplexity=min(30.0, (len(vectors) - 1) / 3), init="pca", random_state=seed)
    plane: npt.NDArray[np.float32] = reducer.fit_transform(vectors).astype(np.float32)
    return plane


def _embed(
    network: CrossModTransformer, x: npt.NDArray[np.float32]
) -> tuple[dict[str, npt.NDArray[np.float32]], npt.NDArray[np.int64]]:
    modules: dict[str, nn.Module] = {"crossmod": network.crossmod.fc}
    for m, stream in unimodal_streams(network).items():
        modules |= {f"fcn.{m}": stream.fcn, f"alstm.{m}": stream.alstm, f"transformer.{m}": stream.transformer}
    parts: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in modules}
    answers = []
    with torch.inference_mode(), observed(modules) as calls:
        for begin in range(0, len(x), BATCH):
            answers.append(network(torch.from_numpy(x[begin : begin + BATCH])).argmax(dim=1).numpy())
            for name, call in calls.items():
                # Blocks of a stream return (sequence, feature).
                feature = call.output if name == "crossmod" else call.output[1]
                parts[name].append(feature.numpy())
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}, np.concatenate(answers)
