"""What a prefix is worth: how the values of a path become one, and what stands in for those that are missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from factory.search.base import Expansion, Grown
from factory.search.growth import Growth, Step
from factory.search.value import Aggregate, Valuation, Values, leaf_value, share_right
from factory.types import ROOT, Node, NodeState, Outcome
from tests.handmade import CUT, RIGHT, UNKNOWN, WRONG, leaf, node, step


def path_of(scores: list[float | None], how: Valuation) -> float:
    """The value of the last node of one path."""
    growth = Growth()
    values = Values(growth, how)
    parent = ROOT
    for score in scores:
        (asked,) = growth.ask(parent, Step(tokens=1))
        (came,) = growth.take([Grown(asked, step(asked, "x", score))])
        assert values.begin(came) == ()
        assert values.is_known(came.id)
        parent = came.id
    return values.of(parent)


@pytest.mark.parametrize(("aggregate", "value"), [("last", 0.5), ("min", 0.2), ("product", 0.08), ("mean", 0.5)])
def test_the_scores_of_a_path_in_one(aggregate: Aggregate, value: float) -> None:
    assert path_of([0.8, 0.2, 0.5], Valuation(aggregate)) == pytest.approx(value)


@pytest.mark.parametrize("aggregate", ["last", "min", "product", "mean"])
@pytest.mark.parametrize(
    ("scores", "same"),
    [([0.8, 0.2, None], [0.8, 0.2]), ([None, 0.4, None, None], [0.4]), ([0.3, None, 0.6], [0.3, 0.6])],
)
def test_a_missing_score_is_the_parents_value(
    aggregate: Aggregate, scores: list[float | None], same: list[float | None]
) -> None:
    assert path_of(scores, Valuation(aggregate)) == path_of(same, Valuation(aggregate))


@pytest.mark.parametrize("aggregate", ["last", "min", "product", "mean"])
def test_where_nothing_is_known_it_is_a_half(aggregate: Aggregate) -> None:
    assert path_of([None, None], Valuation(aggregate)) == 0.5


def made(how: str) -> Node:
    found = leaf(Expansion(1, ROOT), how)
    assert found is not None
    return found


def test_what_leaves_are_worth() -> None:
    assert [leaf_value(made(how)) for how in (RIGHT, WRONG, CUT, UNKNOWN)] == [1.0, 0.0, 0.0, None]


def test_an_unjudged_leaf_and_an_open_node_are_undecided() -> None:
    assert leaf_value(replace(made(RIGHT), verdicts=())) is None
    assert leaf_value(node(Expansion(1, ROOT), "x", NodeState.OPEN)) is None


def test_right_ones_among_those_that_are_decided() -> None:
    assert share_right([made(how) for how in (RIGHT, WRONG, UNKNOWN, CUT)]) == pytest.approx(1 / 3)
    assert share_right([made(UNKNOWN)]) is None
    assert share_right([]) is None


def test_rollouts_are_asked_to_the_end_and_valued_when_the_last_is_back() -> None:
    growth = Growth()
    values = Values(growth, Valuation(rollouts=2))
    (asked,) = growth.ask(ROOT, Step(tokens=1))
    (came,) = growth.take([Grown(asked, step(asked, "x"))])
    one, two = values.begin(came)
    assert (one, two) == (Expansion(2, came.id), Expansion(3, came.id))
    for asked, how, known in ((two, RIGHT, False), (one, WRONG, True)):
        grown = Grown(asked, leaf(asked, how))
        growth.take([grown])
        assert values.took(grown) == came.id
        assert values.is_known(came.id) is known
    assert values.of(came.id) == 0.5
    assert growth.nodes[two.id].outcome is Outcome.PASS


def test_a_piece_that_was_not_asked_for_a_value_is_not_taken() -> None:
    growth = Growth()
    values = Values(growth, Valuation(rollouts=1))
    (asked,) = growth.ask(ROOT)
    assert values.took(Grown(asked, leaf(asked, RIGHT))) is None


def test_scores_are_asked_for_only_where_they_are_the_value() -> None:
    assert Valuation().scored(Step(("\n",))) == Step(("\n",), score=True)
    assert Valuation(rollouts=1).scored(Step(("\n",), score=True)) == Step(("\n",))
