"""What a trained network looked at: attention, cross-attention and embeddings (paper, Figures 5 to 7)."""

from edgepain.train.explain.attention import AttentionMap, Explanation, alstm_weights, explain, observed
from edgepain.train.explain.choice import (
    ChosenWindow,
    Fold,
    Run,
    choose_fold,
    choose_recorded,
    choose_row,
    standing,
    unimodal_heads,
)
from edgepain.train.explain.contributions import ContributionMap
from edgepain.train.explain.embeddings import Embeddings, embed_held_out, project

__all__ = [
    "AttentionMap",
    "ChosenWindow",
    "ContributionMap",
    "Embeddings",
    "Explanation",
    "Fold",
    "Run",
    "alstm_weights",
    "choose_fold",
    "choose_recorded",
    "choose_row",
    "embed_held_out",
    "explain",
    "observed",
    "project",
    "standing",
    "unimodal_heads",
]
