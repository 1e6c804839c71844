"""How long a training in stages still takes, from made-up durations."""

from __future__ import annotations

import pytest

from edgepain.cli.time_left import COST, CROSSMOD_COST, TimeLeft

EPOCHS = {"fcn.eda": 10, "alstm.eda": 20, "fcn.bvp": 10, "alstm.bvp": 20, "crossmod": 5}


@pytest.mark.parametrize("fusion", ["pooled", "sequence"])
def test_kinds_not_yet_timed_cost_in_proportion(fusion: str) -> None:
    left = TimeLeft(EPOCHS, fusion)
    left.begin("fcn.eda", 10)
    assert left.add("fcn.eda", 2.0) == pytest.approx(2.0 * (9 + 10 + 40 * COST["alstm"] + 5 * CROSSMOD_COST[fusion]))


def test_a_kind_that_was_timed_goes_by_its_own_times() -> None:
    left = TimeLeft(EPOCHS, "pooled")
    left.begin("fcn.eda", 1)
    left.add("fcn.eda", 1.0)
    left.begin("alstm.eda", 2)
    left.add("alstm.eda", 3.0)
    unit_s = (1.0 + 3.0 + 5.0) / (1 + 2 * COST["alstm"])
    crossmod_s = 5 * CROSSMOD_COST["pooled"] * unit_s
    assert left.add("alstm.eda", 5.0) == pytest.approx(10 * 1.0 + 20 * 4.0 + crossmod_s)


def test_epochs_of_an_earlier_start_are_not_left() -> None:
    left = TimeLeft(EPOCHS, "sequence")
    for stage in ("fcn.eda", "alstm.eda", "fcn.bvp", "alstm.bvp"):
        left.begin(stage, 0)
    left.begin("crossmod", 3)
    assert [left.add("crossmod", 7.0) for _ in range(3)] == [14.0, 7.0, 0.0]
