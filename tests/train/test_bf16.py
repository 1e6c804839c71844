"""Blocks that train in bfloat16 beside the same blocks in float32."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from edgepain.bundle import NetworkSpec
from edgepain.signal import Modality
from edgepain.train.models import ALSTM, FCN, Attention, CrossModFusion, TransformerBlock
from edgepain.train.models.bf16 import Dropout, keep_bits, keep_probability

B, S = 16, 138


def in_bf16(block: nn.Module, *inputs: Tensor) -> tuple[Tensor, Tensor]:
    with torch.autocast("cpu", torch.bfloat16):
        tokens, feature = block(*inputs)
    return tokens.float(), feature.float()


def relative(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected).norm() / expected.norm()).detach())


def gradients(block: nn.Module, feature: Tensor) -> dict[str, Tensor]:
    block.zero_grad()
    weights = torch.linspace(-1, 1, feature.numel()).view_as(feature)
    (feature * weights).sum().backward()  # type: ignore[no-untyped-call]
    return {name: p.grad.clone() for name, p in block.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("stride", [1, 4])
def test_fcn_without_dropout_gives_the_same_but_for_rounding(stride: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(B, 1, S)
    block, twin = FCN(32, 0.0, stride).train(), FCN(32, 0.0, stride).train()
    twin.load_state_dict(block.state_dict())
    tokens, feature = in_bf16(twin, x)
    expected_tokens, expected = block(x)
    assert tokens.shape == expected_tokens.shape
    assert relative(tokens, expected_tokens) < 0.02
    assert relative(feature, expected) < 0.01
    for name, buffer in block.named_buffers():
        torch.testing.assert_close(dict(twin.named_buffers())[name], buffer, rtol=0.02, atol=0.01)
    found, wanted = gradients(twin, feature), gradients(block, expected)
    # In front of batch norm a bias has no gradient but rounding.
    assert wanted.keys() - found.keys() == {f"layers.{index}.bias" for index in (1, 5, 9)}
    for name, gradient in found.items():
        assert gradient.dtype == torch.float32
        assert relative(gradient, wanted[name]) < 0.2, name


@pytest.mark.parametrize("dropout", [0.1, 0.2, 0.4, 0.7])
def test_dropout_keeps_what_it_says(dropout: float) -> None:
    keep = keep_probability(dropout)
    assert keep == pytest.approx(1 - dropout, abs=2**-17)
    torch.manual_seed(1)
    bits = keep_bits(torch.Size((1000, 1001)), keep)
    assert set(bits.unique().tolist()) == {-1, 0}
    count = bits.numel()
    deviation = (keep * (1 - keep) / count) ** 0.5
    assert abs(float((bits == -1).double().mean()) - keep) < 5 * deviation
    neighbours = (bits[:, 1:] == bits[:, :-1]).double().mean()
    assert abs(float(neighbours) - (keep**2 + (1 - keep) ** 2)) < 5 * deviation


def test_dropout_is_drawn_from_torch_s_seed() -> None:
    torch.manual_seed(2)
    first, second = keep_bits(torch.Size((50, 3)), 0.5), keep_bits(torch.Size((50, 3)), 0.5)
    torch.manual_seed(2)
    assert torch.equal(keep_bits(torch.Size((50, 3)), 0.5), first)
    assert not torch.equal(first, second)


def test_no_dropout_keeps_everything_and_the_most_keeps_something() -> None:
    assert keep_probability(0.0) == 1
    assert bool((keep_bits(torch.Size((3, 5)), 1.0) == -1).all())
    assert keep_probability(1 - 1e-9) == 1 / 65536


def test_fcn_in_evaluation_does_not_change_under_autocast_s_training_path() -> None:
    torch.manual_seed(3)
    block, x = FCN(16, 0.3).train(), torch.randn(B, 1, S)
    in_bf16(block, x)
    before = {name: value.clone() for name, value in block.state_dict().items()}
    with torch.inference_mode():
        first, again = block.eval()(x), block.eval()(x)
    assert torch.equal(first[0], again[0])
    for name, value in block.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert int(before["layers.2.num_batches_tracked"]) == 1


def test_what_is_no_number_stays_none() -> None:
    x = torch.randn(B, 1, S)
    x[3, 0, 7] = float("nan")
    for value in (x, -x):
        tokens, _ = in_bf16(FCN(16, 0.2).train(), value)
        assert bool(tokens.isnan().any())


def of(found: dict[str, Tensor], wanted: dict[str, Tensor], limit: float) -> None:
    largest = max(gradient.norm() for gradient in wanted.values())
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        assert gradient.dtype == torch.float32
        assert float((gradient - wanted[name]).norm()) < limit * float(wanted[name].norm() + 0.2 * largest), name


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize(("steps", "others"), [(138, 138), (7, 5), (1, 1)])
def test_attention_gives_the_same_but_for_rounding(steps: int, others: int, mean: bool) -> None:
    torch.manual_seed(4)
    attention = Attention(32, 4).train()
    query, memory = 2 * torch.randn(6, steps, 32), 2 * torch.randn(6, others, 32)
    query.requires_grad_()
    memory.requires_grad_()
    everything = {"query": query, "memory": memory, **dict(attention.named_parameters())}

    def run() -> tuple[Tensor, dict[str, Tensor]]:
        if not mean:
            mixed = attention(query, memory).float()
        elif torch.is_autocast_enabled("cpu"):
            mixed = attention.mean_in_bf16(query, memory.bfloat16()).float()
        else:
            mixed = attention(query, memory).mean(dim=1)
        weights = torch.linspace(-1, 1, mixed.numel()).sin().view_as(mixed)
        found = torch.autograd.grad((mixed * weights).sum(), list(everything.values()))
        return mixed, dict(zip(everything, found, strict=True))

    expected, wanted = run()
    with torch.autocast("cpu", torch.bfloat16):
        mixed, found = run()
    assert relative(mixed, expected) < 0.02
    of(found, wanted, 0.1)


@pytest.mark.parametrize("mean", [False, True])
def test_attention_with_large_scores_neither_overflows_nor_vanishes(mean: bool) -> None:
    attention = Attention(16, 2).train()
    query, memory = 300 * torch.randn(3, 9, 16), 300 * torch.randn(3, 9, 16).bfloat16()
    query.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = (attention.mean_in_bf16 if mean else attention)(query, memory)
    assert bool(mixed.isfinite().all())
    assert float(mixed.detach().abs().max()) > 1
    (gradient,) = torch.autograd.grad(mixed.float().sum(), query)
    assert bool(gradient.isfinite().all())


def test_the_embedding_alone_is_that_of_the_whole_block() -> None:
    torch.manual_seed(7)
    block = TransformerBlock(32, 4, 0.0).train()
    inputs = torch.randn(B, S, 32), torch.randn(B, S, 32)
    expected = block(*inputs)[1]
    assert torch.equal(block.embed(*inputs), expected)
    wanted = gradients(block, expected)
    with torch.autocast("cpu", torch.bfloat16):
        embedding = block.embed(*inputs).float()
    assert relative(embedding, expected) < 0.05
    of(gradients(block, embedding), wanted, 0.25)


@pytest.mark.parametrize("kind", ["alstm", "transformer"])
def test_blocks_without_dropout_give_the_same_but_for_rounding(kind: str) -> None:
    torch.manual_seed(5)
    block = (ALSTM(32, 0.0) if kind == "alstm" else TransformerBlock(32, 4, 0.0)).train()
    inputs = (torch.randn(B, 1, S),) if kind == "alstm" else (torch.randn(B, S, 32), torch.randn(B, S, 32))
    expected_tokens, expected = block(*inputs)
    wanted = gradients(block, expected)
    tokens, feature = in_bf16(block, *inputs)
    assert relative(tokens, expected_tokens) < 0.03
    assert relative(feature, expected) < 0.05
    of(gradients(block, feature), wanted, 0.25)


@pytest.mark.parametrize("fusion", ["pooled", "sequence"])
def test_fusion_trains_in_bf16_only_where_it_has_sequences(fusion: Literal["pooled", "sequence"]) -> None:
    network = CrossModFusion(NetworkSpec((Modality.EDA, Modality.BVP), 2, fusion, S, 16, 2), 0.0).train()
    feature = torch.randn(B, 16) if fusion == "pooled" else torch.randn(B, S, 32)
    expected = network(feature, feature)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(feature, feature)
    assert logits.dtype == (torch.float32 if fusion == "pooled" else torch.bfloat16)
    assert relative(logits.float(), expected) < (1e-6 if fusion == "pooled" else 0.05)


def test_dropout_of_a_block_is_scaled_by_what_it_keeps() -> None:
    torch.manual_seed(6)
    dropout, x = Dropout(0.3).train(), torch.ones(400, 500, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = dropout(x)
    (gradient,) = torch.autograd.grad(y.float().sum(), x)
    assert torch.equal(gradient, y)
    assert set(y.detach().unique().tolist()) == {0.0, float(torch.tensor(1 / 0.7).bfloat16())}
    assert float(y.detach().float().mean()) == pytest.approx(1, abs=0.01)
    assert torch.equal(dropout.eval()(x), x)


def test_a_training_step_s_memory_is_kept_for_the_next() -> None:
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("only glibc is told to keep memory")
    program = """
import resource, torch
from edgepain.train.memory import keep_freed_memory
keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2**23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    pages_of_one = 4 * 2**23 // resource.getpagesize()
    assert int(done.stdout) < pages_of_one
