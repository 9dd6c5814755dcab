"""Diverse subtrees by hand-made nodes: each is greedy, and none waits for another."""

from __future__ import annotations

from typing import Any

import pytest

from factory.search.base import Search
from factory.search.dvts import dvts
from factory.search.growth import Step
from factory.search.value import Valuation
from factory.types import ROOT, StopReason
from tests.handmade import CUT, GONE, RIGHT, WRONG, Table

LINE = Step(stop=("\n",))


def search(width: int = 2, branch: int = 2, max_steps: int = 9, stop_at: int | None = None) -> Search:
    return dvts(LINE, Valuation(), width, branch, max_steps, stop_at)


def test_every_subtree_begins_at_the_root() -> None:
    table = Table(search(width=2, branch=3))
    assert table.parents() == [ROOT] * 6


def test_a_subtree_goes_on_from_its_own_best_without_the_others() -> None:
    table = Table(search())
    table.steps((1, "a", 0.2), (2, "b", 0.1))
    assert table.parents() == [1, 1]
    table.steps((5, "c", 0.3), (6, "d", 0.4))
    assert table.parents() == [6, 6]
    table.steps((3, "e", 0.9), (4, "f", 0.8))
    assert table.parents() == [3, 3], "the better scores of the other subtree change nothing"


def test_two_subtrees_may_hold_the_same_text() -> None:
    table = Table(search())
    table.steps((1, "a", 0.2), (2, "a", 0.2))
    assert table.parents() == [1, 1]
    table.steps((3, "a", 0.2), (4, "a", 0.2))
    assert table.parents() == [3, 3]


def test_a_subtree_ends_by_itself() -> None:
    table = Table(search())
    table.leaves((1, WRONG), (2, CUT))
    assert table.new == []
    table.steps((3, "a", 0.1), (4, "b", 0.2))
    assert table.parents() == [4, 4]
    table.leaves((5, RIGHT), (6, WRONG))
    table.ended(StopReason.SOLVED, [1, 2, 5, 6])


def test_right_leaves_of_all_subtrees_together_end_it() -> None:
    table = Table(search(stop_at=2))
    table.leaves((1, RIGHT))
    table.leaves((3, RIGHT))
    assert table.cancelled == {2, 4}
    table.leaves((2, GONE), (4, GONE))
    table.ended(StopReason.SOLVED, [1, 3])


@pytest.mark.parametrize("name", ["width", "branch", "max_steps", "stop_at"])
def test_what_cannot_work_is_refused_before_it_starts(name: str) -> None:
    parameters: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError):
        search(**parameters)
