"""Early rejection by hand-made nodes: which attempts are left, what takes their place, what counts."""

from dataclasses import replace
from typing import Any

import pytest

from factory.search.base import Grown
from factory.search.early_rejection import Patience, early_rejection
from factory.search.growth import Step
from factory.types import Node, NodeState, StopReason
from tests.unit.test_best_of_n import CUT, RIGHT, WRONG, Table, attempt

STEP = Step(("\n",), 7, score=True)


class Steps(Table):
    """A table at which steps are scored."""

    def step(self, id: int, text: str = "", score: float | None = None) -> None:
        self.node(replace(attempt(id, CUT), state=NodeState.OPEN, text=text, score=score))

    def node(self, node: Node) -> None:
        asked = self.asked[node.id - 1]
        self.send([Grown(asked, replace(node, parent=asked.parent))])


def steps(n: int = 3, wave: int | None = 1, stop_at: int | None = 1, **patience: Any) -> Steps:
    return Steps(early_rejection(n, STEP, Patience(**patience), wave=wave, stop_at=stop_at))


def test_an_attempt_goes_on_step_by_step_while_it_is_good_enough() -> None:
    table = steps()
    assert (table.asked[0].stop, table.asked[0].max_tokens, table.asked[0].score) == (("\n",), 7, True)
    table.step(1, score=0.5)
    assert (table.asked[1].parent, table.asked[1].stop, table.asked[1].score) == (1, ("\n",), True)
    table.step(2, score=None)
    assert table.asked[2].parent == 2, "no score is no reason"
    table.node(attempt(3, RIGHT))
    table.ended(StopReason.SOLVED, {3})


def test_one_that_is_left_makes_room_for_a_fresh_one() -> None:
    table = steps()
    table.step(1, score=0.49)
    assert [one.parent for one in table.asked] == [0, 0]
    table.step(2, score=1.0)
    table.node(attempt(3, WRONG))
    table.node(attempt(4, RIGHT))
    table.ended(StopReason.SOLVED, {3, 4})


def test_backtracks_are_counted_over_the_whole_attempt() -> None:
    table = steps(backtrack="dead", max_backtracks=3)
    for id, text in enumerate(["x dead\n", "y\n", "dead dead\n"], start=1):
        table.step(id, text, score=1.0)
    assert [one.parent for one in table.asked] == [0, 1, 2, 0]


def test_it_ends_when_all_attempts_are_over_or_left() -> None:
    table = steps(n=2, wave=2)
    table.step(1, score=0.0)
    table.step(2, score=0.0)
    table.ended(StopReason.EXHAUSTED, set())


def test_an_earlier_attempt_goes_on_to_its_end() -> None:
    table = steps(n=3, wave=3)
    table.node(attempt(2, RIGHT))
    assert table.cancelled == {3}
    table.step(1, score=1.0)
    assert table.asked[3].parent == 1
    table.send([Grown(table.asked[2], None)])
    table.node(attempt(4, WRONG))
    table.ended(StopReason.SOLVED, {2, 4})


@pytest.mark.parametrize("wrong", [{"max_backtracks": 0}, {"backtrack": ""}])
def test_what_cannot_work_is_refused_before_it_starts(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        steps(**wrong)
    with pytest.raises(ValueError):
        steps(n=0)
