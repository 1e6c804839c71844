"""An explanation in a few lines of text."""

from __future__ import annotations

import numpy as np

from edgepain.train.explain.attention import Explanation
from edgepain.train.explain.choice import ChosenWindow

# Share of the time steps that "half of it lies on" is said of.
HALF = 0.5


def describe(window: ChosenWindow, explanation: Explanation, labels: tuple[str, ...], who: str) -> list[str]:
    """Lines on the window, the answer and where attention lies. who: how the network stands to the subject."""
    end_s = window.start_s + float(window.times_s[-1])
    shares = ", ".join(
        f"{labels[i]} {explanation.probabilities[i]:.1%}" for i in np.argsort(-explanation.probabilities)
    )
    label = f"labelled {window.label}" if window.label else "not labelled"
    lines = [
        f"{window.subject} ({who}), recording {window.recording}, {window.start_s:.1f} s to {end_s:.1f} s, {label}",
        f"answer: {shares}",
        f"quality: ok; scaled {window.scaling}",
        "where attention lies (1 = spread evenly; mean over heads and queries):",
    ]
    for a in explanation.attention:
        if a.over_time:
            lines.append(_where(a.name, a.received, window))
    if not all(a.over_time for a in explanation.attention):
        lines.append("  fusion: pooled, one token a modality, so that every weight between modalities is 1")
    lines += [_where(f"{m}.alstm, its own weights", weights, window) for m, weights in explanation.alstm.items()]
    lines.append("what argues for the answer (margin of logits):")
    for c in explanation.contributions:
        step = int(np.argmax(c.over_time))
        inexact = "" if c.exact else " (slopes only: layer norms lie between)"
        lines.append(
            f"  {c.name}: margin {c.margin:+.2f}, time steps {c.margin - c.rest:+.2f}, rest {c.rest:+.2f}{inexact}; "
            f"most at {window.times_s[step]:.2f} s"
        )
    return lines


def _where(name: str, received: np.ndarray[tuple[int, ...], np.dtype[np.float32]], window: ChosenWindow) -> str:
    step = int(np.argmax(received))
    steps = int(np.searchsorted(np.cumsum(np.sort(received)[::-1]), HALF * received.sum())) + 1
    return (
        f"  {name}: highest {received[step]:.2f} at {window.times_s[step]:.2f} s, lowest {received.min():.2f}; "
        f"half of it on {steps / received.size:.0%} of the time"
    )
