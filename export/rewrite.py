"""The network in fewer operations: the same function, rearranged before it is traced. Nothing is approximated.

- The mean over S after cross-attention (Eq. 17) commutes with the output projection and with the weighted sum
  of values, so the attention weights are averaged over the queries and values are projected for one vector a head.
- Its scores come from layer norms, so the weights bound them. Where their exponentials cannot leave fp32, the softmax
  needs no maximum, and its division is left to the average over the queries. So in the ALSTM's self-attention.
- With one token a softmax is 1: attention of the pooled fusion is its value and output projections.
- Linear layers that follow one another with nothing between them become one; the 1/√W of attention moves into the
  query weights.
- ELiSH is the larger of x and ELU(x) times sigmoid(x).
- One window at a time: without the axis of the batch, runtimes fold the transpositions of heads into the products.

Shapes: M modalities, S time steps, D width of a token, H hidden width of the LSTM, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepain.export.lean_attention import Powers, fused, fused_single, mean_fused, scores_that_fit_exp
from edgepain.train.models import ALSTM, CrossModTransformer, UnimodalStream


class LeanNetwork(nn.Module):
    """A scaled window [1, M, S] to logits [1, K], equal to `network` up to rounding. Shares its weights.

    powers: leave out the maximum of a softmax where fp32 can do without; fp16 cannot.
    """

    def __init__(self, network: CrossModTransformer, *, powers: bool = True) -> None:
        super().__init__()
        self.network = network
        self._powers: Powers = ()
        if powers:
            # Hidden states of an LSTM, and their weighted mean, lie within ±1.
            found = [scores_that_fit_exp(stream.transformer.fusion, small_b=True) for stream in self._streams()]
            self._powers = sum(found, scores_that_fit_exp(network.crossmod.fusion, small_b=False))

    def _streams(self) -> list[UnimodalStream]:
        return [stream for stream in self.network.streams.values() if isinstance(stream, UnimodalStream)]

    def forward(self, x_1MS: Tensor) -> Tensor:
        crossmod, powers = self.network.crossmod, self._powers
        features = []
        for m, stream in enumerate(self._streams()):
            x_11S = x_1MS[:, m : m + 1]
            tokens_fcn, _ = stream.fcn(x_11S)
            block, tokens = stream.transformer, (tokens_fcn.squeeze(0), _alstm_tokens(stream.alstm, x_11S))
            if crossmod.pooled:
                features.append(mean_fused(block.fusion, *tokens, block.fc, powers))
            else:
                features.append(fused(block.fusion, *tokens, powers))
        a, b = features
        if crossmod.pooled:
            last_1D = fused_single(crossmod.fusion, a, b, crossmod.fc)
        else:
            last_1D = mean_fused(crossmod.fusion, a, b, crossmod.fc, powers)
        logits_1K: Tensor = crossmod.classify(last_1D)
        return logits_1K


def _alstm_tokens(alstm: ALSTM, x_11S: Tensor) -> Tensor:
    """Tokens of the `ALSTM`, [S, D]."""
    hidden_SH = alstm.lstm(alstm.steps(x_11S))[0].squeeze(0)
    score_1S = alstm.score(hidden_SH).reshape(1, -1)
    elish_1S = torch.maximum(score_1S, functional.elu(score_1S) * torch.sigmoid(score_1S))
    context_1H = torch.softmax(elish_1S, dim=1) @ hidden_SH
    return torch.cat([context_1H.expand_as(hidden_SH), hidden_SH], dim=1)
