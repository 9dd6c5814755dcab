"""Consensus by hand-made nodes: what votes, when it is enough, what counts; and the rule against exact sums."""

from dataclasses import replace

import pytest

from factory.search.base import Grown
from factory.search.consensus import Poll, consensus, evidence
from factory.types import Aspect, Node, Outcome, StopReason, Verdict
from tests.unit.test_best_of_n import CUT, WRONG, Table, attempt

ENOUGH = 9
"""Votes without a dissenter at an error of 0.05."""


def says(id: int, answer: str | None, outcome: Outcome = Outcome.UNKNOWN) -> Node:
    verdict = Verdict("hand", "1", Aspect.ANSWER, outcome, answer, "", 0.0)
    return replace(attempt(id, WRONG), verdicts=(verdict,))


class Booth(Table):
    """A table at which attempts vote."""

    def votes(self, *come: tuple[int, str | None]) -> None:
        self.send([Grown(self.asked[id - 1], says(id, answer)) for id, answer in come])


def booth(n: int = 32, wave: int = 4) -> Booth:
    return Booth(consensus(n, 0.05, wave))


def test_it_stops_once_they_agree_and_cancels_the_rest() -> None:
    table = booth()
    for id in range(1, ENOUGH):
        table.votes((id, "42"))
    assert table.ending is None
    table.votes((ENOUGH, "42"))
    assert table.cancelled == {10, 11, 12}
    table.votes((10, "7"), (11, None), (12, "42"))
    table.ended(StopReason.AGREED, set(range(1, ENOUGH + 1)))


def test_the_order_of_submission_decides_not_who_is_fast() -> None:
    table = booth(wave=10)
    table.votes(*((id, "42") for id in range(2, 11)))
    assert (table.ending, table.cancelled) == (None, set()), "the first attempt has not voted"
    table.votes((1, "7"))
    assert table.ending is None, "and came up first: the other one needs more"
    assert table.ids == list(range(1, 21))


def test_never_more_than_a_wave_is_undecided() -> None:
    table = booth(wave=3)
    assert table.ids == [1, 2, 3]
    table.votes((3, "1"), (2, "2"))
    assert table.ids == [1, 2, 3], "nothing is decided yet"
    table.votes((1, "1"))
    assert table.ids == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_what_a_verifier_decides_takes_no_part(outcome: Outcome) -> None:
    table = booth(wave=1)
    for id in range(1, ENOUGH + 1):
        table.send([Grown(table.asked[id - 1], says(id, "42", outcome))])
    table.ended(StopReason.AGREED, set(range(1, ENOUGH + 1)))


def test_who_says_nothing_has_no_vote() -> None:
    table = booth(wave=1)
    table.send([Grown(table.asked[0], attempt(1, CUT))])
    table.votes((2, None))
    table.votes((3, "  "))
    for id in range(4, ENOUGH + 4):
        table.votes((id, " 42 " if id % 2 else "42"))
    table.ended(StopReason.AGREED, set(range(1, ENOUGH + 4)))


def test_without_agreement_all_are_asked_and_count() -> None:
    table = booth(n=12, wave=12)
    table.votes(*((id, str(id % 2)) for id in range(1, 13)))
    table.ended(StopReason.EXHAUSTED, set(range(1, 13)))


def test_an_answer_that_comes_up_later_can_win() -> None:
    poll = Poll(0.05)
    for vote in ("a", "b", *["c"] * 40):
        poll.add(vote)
    assert poll.agreed


def test_the_evidence_is_the_integral() -> None:
    steps = 20_000
    for a, b in ((0, 0), (1, 0), (7, 0), (3, 2), (9, 4)):
        middles = (0.5 + (place + 0.5) / (2 * steps) for place in range(steps))
        integral = sum(2 * q**a * (1 - q) ** b for q in middles) / (2 * steps)
        assert evidence(a, b) == pytest.approx(integral * 2 ** (a + b), rel=1e-6)


@pytest.mark.parametrize("wrong", [(0, 0.05, 1), (1, 0.05, 0), (1, 0.0, 1), (1, 1.0, 1)])
def test_what_cannot_work_is_refused_before_it_starts(wrong: tuple[int, float, int]) -> None:
    with pytest.raises(ValueError):
        consensus(*wrong)
