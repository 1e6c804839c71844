"""Does the exported graph still answer like the trained network? Judged on real windows of held-out subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from edgepain.bundle import AccuracyFacts, Precision
from edgepain.engine import Engine, softmax
from edgepain.errors import VerificationError
from edgepain.export.graphs import Graph, Progress
from edgepain.export.windows import Condition, Labelled
from edgepain.train.models import CrossModTransformer

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Limits:
    """How far an exported graph may be from torch on windows of held-out subjects.

    A graph that computes with the trained weights in fp32 must keep every probability within
    `probability_difference`. One on INT8 weights may move the probabilities by `mean_probability_difference` on
    average (the largest difference says little: a window on the border may swing far), change at most
    `changed_labels` of the labels and lose at most `accuracy_drop` of accuracy, both shares. Where a share above 0
    of few windows is less than one, one may change.
    """

    probability_difference: float = 1e-4
    changed_labels: float = 0.02
    accuracy_drop: float = 0.01
    mean_probability_difference: float = 0.02


def verify(
    network: CrossModTransformer,
    engines: Mapping[Precision, Engine],
    graphs: Sequence[Graph],
    held_out: Mapping[Condition, Labelled],
    limits: Limits,
    tell: Progress,
) -> tuple[AccuracyFacts, ...]:
    """Answers of torch and of every graph on held-out windows. Raises VerificationError past `limits`."""
    rows = []
    for condition, part in held_out.items():
        tell(f"verifying on {len(part.labels)} held-out windows, {condition}")
        reference = torch_logits(network, part.windows)
        rows.append(torch_facts := compare("torch", condition, part.labels, reference, reference))
        for graph in graphs:
            precision = graph.facts.precision
            found = engines[precision].predict(part.windows)
            rows.append(facts := compare(precision, condition, part.labels, reference, found))
            require_within(limits, facts, torch_facts, exact_weights=graph.exact_weights)
    return tuple(rows)


def compare(
    precision: Literal["torch", "fp32", "int8"],
    condition: Condition,
    labels: npt.NDArray[np.int64],
    reference: Logits,
    found: Logits,
) -> AccuracyFacts:
    """Answers of a graph (or of torch itself) [N, K] beside those of torch [N, K]; true `labels` [N]."""
    difference = np.abs(softmax(found) - softmax(reference))
    predicted = found.argmax(axis=1)
    missing = tuple(np.setdiff1d(np.arange(found.shape[1]), labels).tolist())
    return AccuracyFacts(
        precision=precision,
        scaling=condition.scaling,
        without=condition.without,
        windows=len(labels),
        accuracy=None if missing else float(accuracy_score(labels, predicted)),
        balanced_accuracy=None if missing else float(balanced_accuracy_score(labels, predicted)),
        changed_labels=int(np.count_nonzero(predicted != reference.argmax(axis=1))),
        max_probability_difference=float(difference.max()),
        mean_probability_difference=float(difference.mean()),
        missing_classes=missing,
    )


def require_within(
    limits: Limits,
    facts: AccuracyFacts,
    reference: AccuracyFacts,
    *,
    exact_weights: bool,
    instead: str = "export --precision fp32",
) -> None:
    """Raise VerificationError where a graph is further from torch (`reference`) than `limits` allows.

    instead: what else the user can do. An accuracy can only be lost where every class has windows.
    """
    where = f"{facts.precision} graph, {facts.windows} held-out windows, {Condition(facts.scaling, facts.without)}"
    if not np.isfinite(facts.max_probability_difference):
        raise VerificationError(f"{where}: an answer is not finite; look for NaN in the run's weights")
    if exact_weights:
        if facts.max_probability_difference > limits.probability_difference:
            raise VerificationError(
                f"{where}: a probability differs from torch by {facts.max_probability_difference:.2g}, allowed is "
                f"{limits.probability_difference:g}; raise --max-probability-difference only if you know why"
            )
        return
    if facts.mean_probability_difference > limits.mean_probability_difference:
        raise VerificationError(
            f"{where}: probabilities differ from torch by {facts.mean_probability_difference:.2g} on average, allowed "
            f"is {limits.mean_probability_difference:g}; raise --max-mean-probability-difference or "
            f"{instead}"
        )
    allowed = _windows_allowed(limits.changed_labels, facts.windows)
    if facts.changed_labels > allowed:
        raise VerificationError(
            f"{where}: {facts.changed_labels} labels differ from torch, allowed are {allowed}; "
            f"raise --max-changed-labels or {instead}"
        )
    if reference.accuracy is None or facts.accuracy is None:
        return
    lost = round((reference.accuracy - facts.accuracy) * facts.windows)
    allowed = _windows_allowed(limits.accuracy_drop, facts.windows)
    if lost > allowed:
        raise VerificationError(
            f"{where}: {lost} fewer windows right than in torch, allowed are {allowed}; "
            f"raise --max-accuracy-drop or {instead}"
        )


def _windows_allowed(share: float, windows: int) -> int:
    return max(1, int(share * windows)) if share > 0 else 0


def torch_logits(network: CrossModTransformer, windows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Answers [N, K] of the network itself to scaled windows [N, M, S]."""
    network.eval()
    with torch.no_grad():
        parts = [network(torch.from_numpy(windows[i : i + 64])).numpy() for i in range(0, len(windows), 64)]
    logits: npt.NDArray[np.float32] = np.concatenate(parts)
    return logits
