"""The self-check of an engine: its answers to the golden windows beside those noted at export."""

from __future__ import annotations

import numpy as np

from edgepain.bundle import Bundle
from edgepain.engine.base import Engine, softmax
from edgepain.errors import VerificationError


def check_golden(engine: Engine, bundle: Bundle) -> float:
    """Run the golden windows; returns the largest difference of a probability.

    Raises VerificationError where a probability is off by more than the graph's `golden_tolerance`, or a
    label changed although the golden answer was clearer than that.
    """
    golden = bundle.golden()
    facts = bundle.graph(engine.precision)
    expected = softmax(golden.logits[engine.precision])
    found = softmax(engine.predict(golden.windows))
    difference = float(np.max(np.abs(found - expected)))
    top_two = np.sort(expected, axis=1)[:, -2:]
    clear = top_two[:, 1] - top_two[:, 0] > facts.golden_tolerance
    changed = int(np.count_nonzero((found.argmax(axis=1) != expected.argmax(axis=1)) & clear))
    # Written so that NaN, which compares as false, fails.
    if not difference <= facts.golden_tolerance or changed:
        raise VerificationError(
            f"{engine.description} does not answer like {bundle}/{facts.file} did at export: probabilities of the "
            f"golden windows are off by up to {difference:.2g} (allowed {facts.golden_tolerance:g}) and {changed} of "
            f"{len(expected)} labels changed; use another --precision, or export the bundle again on this machine"
        )
    return difference
