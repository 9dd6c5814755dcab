"""A ladder by hand-made nodes: when it climbs, what counts over all rungs, when it gives a problem up."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from factory.search.base import Ending, Expansion, Grown, Search, Wants
from factory.search.best_of_n import best_of_n
from factory.search.ladder import Rung, ladder
from factory.types import ROOT, Node, NodeState, Scoring, StopReason
from tests.unit.test_best_of_n import CUT, GONE, RIGHT, UNKNOWN, WRONG, Table, attempt


def attempts(n: int, wave: int | None = None) -> Rung:
    return lambda missing: best_of_n(n, wave, missing)


def chain(seen: list[Grown]) -> Rung:
    """A step, then an attempt that continues it; remembers what it was sent."""

    def search(_: int | None) -> Search:
        for id, parent in ((1, ROOT), (2, 1)):
            seen.extend((yield Wants((Expansion(id, parent, stop=("\n",), priority=2),))))
        return Ending(StopReason.SOLVED, frozenset({2}))

    return search


def hasty(then: Callable[[], Ending]) -> Rung:
    """Asks for three attempts and waits for one."""

    def search(_: int | None) -> Search:
        yield Wants(tuple(Expansion(id, ROOT) for id in (1, 2, 3)))
        return then()

    return search


def step(id: int, parent: int) -> Node:
    return replace(attempt(id, CUT), parent=parent, state=NodeState.OPEN)


def unsolved() -> Ending:
    return Ending(StopReason.EXHAUSTED, frozenset({1}))


def test_it_climbs_where_a_rung_ends_unsolved_and_ids_go_on() -> None:
    table = Table(ladder([attempts(2), attempts(3)]))
    table.back((1, WRONG))
    assert table.ids == [1, 2]
    table.back((2, CUT))
    assert table.ids == [1, 2, 3, 4, 5]
    table.back((4, RIGHT), (3, WRONG), (5, WRONG))
    table.ended(StopReason.SOLVED, {1, 2, 3, 4, 5})


def test_a_solved_rung_is_the_last() -> None:
    table = Table(ladder([attempts(2), attempts(3)], stop_at=1))
    table.back((1, RIGHT))
    table.back((2, GONE))
    table.ended(StopReason.SOLVED, {1})


def test_the_top_of_the_ladder_is_its_end() -> None:
    table = Table(ladder([attempts(1), attempts(1)], stop_at=1))
    table.back((1, WRONG))
    table.back((2, UNKNOWN))
    table.ended(StopReason.EXHAUSTED, {1, 2})


def test_right_answers_of_all_rungs_are_one_number() -> None:
    """Two of three are there: the second rung ends at its first right one, by its own rule of what counts."""
    table = Table(ladder([attempts(3), attempts(4)], stop_at=3))
    table.back((1, RIGHT), (2, WRONG), (3, RIGHT))
    assert table.ids == [1, 2, 3, 4, 5, 6, 7]
    table.back((6, RIGHT))
    assert table.cancelled == {7}
    table.back((7, GONE))
    table.back((4, WRONG))
    assert table.ending is None
    table.back((5, WRONG))
    table.ended(StopReason.SOLVED, {1, 2, 3, 4, 5, 6})


def test_a_right_answer_that_does_not_count_solves_nothing() -> None:
    table = Table(ladder([attempts(2), attempts(2)], stop_at=2))
    table.back((1, RIGHT), (2, WRONG))
    assert table.ids == [1, 2, 3, 4]
    table.back((3, RIGHT))
    table.back((4, RIGHT))
    table.ended(StopReason.SOLVED, {1, 2, 3})


def test_a_rung_is_told_of_its_own_ids_and_sees_what_it_asked_for() -> None:
    seen: list[Grown] = []
    table = Table(ladder([attempts(2), chain(seen)]))
    table.back((1, WRONG), (2, WRONG))
    table.send([Grown(table.asked[2], step(3, ROOT))])
    assert (table.asked[3].id, table.asked[3].parent) == (4, 3)
    table.send([Grown(table.asked[3], replace(attempt(4, RIGHT), parent=3))])
    table.ended(StopReason.SOLVED, {1, 2, 4})
    assert [(one.expansion.id, one.expansion.parent, one.expansion.priority) for one in seen] == [(1, 0, 2), (2, 1, 2)]
    assert [(one.node.id, one.node.parent) for one in seen if one.node] == [(1, 0), (2, 1)]


def test_higher_rungs_can_wait() -> None:
    table = Table(ladder([attempts(1), attempts(1), chain([])]))
    table.back((1, WRONG))
    table.back((2, WRONG))
    assert [one.priority for one in table.asked] == [0, 1, 4]


def test_what_a_hasty_rung_left_is_cancelled_and_counts_nowhere() -> None:
    table = Table(ladder([hasty(unsolved), attempts(2)], stop_at=1))
    table.back((1, WRONG))
    assert table.ids == [1, 2, 3, 4, 5]
    assert table.cancelled == {2, 3}
    table.back((2, RIGHT), (3, GONE))
    assert table.ending is None, "the second rung is told nothing of them"
    table.back((4, WRONG), (5, WRONG))
    table.ended(StopReason.EXHAUSTED, {1, 4, 5})


# --- giving up


def test_a_problem_without_a_right_answer_is_given_up_between_two_rungs() -> None:
    table = Table(ladder([attempts(2), attempts(1), attempts(5)], hopeless_after=3))
    table.back((1, WRONG), (2, CUT))
    assert table.ids == [1, 2, 3], "two tokens speak against it"
    table.back((3, WRONG))
    table.ended(StopReason.GIVEN_UP, {1, 2, 3})


def test_one_right_answer_is_hope() -> None:
    table = Table(ladder([attempts(2), attempts(1)], stop_at=2, hopeless_after=1))
    table.back((1, RIGHT), (2, WRONG))
    assert table.ids == [1, 2, 3]


@pytest.mark.parametrize("spared", [UNKNOWN, GONE])
def test_trouble_speaks_against_nothing(spared: str) -> None:
    table = Table(ladder([attempts(2), attempts(1)], hopeless_after=2))
    table.back((1, WRONG), (2, spared))
    assert table.ids == [1, 2, 3]


def test_what_is_cancelled_speaks_neither_way() -> None:
    """Whether it finished all the same hangs on the engine, and a search must not."""
    table = Table(ladder([hasty(unsolved), attempts(1), attempts(1)], hopeless_after=3))
    table.back((1, WRONG))
    table.back((2, WRONG), (3, WRONG))
    table.back((4, WRONG))
    assert table.ids == [1, 2, 3, 4, 5]


def test_guesses_are_paid_for_too() -> None:
    table = Table(ladder([chain([]), attempts(1)], hopeless_after=9))
    scored = replace(step(1, ROOT), scoring=Scoring(generated_tokens=7))
    table.send([Grown(table.asked[0], scored)])
    table.send([Grown(table.asked[1], replace(attempt(2, WRONG), parent=1))])
    table.ended(StopReason.GIVEN_UP, {2})


def test_the_last_rung_is_not_given_up() -> None:
    table = Table(ladder([attempts(1)], hopeless_after=1))
    table.back((1, WRONG))
    table.ended(StopReason.EXHAUSTED, {1})


@pytest.mark.parametrize("wrong", [{"stop_at": 0}, {"hopeless_after": 0}])
def test_what_cannot_work_is_refused_before_it_starts(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        ladder([attempts(1)], **wrong)
    with pytest.raises(ValueError):
        ladder([])
