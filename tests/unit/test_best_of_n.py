"""Best of n, by hand-made nodes: what it asks for, what counts, and when it stops."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from factory.search.base import Ending, Expansion, Grown, Search, Wants
from factory.search.best_of_n import best_of_n
from factory.types import ROOT, Aspect, Node, NodeState, Origin, Outcome, StopReason, Verdict

RIGHT, WRONG, UNKNOWN, CUT, GONE = "right", "wrong", "unknown", "cut", "gone"
"""What comes of an attempt. CUT by the token limit, GONE because it was cancelled."""

OUTCOMES = {RIGHT: (Outcome.PASS,), WRONG: (Outcome.FAIL,), UNKNOWN: (Outcome.UNKNOWN,), CUT: ()}


def attempt(id: int, what: str, extra: tuple[Verdict, ...] = ()) -> Node:
    outcomes = OUTCOMES[what]
    return Node(
        id=id,
        parent=ROOT,
        text=what,
        token_ids=None,
        logprobs=None,
        origin=Origin.SAMPLED,
        state=NodeState.TRUNCATED if what == CUT else NodeState.FINISHED,
        score=None,
        verdicts=tuple(verdict(outcome) for outcome in outcomes) + extra,
        counted=True,
        generated_tokens=1,
        prompt_tokens=1,
        cached_tokens=None,
        seconds=0.0,
    )


def verdict(outcome: Outcome, aspect: Aspect = Aspect.ANSWER) -> Verdict:
    return Verdict("hand", "1", aspect, outcome, None, "", 0.0)


class Table:
    """Plays the part of a rollout for one search, turn by turn."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self.asked: list[Expansion] = []
        self.outstanding: set[int] = set()
        self.cancelled: set[int] = set()
        self.ending: Ending | None = None
        self._take(next(search))

    def _take(self, wants: Wants) -> None:
        self.asked += wants.expand
        self.outstanding |= {expansion.id for expansion in wants.expand}
        assert set(wants.cancel) <= self.outstanding, "only what is outstanding can be cancelled"
        self.cancelled |= set(wants.cancel)
        assert self.outstanding, "a search that waits has something outstanding"

    def back(self, *come: tuple[int, str]) -> None:
        """Send these together."""
        self.send([Grown(self.asked[id - 1], None if what == GONE else attempt(id, what)) for id, what in come])

    def send(self, grown: Iterable[Grown]) -> None:
        grown = tuple(grown)
        self.outstanding -= {one.expansion.id for one in grown}
        try:
            self._take(self._search.send(grown))
        except StopIteration as stop:
            self.ending = stop.value
            assert not self.outstanding, "it waits for all that it asked for"

    @property
    def ids(self) -> list[int]:
        return [expansion.id for expansion in self.asked]

    def ended(self, stop: StopReason, counted: set[int]) -> None:
        assert self.ending == Ending(stop, frozenset(counted))


def test_all_are_asked_for_at_once_by_default() -> None:
    table = Table(best_of_n(4))
    assert table.asked == [Expansion(id, ROOT) for id in (1, 2, 3, 4)]


def test_a_wave_is_refilled_as_attempts_come_back() -> None:
    table = Table(best_of_n(5, wave=2))
    assert table.ids == [1, 2]
    table.back((2, WRONG))
    assert table.ids == [1, 2, 3]
    table.back((1, WRONG), (3, WRONG))
    assert table.ids == [1, 2, 3, 4, 5]
    table.back((5, WRONG))
    assert table.ids == [1, 2, 3, 4, 5]
    table.back((4, WRONG))
    table.ended(StopReason.EXHAUSTED, {1, 2, 3, 4, 5})


def test_never_more_than_a_wave_is_outstanding() -> None:
    table = Table(best_of_n(20, wave=3))
    while table.ending is None:
        assert len(table.outstanding) <= 3
        table.back((max(table.outstanding), WRONG))
    assert table.ids == list(range(1, 21))


def test_the_kth_right_one_ends_it_and_later_ones_are_cancelled() -> None:
    table = Table(best_of_n(8, stop_at=2))
    table.back((1, RIGHT), (2, WRONG))
    assert table.cancelled == set()
    table.back((3, RIGHT))
    assert table.cancelled == {4, 5, 6, 7, 8}
    assert table.ending is None, "cancelled ones come back too"
    table.back(*((id, GONE) for id in range(4, 9)))
    table.ended(StopReason.SOLVED, {1, 2, 3})


def test_nothing_new_is_asked_for_once_the_cut_is_known() -> None:
    table = Table(best_of_n(8, wave=3, stop_at=1))
    table.back((2, RIGHT))
    assert table.ids == [1, 2, 3]
    assert table.cancelled == {3}
    table.back((3, GONE))
    assert table.ids == [1, 2, 3]
    table.back((1, WRONG))
    table.ended(StopReason.SOLVED, {1, 2})


def test_earlier_attempts_are_always_awaited() -> None:
    """A right answer that is back soon does not decide for the slow ones before it."""
    table = Table(best_of_n(4, stop_at=1))
    table.back((3, RIGHT))
    assert table.cancelled == {4}
    table.back((4, GONE))
    table.back((2, WRONG))
    assert table.ending is None
    table.back((1, WRONG))
    table.ended(StopReason.SOLVED, {1, 2, 3})


def test_an_earlier_right_answer_that_comes_later_moves_the_cut_forward() -> None:
    table = Table(best_of_n(6, stop_at=2))
    table.back((4, RIGHT), (5, RIGHT))
    assert table.cancelled == {6}
    table.back((2, RIGHT))
    assert table.cancelled == {6}, "4 is now the last that counts, and all after it are back or cancelled"
    table.back((3, WRONG), (6, GONE))
    table.back((1, RIGHT))
    table.ended(StopReason.SOLVED, {1, 2})


def test_a_cut_that_moves_cancels_what_is_behind_it() -> None:
    table = Table(best_of_n(6, stop_at=1))
    table.back((5, RIGHT))
    assert table.cancelled == {6}
    table.back((2, RIGHT))
    assert table.cancelled == {3, 4, 6}
    table.back((1, WRONG), (3, GONE), (4, WRONG), (6, RIGHT))
    table.ended(StopReason.SOLVED, {1, 2})


def test_a_cancelled_attempt_that_finished_all_the_same_does_not_count() -> None:
    table = Table(best_of_n(3, stop_at=1))
    table.back((1, RIGHT))
    table.back((2, RIGHT), (3, GONE))
    table.ended(StopReason.SOLVED, {1})


def test_unknown_is_not_right_and_counts_as_an_attempt() -> None:
    table = Table(best_of_n(3, stop_at=1))
    table.back((1, UNKNOWN), (2, UNKNOWN), (3, UNKNOWN))
    table.ended(StopReason.EXHAUSTED, {1, 2, 3})


def test_a_truncated_attempt_counts_and_is_not_right() -> None:
    table = Table(best_of_n(3, stop_at=1))
    table.back((1, CUT), (2, RIGHT))
    table.back((3, GONE))
    table.ended(StopReason.SOLVED, {1, 2})


def test_an_attempt_that_nobody_judged_is_not_right() -> None:
    table = Table(best_of_n(1, stop_at=1))
    table.send([Grown(table.asked[0], replace(attempt(1, CUT), state=NodeState.FINISHED))])
    table.ended(StopReason.EXHAUSTED, {1})


def test_a_right_chain_with_a_wrong_answer_is_not_right() -> None:
    table = Table(best_of_n(2, stop_at=1))
    good_chain = (verdict(Outcome.PASS, Aspect.CHAIN),)
    bad_chain = (verdict(Outcome.FAIL, Aspect.CHAIN),)
    table.send(
        [Grown(table.asked[0], attempt(1, WRONG, good_chain)), Grown(table.asked[1], attempt(2, RIGHT, bad_chain))]
    )
    table.ended(StopReason.SOLVED, {1, 2})


def test_two_checks_must_agree() -> None:
    table = Table(best_of_n(2, stop_at=1))
    table.send(
        [
            Grown(table.asked[0], attempt(1, RIGHT, (verdict(Outcome.FAIL),))),
            Grown(table.asked[1], attempt(2, RIGHT, (verdict(Outcome.UNKNOWN),))),
        ]
    )
    table.ended(StopReason.EXHAUSTED, {1, 2})


def test_n_is_exhausted_with_too_few_right_ones() -> None:
    table = Table(best_of_n(3, stop_at=3))
    table.back((1, RIGHT), (2, RIGHT), (3, WRONG))
    table.ended(StopReason.EXHAUSTED, {1, 2, 3})


def test_the_last_attempt_may_be_the_kth_right_one() -> None:
    table = Table(best_of_n(3, stop_at=2))
    table.back((1, RIGHT), (2, WRONG))
    table.back((3, RIGHT))
    table.ended(StopReason.SOLVED, {1, 2, 3})


@pytest.mark.parametrize(("what", "stop"), [(RIGHT, StopReason.SOLVED), (WRONG, StopReason.EXHAUSTED)])
def test_without_a_stop_every_attempt_is_made(what: str, stop: StopReason) -> None:
    table = Table(best_of_n(3, wave=1))
    for id in (1, 2, 3):
        assert table.ids == list(range(1, id + 1))
        table.back((id, what))
    assert table.cancelled == set()
    table.ended(stop, {1, 2, 3})


@pytest.mark.parametrize("wrong", [{"n": 0}, {"n": -1}, {"n": 3, "wave": 0}, {"n": 3, "stop_at": 0}])
def test_what_cannot_work_is_refused_before_it_starts(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        best_of_n(**wrong)


def test_a_wave_larger_than_n_is_n() -> None:
    assert Table(best_of_n(2, wave=9)).ids == [1, 2]
