"""Counts by hand, by our formula, and by fvcore."""

import pytest

from edgepain.benchmarks import flops
from edgepain.bundle import NetworkSpec
from edgepain.signal import Modality
from edgepain.train.config import load_config, network_spec

POOLED = NetworkSpec((Modality.EDA, Modality.ECG), 2)
SEQUENCE = NetworkSpec((Modality.EDA, Modality.ECG), 2, "sequence")


def test_fcn_by_hand() -> None:
    by_hand = 138 * (128 * 1 * 8 + 256 * 128 * 5 + 128 * 256 * 3)
    assert flops.fcn(POOLED).multiply_adds == by_hand == 36_317_184


def test_alstm_by_hand() -> None:
    first, second = 4 * 64 * (1 + 64), 4 * 64 * (64 + 64)
    assert flops.lstm_multiply_adds(138, 64) == 138 * (first + second) == 6_818_304
    assert flops.alstm(POOLED).multiply_adds == 6_818_304 + 138 * 64 + 138 * 64


def test_transformer_block_by_hand() -> None:
    projection, product = 138 * 128 * 128, 138 * 138 * 128
    encoder = 4 * projection + 2 * product + 2 * projection
    cross = 4 * projection + 2 * product
    by_hand = 2 * encoder + 2 * cross + 256 * 512 + 512 * 256 + 256 * 128
    assert flops.transformer(POOLED).multiply_adds == by_hand


def test_sequence_fusion_is_near_the_printed_figure() -> None:
    assert flops.crossmod(SEQUENCE).mflops == pytest.approx(440.6, abs=0.05)


def test_pooled_fusion_by_hand() -> None:
    linear = 128 * 128
    by_hand = 20 * linear + 8 * 128 + 256 * 512 + 512 * 256 + 256 * 128 + 128 * 2
    assert flops.crossmod(POOLED).multiply_adds == by_hand


def test_total_counts_uni_modal_parts_once_a_modality() -> None:
    parts = 2 * sum(part(SEQUENCE).multiply_adds for part in (flops.fcn, flops.alstm, flops.transformer))
    assert flops.total(SEQUENCE).multiply_adds == parts + flops.crossmod(SEQUENCE).multiply_adds


def test_a_stride_leaves_fewer_tokens() -> None:
    spec = NetworkSpec((Modality.EDA, Modality.ECG), 2, "pooled", 138, 32, 4, 4)
    assert spec.tokens == 35
    assert flops.fcn(spec).multiply_adds == 35 * (32 * 1 * 8 + 64 * 32 * 5 + 32 * 64 * 3)
    lstm = 35 * (4 * 16 * (4 + 16) + 4 * 16 * (16 + 16))
    assert flops.alstm(spec).multiply_adds == lstm + 35 * 16 + 35 * 16


def test_the_small_sibling_needs_a_tenth_at_most() -> None:
    modalities, config = (Modality.EDA, Modality.BVP), load_config("paper")
    full, edge = (flops.total(network_spec(modalities, 2, size, config)) for size in ("full", "edge"))
    assert full == flops.total(NetworkSpec(modalities, 2))
    assert 10 * edge.multiply_adds < full.multiply_adds


@pytest.mark.parametrize(
    "spec",
    [
        POOLED,
        SEQUENCE,
        NetworkSpec((Modality.EDA, Modality.BVP), 3, "pooled", 50, 64, 4),
        NetworkSpec((Modality.EDA, Modality.BVP), 2, "sequence", 138, 32, 4, 4),
    ],
)
def test_fvcore_counts_the_same_but_for_the_weighted_sum(spec: NetworkSpec) -> None:
    from edgepain.benchmarks.counter import fvcore_counts

    theirs = fvcore_counts(spec)
    for part in (flops.fcn, flops.alstm, flops.transformer, flops.crossmod):
        count = part(spec)
        ours = {name: value for name, value in count.operations.items() if name != "weighted sum"}
        assert theirs[count.name] == ours
