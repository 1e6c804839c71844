"""What the network of a run looks at: the paper's Figures 5 to 7 for one held-out window and one fold."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from edgepain.errors import EdgepainError
from edgepain.train.answers import Answers
from edgepain.train.explain import Run, choose_row, embed_held_out, explain, project, unimodal_heads
from edgepain.train.explain.pictures import draw_window
from edgepain.train.explain.planes import draw_planes
from edgepain.train.report.drawing import Picture, as_svg
from edgepain.train.report.source import MAIN, Digest
from edgepain.train.report.text import printable

WHAT = {
    "self_attention_diagonal": "Self-attention over the signal (Figure 5)",
    "cross_attention_modalities": "Cross-attention between the modalities (Figure 6)",
    "cross_attention_streams": "Cross-attention between FCN and ALSTM (Figure 6 within a modality)",
    "embedding_attention": "What time steps and dimensions argue for (Figure 7)",
}


@dataclass(frozen=True)
class Explained:
    """pictures: of the first fold that has a network. why_not: why there are none."""

    pictures: tuple[Picture, ...]
    why_not: str = ""


def explained(one: Digest, run: Run) -> Explained:
    """Figures 5 to 7 for the run's first judged fold.

    The window is the held-out one of the last class that has any, of which the network is surest and right; where it
    is never right about that class, the one that it gives the class the highest probability.
    """
    answers = one.answers.get(one.trained(MAIN))
    if not answers:
        return Explained((), "no network to explain: none is trained yet")
    try:
        return Explained(tuple(_pictures(one, run, min(answers, key=lambda a: (a.seed, a.fold)))))
    except EdgepainError as error:
        return Explained((), f"no network to explain: {error}")


def _pictures(one: Digest, run: Run, answers: Answers) -> list[Picture]:
    fold = run.fold(answers.fold)
    row, why = _surest(answers)
    subject = str(run.table.subjects[row])
    index = int(np.count_nonzero(run.table.subjects[:row] == subject))
    window = choose_row(run.table, run.scaling, subject, index)
    explanation = explain(fold.network(), unimodal_heads(fold), window.scaled)
    answer = f"{run.labels[explanation.answer]} {explanation.probabilities[explanation.answer]:.0%}"
    where = f"{one.label}, fold {fold.name}, window {index} of {subject} (held out): {answer}, labelled {window.label}"
    note = f"{one.what}. {where}. {why}, so this is no typical window."
    made = [
        _picture(one, name, WHAT[name], note, figure)
        for name, figure in draw_window(window, explanation, where).items()
        if name in WHAT
    ]
    embeddings = embed_held_out(run, fold)
    planes = {block: project(vectors, "pca") for block, vectors in embeddings.vectors.items()}
    of = f"{len(embeddings.windows)} held-out windows of fold {fold.name}"
    title = f"{one.label}: embeddings of {of}, principal components"
    note = f"{one.what}. Embeddings of {of} in every block, and before the last layer. `edgepain explain` has t-SNE."
    planes_figure = draw_planes(embeddings, planes, "pca", title)
    return [*made, _picture(one, "embeddings", "Where held-out windows lie in the embeddings", note, planes_figure)]


def _surest(answers: Answers) -> tuple[int, str]:
    """The row of the run's table, and why it was chosen: of the last class that has windows here."""
    label = int(answers.labels.max())
    own = answers.labels == label
    right = own & (answers.probabilities.argmax(axis=1) == label)
    sure = np.where(right if right.any() else own, answers.probabilities[:, label], -1)
    chosen = "the surest right answer for its class" if right.any() else "no answer for its class is right; the nearest"
    return int(answers.rows[sure.argmax()]), f"Chosen: {chosen}"


def _picture(one: Digest, name: str, title: str, caption: str, figure: Figure) -> Picture:
    with mpl.rc_context({"svg.hashsalt": "edgepain"}):
        return Picture(f"{one.slug}-{name.replace('_', '-')}", title, printable(caption), as_svg(figure))
