"""Dispatch hands out every problem, takes back what dead workers held, and lets suspects run alone."""

from collections.abc import Iterator

import pytest

from factory.dispatch import BadItem, Dispatch, DispatchError
from factory.types import Problem
from tests.rig import problem, problems


def ids(taken: list[Problem]) -> list[str]:
    return [one.id for one in taken]


def dispatch(count: int, suspicion: int = 2) -> Dispatch:
    return Dispatch(problems(count), [], suspicion)


def drained(made: Dispatch) -> bool:
    """A call, because it changes between two looks."""
    return made.drained


def suspects(count: int) -> Dispatch:
    """All of its problems were present at two deaths."""
    made = dispatch(count)
    for name in ("a", "b"):
        assert len(made.take(name, count)) == count
        assert made.lost(name) == []
    return made


def test_problems_are_handed_out_in_the_order_of_the_source() -> None:
    made = dispatch(5)
    assert made.take("a", 2) == problems(2)
    assert made.take("b", 2) == problems(2, start=2)
    assert made.take("a", 2) == problems(1, start=4)
    assert made.take("b", 2) == []
    assert (made.holds("a"), made.holds("b"), made.in_hand) == (3, 2, 5)
    assert made.holds("nobody") == 0


def test_it_is_drained_when_nothing_is_owed_or_in_hand() -> None:
    made = dispatch(2)
    assert not drained(made)
    first, second = made.take("a", 2)
    made.close("a", [second.id])
    assert not drained(made)
    made.close("a", [first.id])
    assert not drained(made), "the source has not said that it is at its end"
    assert made.offers("a")
    assert made.take("a", 1) == []
    assert drained(made)
    assert not made.offers("a")


def test_an_empty_source() -> None:
    made = Dispatch([], [], 2)
    assert not made.prime()
    assert drained(made)
    assert made.take("a", 3) == []


def test_the_source_is_read_no_further_than_is_asked_for() -> None:
    read: list[int] = []

    def source() -> Iterator[Problem]:
        for number in range(10):
            read.append(number)
            yield problem(number)

    made = Dispatch(source(), [], 2)
    assert read == []
    made.prime()
    assert read == [0]
    made.take("a", 3)
    assert read == [0, 1, 2]
    made.take("a", 0)
    assert read == [0, 1, 2]


def test_what_was_closed_before_is_never_handed_out() -> None:
    every = problems(6)
    made = Dispatch(every, [every[0].id, every[3].id, every[5].id, problem(99).id], 2)
    assert made.take("a", 9) == [every[1], every[2], every[4]]
    assert made.skipped == 3
    made.close("a", [every[1].id, every[2].id, every[4].id])
    assert drained(made)


def test_priming_loses_nothing_and_tells_whether_anything_is_owed() -> None:
    made = dispatch(3)
    assert made.prime()
    assert made.prime()
    assert sorted(ids(made.take("a", 9))) == sorted(ids(problems(3)))

    every = problems(3)
    made = Dispatch(every, [one.id for one in every], 2)
    assert not made.prime()
    assert (made.skipped, made.drained) == (3, True)


def test_what_is_no_problem_is_told_once() -> None:
    bad = BadItem("00" * 10, "SourceError: line 2: not JSON")
    made = Dispatch([problem(0), bad, problem(1)], [], 2)
    assert made.take("a", 9) == problems(2)
    assert not drained(made)
    assert made.bad_items() == [bad]
    assert made.bad_items() == []
    made.close("a", ids(problems(2)))
    assert drained(made)


def test_a_source_of_nothing_but_bad_items_is_owed() -> None:
    bad = BadItem("00" * 10, "x")
    made = Dispatch([bad], [], 2)
    assert made.prime()
    assert not drained(made)
    assert made.bad_items() == [bad]
    assert drained(made)
    assert not Dispatch([bad], [bad.id], 2).prime(), "it was committed before"


def test_a_problem_is_closed_by_the_worker_that_holds_it_and_once() -> None:
    made = dispatch(2)
    (first,) = made.take("a", 1)
    made.take("b", 1)
    for worker, id in (("b", first.id), ("nobody", first.id), ("a", problem(1).id), ("a", "ff" * 10)):
        with pytest.raises(DispatchError, match=worker):
            made.close(worker, [id])
    made.close("a", [first.id])
    with pytest.raises(DispatchError):
        made.close("a", [first.id])
    assert made.in_hand == 1


def test_what_a_worker_leaves_in_order_is_owed_again_without_blame() -> None:
    made = dispatch(2, suspicion=1)
    made.take("a", 2)
    made.release("a")
    assert made.in_hand == 0
    assert made.take("b", 2) == problems(2), "together: nobody is a suspect"
    made.release("nobody")


def test_what_a_dead_worker_held_is_owed_again() -> None:
    made = dispatch(3)
    assert made.take("a", 2) == problems(2)
    made.close("a", [problem(0).id])
    assert made.lost("a") == []
    assert ids(made.take("b", 9)) == ids([problem(1), problem(2)])
    with pytest.raises(DispatchError):
        made.close("a", [problem(1).id])
    assert made.lost("nobody") == []


def test_who_was_present_at_enough_deaths_runs_alone() -> None:
    made = suspects(3)
    assert made.offers("c")
    (first,) = made.take("c", 9)
    assert not made.offers("c"), "as long as it has the suspect"
    assert made.take("c", 9) == []
    (second,) = made.take("d", 9)
    assert first != second
    made.close("c", [first.id])
    (third,) = made.take("c", 9)
    made.close("c", [third.id])
    made.close("d", [second.id])
    assert made.take("c", 9) == []
    assert drained(made)


def test_who_holds_others_is_never_given_a_suspect() -> None:
    made = Dispatch(problems(3), [], 1)
    made.take("a", 1)
    made.take("b", 1)
    made.lost("a")
    assert made.take("b", 9) == [problem(2)]
    assert not made.offers("b")
    assert made.take("b", 9) == []
    assert made.offers("c")
    made.close("b", [problem(1).id, problem(2).id])
    assert made.offers("b")
    assert made.take("b", 9) == [problem(0)]


def test_a_death_alone_is_the_problems_own() -> None:
    made = suspects(1)
    made.take("c", 1)
    assert made.lost("c") == [problem(0)]
    assert made.take("d", 1) == []
    assert drained(made), "it is given up: the driver reports it as an error"


def test_a_suspect_whose_worker_ends_in_order_stays_one() -> None:
    made = Dispatch(problems(2), [], 1)
    made.take("a", 1)
    made.lost("a")
    made.take("b", 1)
    made.release("b")
    assert made.take("c", 9) == [problem(0)]
    assert made.lost("c") == [problem(0)]


def test_a_worker_that_was_alone_goes_on_with_others() -> None:
    made = Dispatch(problems(4), [], 1)
    made.take("a", 1)
    made.lost("a")
    made.take("b", 9)
    made.close("b", [problem(0).id])
    assert made.take("b", 9) == problems(3, start=1)
    assert made.lost("b") == [], "it was not alone any more"


def test_deaths_of_others_are_not_counted() -> None:
    made = dispatch(2, suspicion=2)
    made.take("a", 1)
    made.take("b", 1)
    made.lost("a")
    assert made.take("b", 1) == [problem(0)]
    made.close("b", [problem(1).id])
    made.lost("b")
    assert made.take("c", 9) == [problem(0)]
    assert made.lost("c") == [problem(0)], "two deaths made it a suspect, the third was its own"


def test_a_source_that_breaks_says_so() -> None:
    def source() -> Iterator[Problem]:
        yield problem(0)
        raise OSError("gone")

    made = Dispatch(source(), [], 2)
    assert made.take("a", 1) == [problem(0)]
    with pytest.raises(OSError, match="gone"):
        made.take("a", 1)
