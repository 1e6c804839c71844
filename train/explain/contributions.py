"""Which time step and which dimension of an embedding argue for the answer (paper, Figure 7).

The FC layers that make an embedding get the mean of a sequence over time. Their ReLUs make them linear around one
input, so the embedding is the sum of what each time step gives to it, plus a rest that the biases give. Times the
weights of the last linear layer, that is each step's and dimension's part of the logit.

Shapes: S time steps, E width of a sequence, D width of an embedding, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from edgepain.bundle import NetworkSpec
from edgepain.train.models import CrossModTransformer, UnimodalStream


@dataclass(frozen=True)
class ContributionMap:
    """Parts of the margin of the answer: its logit minus the mean of the other classes' logits.

    name: a modality (logits of its stream's own head, which training leaves behind) or `fusion` (the network's logits).
    parts: [D, S], positive where a dimension at a time step argues for the answer. margin: what they are parts of.
    exact: False where layer norms lie between time and embedding, so that the parts hold for small changes only.
    """

    name: str
    parts: npt.NDArray[np.float32]
    margin: float
    exact: bool

    @property
    def over_time(self) -> npt.NDArray[np.float32]:
        """Sum over dimensions [S]."""
        total: npt.NDArray[np.float32] = self.parts.sum(axis=0)
        return total

    @property
    def rest(self) -> float:
        """What no time step gives: biases, and where not `exact` what is not linear."""
        return self.margin - float(self.parts.sum(dtype=np.float64))


def contribution_maps(
    network: CrossModTransformer,
    heads: Mapping[str, nn.Linear],
    sequences: Mapping[str, Tensor],
    fused_SE: Tensor,
    answer: int,
) -> tuple[ContributionMap, ...]:
    """Maps of every modality and of the fusion.

    heads: what each modality's stream was trained under, from its embedding [D] to logits [K]. sequences: the fused
    sequence [S, E] of each modality (Eq. 16). fused_SE: what the fusion gives, one token where it is pooled; its time
    axis is then that of the sequences of both modalities.
    """
    streams = {m: stream for m, stream in network.streams.items() if isinstance(stream, UnimodalStream)}
    maps = [_map(m, [sequences[m]], _first_through(s.transformer.fc), heads[m], answer) for m, s in streams.items()]
    crossmod = network.crossmod
    if not crossmod.pooled:
        fused = _map("fusion", [fused_SE], _first_through(crossmod.fc), crossmod.classify, answer)
        return tuple(_over_steps(each, network.spec) for each in (*maps, fused))

    def embed(*means: Tensor) -> Tensor:
        tokens = [stream.transformer.fc(mean)[None, None] for stream, mean in zip(streams.values(), means, strict=True)]
        embedding: Tensor = crossmod.fc(crossmod.fusion(*tokens)[0, 0])
        return embedding

    fused = _map("fusion", [sequences[m] for m in streams], embed, crossmod.classify, answer, exact=False)
    return tuple(_over_steps(each, network.spec) for each in (*maps, fused))


def over_steps(x: Tensor, spec: NetworkSpec, dim: int = -1) -> Tensor:
    """What tokens have, given to each of the time steps that they stand for."""
    return x.repeat_interleave(spec.stride, dim).narrow(dim, 0, spec.steps)


def _over_steps(tokens: ContributionMap, spec: NetworkSpec) -> ContributionMap:
    """Of what a token argues for, each of its time steps has its share; that of steps past the window is rest."""
    parts = over_steps(torch.from_numpy(tokens.parts), spec) / spec.stride
    return replace(tokens, parts=parts.numpy())


def _first_through(fc: nn.Module) -> Callable[..., Tensor]:
    """The one mean that there is, through the FC layers."""

    def embed(mean: Tensor) -> Tensor:
        embedding: Tensor = fc(mean)
        return embedding

    return embed


def _map(
    name: str,
    sequences: list[Tensor],
    embed: Callable[..., Tensor],
    last: nn.Linear,
    answer: int,
    exact: bool = True,
) -> ContributionMap:
    """embed: from the mean over time [E] of each sequence to the embedding [D]. last: from there to the logits."""
    means = tuple(sequence.mean(dim=0) for sequence in sequences)
    slopes_DE = jacobian(embed, means)  # type: ignore[no-untyped-call]
    steps = len(sequences[0])
    with torch.no_grad():
        shares_DS = sum(slope @ sequence.T / steps for slope, sequence in zip(slopes_DE, sequences, strict=True))
        parts_DS = _margin(last.weight, answer)[:, None] * shares_DS
        margin = float(_margin(last(embed(*means)), answer))
    return ContributionMap(name, parts_DS.numpy(), margin, exact)


def _margin(logits: Tensor, answer: int) -> Tensor:
    """Row `answer` minus the mean of the others."""
    others = torch.cat([logits[:answer], logits[answer + 1 :]])
    return logits[answer] - others.mean(dim=0)
