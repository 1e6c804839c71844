"""The network beside Tables 1 to 3 of the paper, its equations, and its shapes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from edgepain.bundle import NetworkSpec
from edgepain.signal import Modality
from edgepain.train.models import ALSTM, FCN, Attention, CrossModTransformer, TransformerBlock, elish

B, S = 3, 138


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# Layer, parameters and output shape as printed in Table 1; ours are the same row by row.
TABLE_1 = [
    ("Conv1d 1", nn.Conv1d, 0, 1_152, (B, S, 128)),
    ("BatchNorm1d 1", nn.BatchNorm1d, 0, 256, (B, S, 128)),
    ("Conv1d 2", nn.Conv1d, 1, 164_096, (B, S, 256)),
    ("BatchNorm1d 2", nn.BatchNorm1d, 1, 512, (B, S, 256)),
    ("Conv1d 3", nn.Conv1d, 2, 98_432, (B, S, 128)),
    ("BatchNorm1d 3", nn.BatchNorm1d, 2, 256, (B, S, 128)),
]


@pytest.mark.parametrize(("row", "kind", "index", "printed", "shape"), TABLE_1)
def test_rows_of_table_1(row: str, kind: type[nn.Module], index: int, printed: int, shape: tuple[int, ...]) -> None:
    network = FCN().eval()
    layer = [m for m in network.modules() if isinstance(m, kind)][index]
    shapes = []
    layer.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.transpose(1, 2).shape)))
    network(torch.randn(B, 1, S))
    assert parameters(layer) == printed, row
    assert shapes == [shape], row


def test_total_of_table_1() -> None:
    printed, left_out = 264_192, 512
    assert parameters(FCN()) == 264_704 == sum(row[3] for row in TABLE_1)
    assert parameters(FCN()) - left_out == printed, "the printed sum leaves out BatchNorm 2"


def test_fcn_gives_tokens_and_their_mean() -> None:
    tokens, feature = FCN().eval()(torch.randn(B, 1, S))
    assert tokens.shape == (B, S, 128)
    assert feature.shape == (B, 128)
    torch.testing.assert_close(feature, tokens.mean(dim=1))


def test_rows_of_table_2() -> None:
    network = ALSTM()
    printed_lstm = 33_792
    assert parameters(network.score) == 65
    assert parameters(network.lstm) == 50_432 != printed_lstm
    # Why it differs: each layer has four gates with input weights, hidden weights and two biases.
    first, second = 4 * 64 * (1 + 64 + 2), 4 * 64 * (64 + 64 + 2)
    assert parameters(network.lstm) == first + second
    hidden, _ = network.lstm(torch.randn(B, S, 1))
    assert hidden.shape == (B, S, 64)


def test_alstm_ends_in_equation_10() -> None:
    network = ALSTM().eval()
    x = torch.randn(B, 1, S)
    tokens, z = network(x)
    hidden, _ = network.lstm(x.transpose(1, 2))
    score = network.score(hidden)[:, :, 0]
    score = torch.where(score >= 0, score, (score.exp() - 1) / (1 + (-score).exp()))
    alpha = score.exp() / score.exp().sum(dim=1, keepdim=True)
    context = (alpha[:, :, None] * hidden).sum(dim=1)
    expected = torch.cat([context, hidden[:, -1]], dim=1)
    assert tokens.shape == (B, S, 128)
    torch.testing.assert_close(z, expected)
    torch.testing.assert_close(tokens[:, -1], expected)
    torch.testing.assert_close(tokens[:, 5], torch.cat([context, hidden[:, 5]], dim=1))


def test_elish_is_equation_7() -> None:
    for x in (-20.0, -3.0, -1.0, -1e-3, 0.0, 0.5, 7.0):
        formula = x if x >= 0 else (math.exp(x) - 1) / (1 + math.exp(-x))
        assert float(elish(torch.tensor(x, dtype=torch.float64))) == pytest.approx(formula, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("x", [-1e4, -1e30, torch.finfo(torch.float32).min, 1e4, torch.finfo(torch.float32).max])
def test_elish_does_not_overflow(x: float) -> None:
    value = torch.tensor(x, requires_grad=True)
    result = elish(value)
    result.backward()
    assert float(result.detach()) == (x if x > 0 else 0)
    assert value.grad is not None
    assert float(value.grad) == (1 if x > 0 else 0)


# Parts of Table 3 and their printed parameters.
TABLE_3 = [
    ("TE 1 LayerNorm 1", "fusion.encoder_a.norm1", 256),
    ("TE 1 Feed Forward 1", "fusion.encoder_a.feed_forward.0", 16_512),
    ("TE 1 Feed Forward 2", "fusion.encoder_a.feed_forward.2", 16_512),
    ("TE 1 LayerNorm 2", "fusion.encoder_a.norm2", 256),
    ("TE 2 LayerNorm 1", "fusion.encoder_b.norm1", 256),
    ("TE 2 Feed Forward 1", "fusion.encoder_b.feed_forward.0", 16_512),
    ("TE 2 Feed Forward 2", "fusion.encoder_b.feed_forward.2", 16_512),
    ("TE 2 LayerNorm 2", "fusion.encoder_b.norm2", 256),
    ("FC1", "fc.0", 131_584),
    ("FC2", "fc.3", 131_328),
    ("FC3", "fc.6", 32_896),
]
ATTENTIONS = ("fusion.encoder_a.attention", "fusion.encoder_b.attention", "fusion.cross_a", "fusion.cross_b")


@pytest.mark.parametrize(("row", "name", "printed"), TABLE_3)
def test_rows_of_table_3(row: str, name: str, printed: int) -> None:
    assert parameters(TransformerBlock().get_submodule(name)) == printed, row


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_rows_of_table_3_leave_out_the_output_projection_and_biases(name: str) -> None:
    attention = TransformerBlock().get_submodule(name)
    assert isinstance(attention, Attention)
    printed = 49_152
    weights = [layer.weight.numel() for layer in (attention.query, attention.key, attention.value)]
    assert sum(weights) == printed
    output_projection, biases = 128 * 128, 4 * 128
    assert parameters(attention) == printed + output_projection + biases


def test_total_of_table_3() -> None:
    printed = 559_488
    left_out = 4 * (128 * 128 + 4 * 128)
    assert parameters(TransformerBlock()) == 627_072 == printed + left_out


def test_shapes_of_table_3() -> None:
    block = TransformerBlock().eval()
    f, m = torch.randn(B, S, 128), torch.randn(B, S, 128)
    encoded = block.fusion.encoder_a(f)
    assert encoded.shape == (B, S, 128)
    assert block.fusion.cross_a(f, m).shape == (B, S, 128)
    sequence, embedding = block(f, m)
    assert sequence.shape == (B, S, 256)
    assert embedding.shape == (B, 128)
    torch.testing.assert_close(embedding, block.fc(sequence.mean(dim=1)))


def test_cross_attention_asks_with_its_own_stream() -> None:
    block = TransformerBlock().eval()
    fusion = block.fusion
    f, m = torch.randn(B, S, 128), torch.randn(B, S, 128)
    a, b = fusion.encoder_a(f), fusion.encoder_b(m)
    torch.testing.assert_close(fusion(f, m), torch.cat([fusion.cross_a(a, b), fusion.cross_b(b, a)], dim=2))


def test_attention_is_equations_11_to_13() -> None:
    attention = Attention(128, 8).eval()
    x, memory = torch.randn(B, 5, 128), torch.randn(B, 7, 128)
    weights = attention.weights(x, memory)
    assert weights.shape == (B, 8, 5, 7)
    torch.testing.assert_close(weights.sum(dim=3), torch.ones(B, 8, 5))
    heads = []
    for h in range(8):
        part = slice(16 * h, 16 * (h + 1))
        q, k, v = (
            layer(of)[..., part]
            for layer, of in ((attention.query, x), (attention.key, memory), (attention.value, memory))
        )
        alpha = torch.softmax(q @ k.transpose(1, 2) / 4.0, dim=2)
        torch.testing.assert_close(weights[:, h], alpha)
        heads.append(alpha @ v)
    torch.testing.assert_close(attention(x, memory), attention.out(torch.cat(heads, dim=2)))


def test_with_one_token_all_attention_is_1() -> None:
    weights = Attention(128, 8).weights(torch.randn(B, 1, 128), torch.randn(B, 1, 128))
    torch.testing.assert_close(weights, torch.ones(B, 8, 1, 1), atol=0, rtol=0)


@pytest.mark.parametrize("steps", [137, 138, 139, 140])
def test_with_a_stride_every_time_step_reaches_a_token(steps: int) -> None:
    """And only those that it stands for, and their neighbours."""
    x = torch.randn(B, 1, steps, requires_grad=True)
    fcn, alstm = FCN(32, stride=4).eval(), ALSTM(32, stride=4).eval()
    for block in (fcn, alstm):
        tokens, feature = block(x)
        assert tokens.shape == (B, 35, 32)
        assert feature.shape == (B, 32)
        (gradient,) = torch.autograd.grad(tokens.abs().sum(), x)
        assert (gradient != 0).all()
    (gradient,) = torch.autograd.grad(fcn.layers[:2](x)[..., 10].abs().sum(), x)
    assert torch.nonzero(gradient[0, 0]).flatten().tolist() == list(range(37, 45))
    hidden = alstm(x)[0][0, 9, 16:]
    (gradient,) = torch.autograd.grad(hidden.sum(), x)
    assert torch.nonzero(gradient[0, 0]).flatten().tolist() == list(range(40))


def test_the_lstm_is_given_the_steps_of_a_token_side_by_side() -> None:
    alstm, x = ALSTM(32, stride=4).eval(), torch.randn(B, 1, 10)
    padded = torch.cat([x[:, 0], torch.zeros(B, 2)], dim=1)
    hidden, _ = alstm.lstm(torch.stack([padded[:, 4 * t : 4 * t + 4] for t in range(3)], dim=1))
    torch.testing.assert_close(alstm(x)[0][:, :, 16:], hidden)


@pytest.mark.parametrize("fusion", ["pooled", "sequence"])
def test_a_network_with_a_stride_answers_to_both_signals(fusion: str) -> None:
    network = CrossModTransformer(NetworkSpec((Modality.EDA, Modality.BVP), 3, fusion, S, 32, 4, 4)).eval()
    x = torch.randn(B, 2, S)
    assert network(x).shape == (B, 3)
    for modality in range(2):
        other = x.clone()
        other[:, modality, -1] += 5
        assert not torch.allclose(network(other), network(x))


@pytest.mark.parametrize("stride", [0, -1, 70])
def test_a_stride_leaves_two_tokens(stride: int) -> None:
    with pytest.raises(ValueError, match="stride must be at least 1 and leave two tokens"):
        NetworkSpec((Modality.EDA, Modality.BVP), 2, "pooled", S, 32, 4, stride)


@pytest.mark.parametrize("fusion", ["pooled", "sequence"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("cardiac", [Modality.ECG, Modality.BVP])
def test_logits_of_every_variant(fusion: str, classes: int, cardiac: Modality) -> None:
    spec = NetworkSpec((Modality.EDA, cardiac), classes, fusion)
    network = CrossModTransformer(spec).eval()
    x = torch.randn(B, 2, S)
    logits: Tensor = network(x)
    assert logits.shape == (B, classes)
    torch.testing.assert_close(network(x[1:2]), logits[1:2])
    for modality in range(2):
        other = x.clone()
        other[:, modality] += torch.randn(S)
        assert not torch.allclose(network(other), logits), f"{spec.modalities[modality]} has no influence"


def test_whole_network_has_the_parameters_of_its_parts() -> None:
    streams = 2 * (264_704 + 50_432 + 65 + 627_072)
    attention, norms, feed_forward = 4 * 128 * 129, 2 * 256, 2 * 128 * 129
    crossmod = 4 * attention + 2 * (norms + feed_forward) + 131_584 + 131_328 + 32_896 + 2 * 129
    network = CrossModTransformer(NetworkSpec((Modality.EDA, Modality.ECG), 2))
    assert parameters(network) == streams + crossmod
