"""Explanations: the weights are those of the answer, the parts add up, and a window is scaled as in training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgepain.bundle import NetworkSpec
from edgepain.errors import ConfigError, DataError
from edgepain.signal import Modality, Recording, ScalingSpec, Signal, WindowSpec
from edgepain.train.datasets.base import open_dataset
from edgepain.train.explain import (
    ChosenWindow,
    Explanation,
    alstm_weights,
    choose_fold,
    choose_recorded,
    choose_row,
    embed_held_out,
    explain,
    project,
    standing,
    unimodal_heads,
)
from edgepain.train.models import Attention, CrossModTransformer, UnimodalStream
from edgepain.train.run import Run
from edgepain.train.split import Split

STEPS = 30
MODALITIES = (Modality.EDA, Modality.BVP)


@dataclass
class Explained:
    """A network of random weights in double precision, what it was shown, and the explanation."""

    network: CrossModTransformer
    heads: dict[str, nn.Linear]
    x: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    explanation: Explanation
    calls: dict[nn.Module, tuple[tuple[Tensor, ...], Tensor]]


@pytest.fixture(params=["pooled", "sequence"])
def explained(request: pytest.FixtureRequest) -> Explained:
    return make_explained(request.param, biases=True)


def make_explained(fusion: str, biases: bool, stride: int = 1) -> Explained:
    torch.manual_seed(4)
    network = CrossModTransformer(NetworkSpec(MODALITIES, 3, fusion, STEPS, 32, 4, stride)).double().eval()
    heads = {str(m): nn.Linear(32, 3).double() for m in MODALITIES}
    for parameter in network.parameters():
        parameter.data.mul_(2)
    if not biases:
        fcs = [s.transformer.fc for s in network.streams.values() if isinstance(s, UnimodalStream)]
        for module in (network.crossmod.fc, network.crossmod.classify, *fcs, *heads.values()):
            for name, parameter in module.named_parameters():
                if name.endswith("bias"):
                    parameter.data.zero_()
    calls: dict[nn.Module, tuple[tuple[Tensor, ...], Tensor]] = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls[module] = inputs, output

    handles = [
        module.register_forward_hook(note)
        for module in network.modules()
        if isinstance(module, Attention) or module in set(network.streams.values())
    ]
    x = np.random.default_rng(1).normal(size=(2, STEPS))
    explanation = explain(network, heads, x)  # type: ignore[arg-type]
    for handle in handles:
        handle.remove()
    return Explained(network, heads, x, explanation, calls)


def attention_of(network: CrossModTransformer, block: str, query: str, key: str) -> Attention:
    stream = network.crossmod if block == "fusion" else network.streams[block].transformer
    first, second = ("eda", "bvp") if block == "fusion" else ("fcn", "alstm")
    places = {
        (first, first): stream.fusion.encoder_a.attention,
        (second, second): stream.fusion.encoder_b.attention,
        (first, second): stream.fusion.cross_a,
        (second, first): stream.fusion.cross_b,
    }
    return places[query, key]


def test_logits_are_those_of_the_network(explained: Explained) -> None:
    logits = explained.network(torch.from_numpy(explained.x)[None])[0].detach()
    np.testing.assert_array_equal(explained.explanation.logits, logits.numpy())
    np.testing.assert_allclose(explained.explanation.probabilities, torch.softmax(logits, 0).numpy())


def test_every_attention_is_explained_and_gives_the_output_that_the_network_went_on_with(explained: Explained) -> None:
    maps = explained.explanation.attention
    seen = set()
    for a in maps:
        attention = attention_of(explained.network, a.block, a.query, a.key)
        seen.add(attention)
        (_, memory), output = explained.calls[attention]
        np.testing.assert_allclose(a.weights.sum(axis=2), 1)
        heads = attention.heads
        values = attention.value(memory)[0].reshape(memory.shape[1], heads, -1).transpose(0, 1)
        mixed = (torch.from_numpy(a.weights) @ values).transpose(0, 1).flatten(1)
        torch.testing.assert_close(attention.out(mixed), output[0])
    assert seen == {m for m in explained.network.modules() if isinstance(m, Attention)}


def test_measures_of_attention_are_one_where_it_is_even(explained: Explained) -> None:
    for a in explained.explanation.attention:
        assert a.received.mean() == pytest.approx(1)
        np.testing.assert_allclose(a.received_by_head.mean(axis=0), a.received)
        np.testing.assert_allclose(a.diagonal, [a.mean[i, i] for i in range(len(a.mean))])
        assert a.over_time == (a.block != "fusion" or not explained.network.crossmod.pooled)


def test_weights_of_the_alstm_give_its_context(explained: Explained) -> None:
    for index, (m, stream) in enumerate(explained.network.streams.items()):
        assert isinstance(stream, UnimodalStream)
        tokens, _ = stream.alstm(torch.from_numpy(explained.x)[None, index : index + 1])
        context, hidden = tokens[0, 0, :16], tokens[0, :, 16:]
        weights = torch.from_numpy(explained.explanation.alstm[m]) / STEPS
        torch.testing.assert_close(weights, alstm_weights(stream.alstm, tokens)[0])
        torch.testing.assert_close(weights @ hidden, context)


@pytest.mark.parametrize("fusion", ["pooled", "sequence"])
def test_of_a_token_each_of_its_time_steps_has_its_weight(fusion: str) -> None:
    """30 steps are 8 tokens of 4, of which the last has 2 in the window."""
    explained = make_explained(fusion, biases=True, stride=4)
    network, calls, x, explanation = explained.network, explained.calls, explained.x, explained.explanation
    for a in explanation.attention:
        attention = attention_of(network, a.block, a.query, a.key)
        with torch.no_grad():
            tokens = attention.weights(*calls[attention][0])[0].numpy()
        if not a.over_time:
            np.testing.assert_array_equal(a.weights, tokens)
            continue
        assert a.weights.shape == (4, STEPS, STEPS)
        for query, key in ((0, 0), (5, 29), (29, 5)):
            relative = tokens[:, query // 4, key // 4] * 8
            np.testing.assert_allclose(a.weights[:, query, key] * STEPS, relative)
        assert a.mean.mean() == pytest.approx(1, abs=0.2)
    for m, stream in network.streams.items():
        assert isinstance(stream, UnimodalStream)
        index = [str(each) for each in MODALITIES].index(m)
        own = alstm_weights(stream.alstm, stream.alstm(torch.from_numpy(x)[None, index : index + 1])[0])[0]
        np.testing.assert_allclose(explanation.alstm[m], own.detach().repeat_interleave(4)[:STEPS] * 8)
    for c in explanation.contributions:
        assert c.parts.shape == (32, STEPS)
        assert c.over_time.sum() + c.rest == pytest.approx(c.margin)
        np.testing.assert_array_equal(c.parts[:, 4], c.parts[:, 7])
        assert not np.array_equal(c.parts[:, 7], c.parts[:, 8])


def test_no_hook_stays_behind(explained: Explained) -> None:
    assert not any(module._forward_hooks for module in explained.network.modules())


@pytest.mark.parametrize("stride", [1, 3])
def test_without_biases_time_steps_make_up_the_whole_margin(stride: int) -> None:
    explained = make_explained("sequence", biases=False, stride=stride)
    logits = explained.explanation.logits
    answer = explained.explanation.answer
    for c in explained.explanation.contributions:
        assert c.exact
        assert c.parts.shape == (32, STEPS)
        assert c.rest == pytest.approx(0, abs=1e-9)
        assert abs(c.margin) > 1e-6
    fused = explained.explanation.contributions[-1]
    assert fused.margin == pytest.approx(logits[answer] - np.delete(logits, answer).mean())


def test_parts_of_a_pooled_fusion_are_slopes_of_the_margin() -> None:
    explained = make_explained("pooled", biases=True)
    network, fused = explained.network, explained.explanation.contributions[-1]
    assert not fused.exact
    streams = list(network.streams.values())
    sequences = [explained.calls[stream][1][0][0] for stream in streams]
    others = [k for k in range(3) if k != explained.explanation.answer]

    @torch.no_grad()
    def margin(step: int, by: float) -> float:
        means = [sequence.mean(dim=0) + by * sequence[step] / STEPS for sequence in sequences]
        logits = network.crossmod(*(s.transformer.fc(mean[None]) for s, mean in zip(streams, means, strict=True)))[0]
        return float(logits[explained.explanation.answer] - logits[others].mean())

    assert margin(0, 0.0) == pytest.approx(fused.margin)
    for step in (0, 7, STEPS - 1):
        slope = (margin(step, 1e-5) - margin(step, -1e-5)) / 2e-5
        assert fused.over_time[step] == pytest.approx(slope, rel=1e-3, abs=1e-9)


def recorded(recordings: list[Recording], at_s: float, **changes: object) -> ChosenWindow:
    options = {"modalities": MODALITIES, "window": WindowSpec(5.5, 24), "scaling_spec": ScalingSpec(10.0)}
    return choose_recorded(recordings, at_s, **{**options, "scaling": "causal", **changes})  # type: ignore[arg-type]


def waves(name: str = "p", seconds: float = 60.0) -> Recording:
    """A person with slow EDA at 4 Hz and BVP of 1 Hz at 64 Hz."""
    rng = np.random.default_rng(2)
    eda = 2 + np.cumsum(rng.normal(0, 0.02, int(4 * seconds)))
    bvp = np.sin(2 * np.pi * np.arange(int(64 * seconds)) / 64) + rng.normal(0, 0.1, int(64 * seconds))
    signals = {
        Modality.EDA: Signal(Modality.EDA, eda.astype(np.float32), 4.0),
        Modality.BVP: Signal(Modality.BVP, bvp.astype(np.float32), 64.0),
    }
    return Recording("p", name, signals)


def test_a_window_of_the_dataset_is_the_same_as_in_the_table(trained_run: Run, e4_root: Path) -> None:
    dataset = open_dataset("e4", e4_root)
    table = trained_run.table
    for index in (2, 5):
        row = choose_row(table, "causal", "S03", index)
        window = choose_recorded(
            dataset.recordings("S03"),
            row.start_s,
            modalities=table.modalities,
            window=trained_run.window,
            scaling_spec=trained_run.scaling_spec,
            scaling="causal",
            labels=dataset.labels,
        )
        np.testing.assert_array_equal(window.scaled, row.scaled)
        assert (window.label, window.scaling, window.subject) == (row.label, row.scaling, row.subject)
        x, _ = table.scaled("causal")
        np.testing.assert_array_equal(row.scaled, x[np.flatnonzero(table.subjects == "S03")[index]])


def test_history_runs_through_earlier_recordings() -> None:
    first, second = waves("a"), waves("b")
    with pytest.raises(DataError, match=r"eda has 0\.0 s of valid signal before it, causal scaling needs 10 s"):
        recorded([second], 0.0)
    assert "eda over 60 s" in recorded([first, second], 0.0, name="b").scaling


def test_scaling_by_subject_is_over_all_windows_laid_end_to_end() -> None:
    count = 10
    windows = [recorded([waves()], 5.5 * k, scaling="subject") for k in range(count)]
    for scaled in np.stack([w.scaled for w in windows]).transpose(1, 0, 2):
        low, median, high = np.percentile(scaled, (25, 50, 75))
        assert (median, high - low) == pytest.approx((0, 1), abs=1e-5)
    assert windows[0].scaling == "by all 10 good windows of the person, later ones too"


def test_windows_that_cannot_be_scaled_name_the_reason() -> None:
    person = waves()
    eda = person.signals[Modality.EDA]

    def with_eda(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]], unit: str = "") -> Recording:
        return replace(person, signals={**person.signals, Modality.EDA: Signal(Modality.EDA, values, 4.0, unit=unit)})

    off = eda.values.copy()
    off[4 * 30 :] = 0
    gap = (np.arange(240) > 4 * 41) & (np.arange(240) < 4 * 44)
    for recording, at_s, reason in (
        (with_eda(off), 40.0, "eda has no contact to the skin"),
        (
            with_eda(np.where(np.arange(240) < 120, eda.values, np.float32(np.nan))),
            40.0,
            "eda misses too many samples",
        ),
        (with_eda(np.where(np.arange(240) < 120, np.float32(1), eda.values)), 28.0, "eda is flat before it"),
        (with_eda(np.where(gap, np.float32(np.nan), eda.values)), 40.0, "a signal misses too many samples"),
        (with_eda(eda.values, "mS"), 40.0, "eda is in mS, the network needs uS"),
        (replace(person, signals={Modality.BVP: person.signals[Modality.BVP]}), 40.0, "has bvp, the network needs eda"),
    ):
        with pytest.raises(DataError, match=reason):
            recorded([recording], at_s)


def test_the_first_window_that_can_be_scaled_is_named(trained_run: Run) -> None:
    table = trained_run.table
    early = replace(table, history_seconds=np.where(table.start_s[:, None] < table.start_s[8], 3.0, 60.0))
    with pytest.raises(DataError, match=r"has 3\.0 s of valid signal .* the first of S01 that can be is --window \d"):
        choose_row(early, "causal", "S01", 0)


def test_places_that_are_not_there_are_refused(trained_run: Run) -> None:
    with pytest.raises(ConfigError, match=r"p is 60\.0 s long"):
        recorded([waves()], 54.6)
    assert recorded([waves()], 54.5).start_s == 54.5
    with pytest.raises(ConfigError, match="there are 2 recordings; choose one with --name"):
        recorded([waves("a"), waves("b")], 20.0)
    with pytest.raises(ConfigError, match="no recording is called 'c'"):
        recorded([waves("a")], 20.0, name="c")
    with pytest.raises(ConfigError, match="S03 has no window 6; there are 0 to 5"):
        choose_row(trained_run.table, "causal", "S03", 6)
    with pytest.raises(ConfigError, match="no window of 'S99'; it has S01"):
        choose_row(trained_run.table, "causal", "S99", 0)


@dataclass(frozen=True)
class Folds:
    """The folds of a run that is not trained."""

    names: tuple[str, ...]
    people: tuple[str, ...]

    @property
    def folds(self) -> list[FoldOf]:
        return [FoldOf(name, Split(tuple(set(self.people) - {p}), (p,))) for name, p in self._pairs()]

    def _pairs(self) -> Iterator[tuple[str, str]]:
        return iter(zip(self.names, self.people, strict=True))

    def fold(self, name: str = "") -> FoldOf:
        if name not in self.names:
            raise ConfigError(f"no fold {name!r}")
        return self.folds[self.names.index(name)]


@dataclass(frozen=True)
class FoldOf:
    name: str
    split: Split


def test_a_person_is_explained_by_a_network_that_never_saw_them() -> None:
    run = Folds(("a", "b", "c"), ("S01", "S02", "S03"))
    fold = choose_fold(run, "", "S02")  # type: ignore[arg-type]
    assert (fold.name, standing(fold, "S02"), standing(fold, "S01")) == ("b", "held out", "trained on")
    assert standing(fold, "S09") == "not in this run"
    assert choose_fold(run, "c", "S02").name == "c"  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no fold ''"):
        choose_fold(run, "", "S09")  # type: ignore[arg-type]


def test_embeddings_are_those_before_the_last_layer_of_held_out_windows(trained_run: Run) -> None:
    fold = trained_run.fold()
    embeddings = embed_held_out(trained_run, fold)
    assert set(embeddings.windows.subjects) == {"S02", "S05"}
    assert set(embeddings.vectors) == {
        "crossmod",
        *(f"{kind}.{m}" for kind in ("fcn", "alstm", "transformer") for m in trained_run.table.modalities),
    }
    network = fold.network()
    logits = network.crossmod.classify(torch.from_numpy(embeddings.vectors["crossmod"]))
    np.testing.assert_array_equal(logits.argmax(dim=1), embeddings.answers)
    x, usable = embeddings.windows.scaled("causal")
    assert usable.all()
    torch.testing.assert_close(logits, network(torch.from_numpy(x)))
    for m, head in unimodal_heads(fold).items():
        stages = fold.trained().predict(x)[f"transformer.{m}"]
        vectors = torch.from_numpy(embeddings.vectors[f"transformer.{m}"])
        np.testing.assert_allclose(torch.softmax(head(vectors), dim=1).detach(), stages, atol=1e-6)


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_planes_are_repeatable_and_hold_for_few_or_equal_windows(method: str) -> None:
    vectors = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    plane = project(vectors, method)  # type: ignore[arg-type]
    assert plane.shape == (5, 2)
    np.testing.assert_array_equal(plane, project(vectors, method))  # type: ignore[arg-type]
    assert not project(np.ones((5, 16), np.float32), method).any()  # type: ignore[arg-type]
