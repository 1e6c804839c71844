"""The attention weights of one forward pass, and what else explains its answer.

Shapes: B batch, M modalities, S and T time steps, H heads, D width, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from edgepain.bundle import NetworkSpec
from edgepain.train.explain.contributions import ContributionMap, contribution_maps, over_steps
from edgepain.train.models import ALSTM, Attention, CrossFusion, CrossModTransformer, UnimodalStream, elish

Array = npt.NDArray[np.float32]
FUSION = "fusion"


@dataclass(frozen=True)
class AttentionMap:
    """Weights [H, S, T] of one attention: each row of S queries sums to 1 over T keys.

    Where a token stands for several time steps, each of them has the token's weight as if weights were spread over as
    many keys as there are steps; the last token may have fewer, and then the sum is 1 only where attention is even.
    block: the modality whose stream it stands in, or `fusion`. query, key: whose tokens ask and whose are looked at,
    `fcn` and `alstm` in a stream, modalities in the fusion; the same for self-attention.
    """

    block: str
    query: str
    key: str
    weights: Array

    @property
    def name(self) -> str:
        """Such as `eda.fcn-to-alstm`, or `fusion.eda-self`."""
        return f"{self.block}.{self.query}-self" if self.of_self else f"{self.block}.{self.query}-to-{self.key}"

    @property
    def of_self(self) -> bool:
        """Whether the tokens look at themselves."""
        return self.query == self.key

    @property
    def over_time(self) -> bool:
        """False where there is one token only, whose weight is always 1."""
        return bool(self.weights.shape[2] > 1)

    @property
    def mean(self) -> Array:
        """Mean over heads [S, T], times T: 1 where attention is spread evenly."""
        mean: Array = self.weights.mean(axis=0) * self.weights.shape[2]
        return mean

    @property
    def received(self) -> Array:
        """What each key step gets [T], mean over heads and queries, times T: 1 where attention is spread evenly."""
        received: Array = self.mean.mean(axis=0)
        return received

    @property
    def received_by_head(self) -> Array:
        """`received` of each head [H, T]."""
        received: Array = self.weights.mean(axis=1) * self.weights.shape[2]
        return received

    @property
    def diagonal(self) -> Array:
        """What each step gives to itself [S], mean over heads, times T: Figure 5 as the paper's text defines it."""
        return np.diagonal(self.mean)


@dataclass(frozen=True)
class Explanation:
    """Everything that one window made the network do.

    logits, probabilities: [K]. attention: every attention of the network. alstm: the ALSTM's own weights over time
    [S] by modality, times S. contributions: Figure 7, one map a modality and one of the fusion.
    """

    logits: Array
    probabilities: Array
    attention: tuple[AttentionMap, ...]
    alstm: Mapping[str, Array]
    contributions: tuple[ContributionMap, ...]

    @property
    def answer(self) -> int:
        """Index of the class with the highest probability."""
        return int(np.argmax(self.logits))


@dataclass(frozen=True)
class Call:
    """What a module was given and what it returned."""

    inputs: tuple[Tensor, ...]
    output: Any


@contextmanager
def observed(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Call]]:
    """Note the last call of each module, by its name, while the block runs."""
    calls: dict[str, Call] = {}

    def noting(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            calls[name] = Call(inputs, output)

        return hook

    handles = [module.register_forward_hook(noting(name)) for name, module in modules.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def explain(network: CrossModTransformer, heads: Mapping[str, nn.Linear], x_MS: Array) -> Explanation:
    """Explain the answer of a network in evaluation mode to one scaled window [M, S].

    The weights are computed from the very queries and keys of the forward pass that gives the logits. heads: see
    `contribution_maps`.
    """
    spec, places = network.spec, attentions(network)
    streams = unimodal_streams(network)
    modules: dict[str, nn.Module] = {place: attention for place, (_, attention) in places.items()}
    modules |= {f"alstm.{m}": stream.alstm for m, stream in streams.items()}
    modules |= {f"transformer.{m}": stream.transformer for m, stream in streams.items()}
    modules["crossmod.fusion"] = network.crossmod.fusion
    with torch.no_grad(), observed(modules) as calls:
        logits_K = network(torch.from_numpy(x_MS)[None])[0]
    with torch.no_grad():
        maps = tuple(
            AttentionMap(*names, _numpy(_over_steps(attention.weights(*calls[place].inputs)[0], spec)))
            for place, (names, attention) in places.items()
        )
        alstm = {
            m: _numpy(over_steps(alstm_weights(stream.alstm, calls[f"alstm.{m}"].output[0])[0], spec)) * spec.tokens
            for m, stream in streams.items()
        }
    sequences = {m: calls[f"transformer.{m}"].output[0][0] for m in streams}
    fused_SE = calls["crossmod.fusion"].output[0]
    answer = int(logits_K.argmax())
    return Explanation(
        logits=_numpy(logits_K),
        probabilities=_numpy(torch.softmax(logits_K, dim=0)),
        attention=maps,
        alstm=alstm,
        contributions=contribution_maps(network, heads, sequences, fused_SE, answer),
    )


def unimodal_streams(network: CrossModTransformer) -> dict[str, UnimodalStream]:
    """The streams by modality."""
    return {name: stream for name, stream in network.streams.items() if isinstance(stream, UnimodalStream)}


def attentions(network: CrossModTransformer) -> dict[str, tuple[tuple[str, str, str], Attention]]:
    """Every attention by a name of its own, with its block and whose tokens ask and are looked at."""
    found: dict[str, tuple[tuple[str, str, str], Attention]] = {}

    def add(block: str, fusion: CrossFusion, a: str, b: str) -> None:
        for query, key, attention in (
            (a, a, fusion.encoder_a.attention),
            (b, b, fusion.encoder_b.attention),
            (a, b, fusion.cross_a),
            (b, a, fusion.cross_b),
        ):
            found[f"{block}.{query}.{key}"] = (block, query, key), attention

    for m, stream in unimodal_streams(network).items():
        add(m, stream.transformer.fusion, "fcn", "alstm")
    add(FUSION, network.crossmod.fusion, *network.streams)
    return found


def alstm_weights(alstm: ALSTM, tokens_BSD: Tensor) -> Tensor:
    """The ALSTM's softmax over time [B, S] behind its tokens L_t = [c ; h_t] (Eqs. 6 to 9)."""
    hidden_BSH = tokens_BSD[..., tokens_BSD.shape[2] // 2 :]
    return torch.softmax(elish(alstm.score(hidden_BSH)), dim=1)[..., 0]


def _over_steps(weights_HST: Tensor, spec: NetworkSpec) -> Tensor:
    """Weights between tokens as weights between time steps; of single tokens as they are."""
    if weights_HST.shape[2] == 1:
        return weights_HST
    return over_steps(over_steps(weights_HST, spec, dim=1), spec, dim=2) * (spec.tokens / spec.steps)


def _numpy(x: Tensor) -> Array:
    array: Array = x.detach().numpy()
    return array
