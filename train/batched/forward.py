"""Training logits [K, B, classes] of K blocks of one kind, as those of `edgepain.train.models` give them.

Shapes: K networks, B windows of each, S time steps, C width, D width of a token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepain.train.batched.layers import Step, Weights, attention, batch_norm, convolution, layer_norm, linear
from edgepain.train.batched.lstm import lstm
from edgepain.train.models import ALSTM, FCN, CrossModFusion, TransformerBlock, elish
from edgepain.train.stage import Headed

# (weights, inputs [K, B, …], step) → logits [K, B, classes].
Forward: TypeAlias = "Callable[[Weights, tuple[Tensor, ...], Step], Tensor]"


def forward_of(model: nn.Module) -> Forward:
    """What trains stacked weights of models like this one."""
    if isinstance(model, CrossModFusion):
        return _fusion(model.pooled, model.fusion.cross_a.heads)
    assert isinstance(model, Headed)
    block = model.block
    if isinstance(block, FCN):
        return _headed(_fcn)
    if isinstance(block, ALSTM):
        return _headed(_alstm)
    assert isinstance(block, TransformerBlock)
    return _headed(_transformer(block.fusion.cross_a.heads))


def _headed(embed: Forward) -> Forward:
    def forward(weights: Weights, inputs: tuple[Tensor, ...], step: Step) -> Tensor:
        return linear(weights.part("head"), embed(weights.part("block"), inputs, step), step)

    return forward


def _fcn(weights: Weights, inputs: tuple[Tensor, ...], step: Step) -> Tensor:
    features_KBSC = inputs[0].transpose(2, 3)
    # Layer 0 of the model is its uneven padding.
    for layer, padding in ((1, (3, 4)), (5, (2, 2)), (9, (1, 1))):
        features_KBSC = convolution(weights.part(f"layers.{layer}"), features_KBSC, padding, step)
        features_KBSC = batch_norm(weights.part(f"layers.{layer + 1}"), features_KBSC, step)
        features_KBSC = step.drop(functional.relu(features_KBSC))
    return features_KBSC.mean(dim=2)


def _alstm(weights: Weights, inputs: tuple[Tensor, ...], step: Step) -> Tensor:
    hidden_KBSH = step.drop(lstm(weights.part("lstm"), inputs[0].transpose(2, 3), layers=2))
    score = weights.part("score")
    scores_KBS1 = hidden_KBSH @ score["weight"].mT.unsqueeze(1) + score["bias"][:, None, None]
    shares_KBS1 = torch.softmax(elish(scores_KBS1), dim=2)
    context_KBH = (shares_KBS1 * hidden_KBSH).sum(dim=2)
    return torch.cat([context_KBH, hidden_KBSH[:, :, -1]], dim=2)


def _transformer(heads: int) -> Forward:
    def embed(weights: Weights, inputs: tuple[Tensor, ...], step: Step) -> Tensor:
        fcn_KBSD, alstm_KBSD = inputs
        fused_KBC = _cross_fusion(weights.part("fusion"), fcn_KBSD, alstm_KBSD, heads, step)
        return _fc_layers(weights.part("fc"), fused_KBC, step)

    return embed


def _fusion(pooled: bool, heads: int) -> Forward:
    def forward(weights: Weights, inputs: tuple[Tensor, ...], step: Step) -> Tensor:
        first, second = (x.unsqueeze(2) for x in inputs) if pooled else inputs
        fused_KBC = _cross_fusion(weights.part("fusion"), first, second, heads, step)
        return linear(weights.part("classify"), _fc_layers(weights.part("fc"), fused_KBC, step), step)

    return forward


def _cross_fusion(weights: Weights, a_KBSD: Tensor, b_KBSD: Tensor, heads: int, step: Step) -> Tensor:
    """The mean of `CrossFusion` over S, [K, B, 2D]."""
    a_KBSD = _encoder(weights.part("encoder_a"), a_KBSD, heads, step)
    b_KBSD = _encoder(weights.part("encoder_b"), b_KBSD, heads, step)
    a_KBD = attention(weights.part("cross_a"), a_KBSD, b_KBSD, heads, step, mean=True)
    b_KBD = attention(weights.part("cross_b"), b_KBSD, a_KBSD, heads, step, mean=True)
    return torch.cat([a_KBD, b_KBD], dim=2)


def _encoder(weights: Weights, x_KBSD: Tensor, heads: int, step: Step) -> Tensor:
    attended = step.drop(attention(weights.part("attention"), x_KBSD, x_KBSD, heads, step))
    x_KBSD = layer_norm(weights.part("norm1"), x_KBSD + attended)
    hidden = functional.relu(linear(weights.part("feed_forward.0"), x_KBSD, step))
    fed = step.drop(linear(weights.part("feed_forward.2"), hidden, step))
    return layer_norm(weights.part("norm2"), x_KBSD + fed)


def _fc_layers(weights: Weights, x_KBC: Tensor, step: Step) -> Tensor:
    """`fc_layers` with three widths: dropout between them, none at the end."""
    for layer in (0, 3):
        x_KBC = step.drop(functional.relu(linear(weights.part(str(layer)), x_KBC, step)))
    return functional.relu(linear(weights.part("6"), x_KBC, step))
