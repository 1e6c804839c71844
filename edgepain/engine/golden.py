"""The self-check of an engine: its answers to the golden windows beside those noted at export."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgepain.bundle import Bundle, Precision
from edgepain.engine.base import Engine, softmax
from edgepain.errors import VerificationError


def check_golden(engine: Engine, bundle: Bundle, precision: Precision) -> float:
    """Run the golden windows on an engine of the bundle's graph of that precision; see `compare_golden`."""
    golden = bundle.golden()
    facts = bundle.graph(precision)
    found = engine.predict(golden.windows)
    source = f"{bundle}/{facts.file}"
    return compare_golden(found, golden.logits[precision], facts.golden_tolerance, engine.description, source)


def compare_golden(
    found: npt.NDArray[np.float32], golden: npt.NDArray[np.float32], tolerance: float, engine: str, graph: str
) -> float:
    """The largest difference of a probability between logits [G, K] and those noted at export.

    engine, graph: what answers and what it was made of, in words. Raises VerificationError where a probability is off
    by more than `tolerance`, or a label changed although the golden answer was clearer than that.
    """
    expected, answers = softmax(golden), softmax(found)
    difference = float(np.max(np.abs(answers - expected)))
    top_two = np.sort(expected, axis=1)[:, -2:]
    clear = top_two[:, 1] - top_two[:, 0] > tolerance
    changed = int(np.count_nonzero((answers.argmax(axis=1) != expected.argmax(axis=1)) & clear))
    # Written so that NaN, which compares as false, fails.
    if not difference <= tolerance or changed:
        raise VerificationError(
            f"{engine} does not answer like {graph} did at export: probabilities of the "
            f"golden windows are off by up to {difference:.2g} (allowed {tolerance:g}) and {changed} of "
            f"{len(expected)} labels changed; use another --precision, or export the bundle again on this machine"
        )
    return difference
