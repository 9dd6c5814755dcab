"""Beam search by hand-made nodes: what is kept, what is continued, and when it ends."""

from __future__ import annotations

from typing import Any

import pytest

from factory.search.base import Expansion, Search
from factory.search.beam import beam
from factory.search.growth import Step
from factory.search.value import Valuation
from factory.types import ROOT, StopReason
from tests.handmade import CUT, GONE, RIGHT, UNKNOWN, WRONG, Table

LINE = Step(stop=("\n",), tokens=9)


def search(width: int = 2, branch: int = 2, max_steps: int = 9, stop_at: int | None = None) -> Search:
    return beam(LINE, Valuation(), width, branch, max_steps, stop_at)


def test_the_first_step_is_as_wide_as_any_other() -> None:
    table = Table(search(width=2, branch=3))
    assert table.asked == [Expansion(id, ROOT, 9, stop=("\n",), score=True) for id in range(1, 7)]


def test_the_best_are_kept_and_continued_best_first() -> None:
    table = Table(search())
    table.steps((1, "a", 0.1), (2, "b", 0.9), (3, "c", 0.3), (4, "d", 0.2))
    assert table.parents() == [2, 2, 3, 3]


def test_a_step_waits_for_all_of_its_continuations() -> None:
    table = Table(search())
    for id, text in ((4, "d"), (2, "b"), (1, "a")):
        table.steps((id, text, id / 10))
        assert table.new == []
    table.steps((3, "c", 0.0))
    assert table.parents() == [4, 4, 2, 2]


def test_of_equal_scores_the_earlier_expansion_goes_first() -> None:
    table = Table(search())
    table.steps((4, "d", 0.5), (3, "c", 0.5), (2, "b", 0.5), (1, "a", 0.4))
    assert table.parents() == [2, 2, 3, 3]


def test_free_places_go_round_again_from_the_best() -> None:
    table = Table(search(width=5, branch=1))
    table.steps((1, "a", 0.1), (2, "b", 0.2), (3, "b", 0.2))
    table.leaves((4, WRONG), (5, GONE))
    assert table.parents() == [2, 1, 2, 1, 2]


def test_identical_siblings_are_kept_once() -> None:
    table = Table(search())
    table.steps((1, "a", 0.5), (2, "a", 0.5), (3, "a", 0.5), (4, "b", 0.1))
    assert table.parents() == [1, 1, 4, 4]


def test_identical_paths_are_kept_once() -> None:
    """Where tokens end steps, `a` + `bc` and `ab` + `c` are one text."""
    table = Table(search())
    table.steps((1, "a", 0.9), (2, "ab", 0.8), (3, "x", 0.1), (4, "y", 0.1))
    assert table.parents() == [1, 1, 2, 2]
    table.steps((5, "bc", 0.9), (6, "z", 0.2), (7, "c", 0.9), (8, "zz", 0.1))
    assert table.parents() == [5, 5, 6, 6]


def test_finished_and_truncated_ones_are_leaves_and_take_no_place() -> None:
    table = Table(search())
    table.leaves((1, WRONG), (2, CUT))
    table.steps((3, "c", 0.1), (4, "d", 0.2))
    assert table.parents() == [4, 4, 3, 3]


def test_it_ends_when_nothing_is_open() -> None:
    table = Table(search())
    table.leaves((1, WRONG), (2, CUT), (3, UNKNOWN), (4, GONE))
    table.ended(StopReason.EXHAUSTED, [1, 2, 3])


def test_without_a_stop_right_leaves_do_not_end_it() -> None:
    table = Table(search())
    table.leaves((1, RIGHT), (2, RIGHT))
    table.steps((3, "c", 0.1), (4, "d", 0.2))
    table.leaves((5, WRONG), (6, WRONG), (7, WRONG), (8, WRONG))
    table.ended(StopReason.SOLVED, [1, 2, 5, 6, 7, 8])


def test_the_kth_right_leaf_cancels_what_is_outstanding() -> None:
    table = Table(search(width=3, stop_at=2))
    table.leaves((1, RIGHT))
    assert table.cancelled == set()
    table.leaves((4, RIGHT))
    assert table.cancelled == {2, 3, 5, 6}
    assert table.ending is None, "what was cancelled comes back, too"
    table.leaves((2, RIGHT), (3, GONE))
    table.steps((5, "e", 0.9))
    table.leaves((6, WRONG))
    table.ended(StopReason.SOLVED, [1, 4])


def test_what_came_together_is_as_if_it_had_come_one_by_one() -> None:
    table = Table(search(stop_at=1))
    table.leaves((3, WRONG), (1, RIGHT), (2, RIGHT))
    assert table.cancelled == {4}
    table.leaves((4, GONE))
    table.ended(StopReason.SOLVED, [1, 3])


def test_what_was_not_asked_for_yet_is_not_asked_for_after_the_stop() -> None:
    """The last step's value asks for rollouts, in the same turn in which the right leaf comes."""
    table = Table(beam(LINE, Valuation(rollouts=2), 1, 2, 9, stop_at=1))
    table.steps((1, "a", None))
    one, two = table.outstanding[2], table.outstanding[3]
    assert (one.parent, two.parent) == (ROOT, 1)
    table.leaves((3, RIGHT))
    assert table.cancelled == {2, 4}
    table.leaves((2, GONE), (4, GONE))
    table.ended(StopReason.SOLVED, [3])


def test_the_last_step_goes_to_the_end_of_the_turn() -> None:
    table = Table(search(max_steps=2))
    table.steps((1, "a", 0.1), (2, "b", 0.9), (3, "c", 0.3), (4, "d", 0.2))
    assert table.new == [Expansion(id, parent) for id, parent in ((5, 2), (6, 2), (7, 3), (8, 3))]
    table.leaves((5, CUT), (6, WRONG), (7, WRONG), (8, WRONG))
    table.ended(StopReason.EXHAUSTED, [5, 6, 7, 8])


def test_one_step_is_best_of_n() -> None:
    table = Table(search(width=2, branch=3, max_steps=1))
    assert table.asked == [Expansion(id, ROOT) for id in range(1, 7)]


def test_no_score_is_the_parents_value() -> None:
    table = Table(search(width=1, branch=3))
    table.steps((1, "a", 0.4), (2, "b", 0.6), (3, "c", None))
    assert table.parents() == [2, 2, 2]
    table.steps((4, "x", 0.5), (5, "y", None), (6, "z", 0.59))
    assert table.parents() == [5, 5, 5]


def test_no_score_is_a_half_at_the_root() -> None:
    table = Table(search(width=1, branch=2))
    table.steps((1, "a", 0.49), (2, "b", None))
    assert table.parents() == [2, 2]


def test_a_cancelled_continuation_is_not_waited_for() -> None:
    table = Table(search())
    table.steps((1, "a", 0.1), (2, "b", 0.9))
    table.leaves((3, GONE), (4, GONE))
    assert table.parents() == [2, 2, 1, 1]


# --- values by rollouts


def valued(width: int = 1, branch: int = 2, stop_at: int | None = None) -> Search:
    return beam(LINE, Valuation(rollouts=2), width, branch, 9, stop_at)


def test_each_open_prefix_is_continued_to_the_end_at_once() -> None:
    table = Table(valued())
    assert not any(one.score for one in table.asked)
    table.steps((2, "b", None))
    assert table.new == [Expansion(3, 2), Expansion(4, 2)]


def test_the_share_of_right_ones_decides_and_they_count() -> None:
    table = Table(valued())
    table.steps((1, "a", None), (2, "b", None))
    table.leaves((3, RIGHT), (4, WRONG), (5, RIGHT))
    assert table.new == []
    table.leaves((6, RIGHT))
    assert table.parents() == [2, 2]
    table.leaves((7, WRONG), (8, WRONG))
    table.ended(StopReason.SOLVED, [3, 4, 5, 6, 7, 8])


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ((RIGHT, UNKNOWN), (RIGHT, WRONG), 1),  # 1 of 1 decided against 1 of 2
        ((RIGHT, GONE), (RIGHT, WRONG), 1),
        ((RIGHT, CUT), (RIGHT, UNKNOWN), 2),  # a truncated one is wrong
        ((CUT, WRONG), (UNKNOWN, GONE), 2),  # nothing against a half
        ((UNKNOWN, UNKNOWN), (RIGHT, WRONG), 1),  # a half against a half
    ],
)
def test_what_is_not_decided_is_left_out(first: tuple[str, str], second: tuple[str, str], kept: int) -> None:
    table = Table(valued())
    table.steps((1, "a", None), (2, "b", None))
    table.leaves((3, first[0]), (4, first[1]), (5, second[0]), (6, second[1]))
    assert table.parents() == [kept, kept]


def test_a_twin_is_not_valued_again() -> None:
    table = Table(valued())
    table.steps((1, "a", None))
    table.steps((2, "a", None))
    assert table.new == []
    assert sorted(table.outstanding) == [3, 4]


@pytest.mark.parametrize("name", ["width", "branch", "max_steps", "stop_at"])
def test_what_cannot_work_is_refused_before_it_starts(name: str) -> None:
    parameters: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError):
        search(**parameters)
