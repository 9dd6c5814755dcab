"""Monte-Carlo tree search by hand-made nodes: where it goes, what is backed up, and that it always ends."""

from __future__ import annotations

from typing import Any

import pytest

from factory.search.base import Expansion, Grown, Search
from factory.search.growth import Step
from factory.search.mcts import Puct, mcts
from factory.search.value import Valuation
from factory.types import ROOT, StopReason
from tests.handmade import CUT, GONE, RIGHT, UNKNOWN, WRONG, Table, step

LINE = Step(stop=("\n",))
GREEDY = Puct(exploration=0.0)


def search(
    puct: Puct = GREEDY,
    expansions: int = 20,
    parallel: int = 1,
    max_steps: int = 9,
    stop_at: int | None = None,
    rollouts: int = 0,
) -> Search:
    return mcts(LINE, Valuation(rollouts=rollouts), puct, expansions, parallel, max_steps, stop_at)


def test_it_begins_at_the_root() -> None:
    assert Table(search()).asked == [Expansion(1, ROOT, stop=("\n",), score=True)]


def test_a_place_is_widened_as_its_visits_grow() -> None:
    """At 2 * sqrt(visits): two continuations after the first visit, three after the third, four after the fourth."""
    table = Table(search(Puct(exploration=0.0, widening=2.0)))
    table.steps((1, "a", 0.0))
    assert table.parents() == [ROOT]
    table.steps((2, "b", 0.5))  # two visits: the share of the root is 2, so the better child goes on
    assert table.parents() == [2]
    table.steps((3, "c", 0.6))  # three: its share is 3
    assert table.parents() == [ROOT]
    table.steps((4, "d", 0.0))  # four: its share is 4
    assert table.parents() == [ROOT]
    table.steps((5, "e", 0.0))  # five: still 4; `b` has a mean of 0.55, two visits and a share of 2
    assert table.parents() == [2]


def test_without_widening_the_root_has_one_child() -> None:
    table = Table(search(Puct(widening=1.0, widening_power=0.0)))
    for id in range(1, 6):
        table.steps((id, "a", 0.5))
        assert table.parents() == [id]


def test_exploration_spreads_the_search() -> None:
    """Children with 0.9 and 0.1: the mean alone goes to the first, a large constant to the one with fewer visits."""
    asked = {}
    for exploration in (0.0, 100.0):
        table = Table(search(Puct(exploration=exploration, widening=2.0, widening_power=0.0)))
        table.steps((1, "a", 0.9))
        table.steps((2, "b", 0.1))
        table.steps((3, "c", 0.9))
        asked[exploration] = table.parents()
    assert asked == {0.0: [1], 100.0: [2]}


def test_values_are_backed_up_to_every_place_above() -> None:
    """A wrong leaf below `a` takes its mean from 0.8 to 0.4, below that of `b`."""
    table = Table(search(Puct(exploration=0.0, widening=2.0, widening_power=0.0)))
    table.steps((1, "a", 0.8))
    table.steps((2, "b", 0.5))
    assert table.parents() == [1]
    table.leaves((3, WRONG))
    assert table.parents() == [2]


@pytest.mark.parametrize(("how", "parent"), [(WRONG, 2), (CUT, 2), (RIGHT, 1), (UNKNOWN, 1), (GONE, 1)])
def test_what_an_ending_is_worth(how: str, parent: int) -> None:
    """A right leaf is 1, a wrong or truncated one 0; what nobody decided, or was cancelled, is no visit."""
    table = Table(search(Puct(exploration=0.0, widening=2.0, widening_power=0.0)))
    table.steps((1, "a", 0.8))
    table.steps((2, "b", 0.5))
    table.leaves((3, how))
    assert table.parents() == [parent]


def test_no_score_is_the_parents_value() -> None:
    table = Table(search(Puct(exploration=0.0, widening=2.0, widening_power=0.0)))
    table.steps((1, "a", 0.4))
    table.steps((2, "b", None))  # a half
    assert table.parents() == [2]


def test_twins_are_one_child_with_a_larger_prior() -> None:
    """`a` was sampled twice and `b` once, with equal values: the search goes to `a`, though it came later."""
    table = Table(search(Puct(exploration=1.0, widening=3.0, widening_power=0.0)))
    table.steps((1, "b", 0.5))
    table.steps((2, "a", 0.5))
    table.steps((3, "a", 0.1))
    assert table.parents() == [2]


def test_the_prior_may_follow_the_probability_of_a_step() -> None:
    puct = Puct(exploration=1.0, widening=2.0, widening_power=0.0, prior="logprob")
    table = Table(search(puct))
    for id, text, logprob in ((1, "a", -3.0), (2, "b", -0.1)):
        asked = table.outstanding[id]
        table.send(Grown(asked, step(asked, text, 0.5, logprob)))
    assert table.parents() == [2]


def test_the_prior_does_without_probabilities() -> None:
    table = Table(search(Puct(widening=2.0, widening_power=0.0, prior="logprob")))
    table.steps((1, "a", 0.5))
    table.steps((2, "b", 0.5))
    assert table.parents() == [1]


def test_what_is_outstanding_counts_as_visits_so_that_steps_spread() -> None:
    table = Table(search(Puct(exploration=1.0, widening=2.0, widening_power=0.0), parallel=4))
    assert table.parents() == [ROOT, ROOT]
    table.steps((1, "a", 0.5))
    assert table.parents() == [1, 1], "the root has had its share, so what is free goes on below"
    table.steps((2, "b", 0.5))
    assert table.parents() == [2, 2], "to the child below which nothing is outstanding"


def test_it_waits_where_every_place_has_had_its_share() -> None:
    table = Table(search(parallel=8))
    assert len(table.outstanding) == 1, "the root has no visit yet"
    table.steps((1, "a", 0.5))
    assert table.parents() == [ROOT, 1, 1]


def test_never_more_than_parallel_steps_are_outstanding() -> None:
    table = Table(search(Puct(widening=9.0), expansions=40, parallel=3))
    while table.ending is None:
        assert len(table.outstanding) <= 3
        last = max(table.outstanding)
        if table.outstanding[last].stop:
            table.steps((last, f"text {last}", 0.5))
        else:
            table.leaves((last, WRONG))
    assert len(table.asked) == 40


def test_a_place_with_nothing_but_leaves_is_continued_beyond_its_share() -> None:
    """Else a search whose every attempt ends at once would stall."""
    table = Table(search(expansions=5))
    for id in range(1, 6):
        table.leaves((id, UNKNOWN))
    table.ended(StopReason.EXHAUSTED, [1, 2, 3, 4, 5])


def test_a_model_that_says_the_same_every_time_ends_at_the_budget() -> None:
    table = Table(search(expansions=30))
    for id in range(1, 30):
        table.steps((id, "same", 0.5))
    table.leaves((30, WRONG))
    table.ended(StopReason.EXHAUSTED, [30])


def test_the_last_step_goes_to_the_end_of_the_turn() -> None:
    table = Table(search(Puct(widening=1.0, widening_power=0.0), max_steps=2))
    table.steps((1, "a", 0.5))
    assert table.new == [Expansion(2, 1)]
    table.leaves((2, WRONG))
    assert table.new == [Expansion(3, 1)]


def test_the_kth_right_leaf_ends_it() -> None:
    table = Table(search(stop_at=1, parallel=2))
    table.steps((1, "a", 0.5))
    table.leaves((2, RIGHT))
    assert table.cancelled == {3}
    table.leaves((3, WRONG))
    table.ended(StopReason.SOLVED, [2])


# --- values by rollouts


def test_a_prefix_is_a_child_once_its_rollouts_are_back() -> None:
    table = Table(search(Puct(exploration=0.0, widening=1.0, widening_power=0.0), rollouts=2))
    table.steps((1, "a", None))
    assert table.new == [Expansion(2, 1), Expansion(3, 1)]
    table.leaves((2, RIGHT))
    assert table.new == []
    table.leaves((3, WRONG))
    assert table.new == [Expansion(4, 1, stop=("\n",))]


def test_the_share_of_right_ones_is_the_value() -> None:
    table = Table(search(Puct(exploration=0.0, widening=2.0, widening_power=0.0), rollouts=2))
    table.steps((1, "a", None))
    table.leaves((2, WRONG), (3, WRONG))
    table.steps((4, "b", None))
    table.leaves((5, WRONG), (6, RIGHT))
    assert table.parents() == [4]


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize("expansions", [4, 5, 6, 7, 8, 20])
def test_generations_are_spent_to_the_last(expansions: int, parallel: int) -> None:
    """A step keeps what it may need for its rollouts; what is left at the end goes to attempts."""
    table = Table(search(expansions=expansions, parallel=parallel, rollouts=2))
    while table.ending is None:
        first = min(table.outstanding)
        if table.outstanding[first].stop:
            table.steps((first, f"text {first}", None))
        else:
            table.leaves((first, WRONG))
    assert len(table.asked) == expansions


def test_rollouts_that_were_not_needed_are_spent_elsewhere() -> None:
    table = Table(search(expansions=4, rollouts=2))
    table.leaves((1, WRONG))
    table.steps((2, "a", None))
    table.leaves((3, WRONG), (4, WRONG))
    table.ended(StopReason.EXHAUSTED, [1, 3, 4])


def test_the_last_generations_end_in_attempts() -> None:
    """As many as may be outstanding."""
    table = Table(search(expansions=5, parallel=2))
    table.steps((1, "a", 0.5))
    assert table.parents() == [ROOT, 1]
    table.steps((3, "b", 0.9), (2, "c", 0.1))
    assert table.new == [Expansion(4, 1), Expansion(5, ROOT)]
    table.leaves((4, WRONG), (5, RIGHT))
    table.ended(StopReason.SOLVED, [4, 5])


@pytest.mark.parametrize("name", ["expansions", "parallel", "max_steps", "stop_at"])
def test_what_cannot_work_is_refused_before_it_starts(name: str) -> None:
    parameters: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError):
        search(**parameters)


@pytest.mark.parametrize("name", ["parallel", "rollouts"])
def test_a_budget_that_leaves_no_step_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expansions must be more"):
        search(expansions=2, parallel=2 if name == "parallel" else 1, rollouts=2 if name == "rollouts" else 0)
