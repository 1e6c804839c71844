"""Search of learning rate and dropout, stage by stage, within the training subjects of a fold.

folds/<fold>/search/<stage>.journal      an Optuna study: one JSON document a line, written by every process at once
folds/<fold>/search/trials/              checkpoints of trials under way; a trial that was killed goes on from them
folds/<fold>/search/inner<i>/            blocks before the stage, trained on the training subjects of an inner fold
folds/<fold>/chosen.json                 what was chosen so far; with all stages, the two folders above are removed
"""

from edgepain.train.search.plan import Range, SearchPlan
from edgepain.train.search.state import Decision, SearchState, Watch
from edgepain.train.search.work import search

__all__ = [
    "Decision",
    "Range",
    "SearchPlan",
    "SearchState",
    "Watch",
    "search",
]
