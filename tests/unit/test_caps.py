"""Caps of one problem, by hand-made nodes: what is begun, what finishes, what counts."""

from dataclasses import replace

import pytest

from factory.config import Recipe
from factory.search.base import Grown, Search
from factory.search.best_of_n import best_of_n
from factory.search.caps import Caps, capped
from factory.search.ladder import ladder
from factory.types import Scoring, StopReason
from pipelines import build
from tests.rig import problem
from tests.unit.test_best_of_n import GONE, RIGHT, WRONG, Table, attempt


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def tokens(cap: int, search: Search) -> Table:
    """An attempt costs one token."""
    return Table(capped(search, Caps(tokens=cap), Clock()))


def test_at_a_cap_nothing_more_is_begun_and_what_is_in_flight_counts() -> None:
    table = tokens(2, best_of_n(10, wave=3))
    table.back((1, WRONG))
    assert table.ids == [1, 2, 3, 4]
    table.back((3, WRONG))
    assert (table.ids, table.cancelled) == ([1, 2, 3, 4], set())
    table.back((4, WRONG))
    assert table.ending is None
    table.back((2, WRONG))
    table.ended(StopReason.CAPPED, {1, 2, 3, 4})


def test_a_cap_that_is_never_reached_changes_nothing() -> None:
    table = tokens(5, best_of_n(4, wave=1))
    for id in range(1, 5):
        table.back((id, WRONG))
    table.ended(StopReason.EXHAUSTED, {1, 2, 3, 4})


def test_a_search_that_wants_nothing_more_is_not_capped() -> None:
    table = tokens(1, best_of_n(2))
    table.back((1, WRONG), (2, WRONG))
    table.ended(StopReason.EXHAUSTED, {1, 2})


def test_what_solves_it_may_be_in_flight() -> None:
    table = tokens(1, best_of_n(10, wave=2, stop_at=1))
    table.back((1, WRONG))
    table.back((2, RIGHT))
    table.ended(StopReason.SOLVED, {1, 2})


def test_the_search_still_cancels_what_it_does_not_need() -> None:
    table = tokens(1, best_of_n(10, wave=4, stop_at=1))
    table.back((2, RIGHT))
    assert table.cancelled == {3, 4}
    table.back((3, GONE), (4, GONE))
    table.back((1, WRONG))
    table.ended(StopReason.SOLVED, {1, 2})


def test_no_rung_is_climbed_beyond_a_cap() -> None:
    table = tokens(2, ladder([lambda missing: best_of_n(2, None, missing)] * 3, hopeless_after=99))
    table.back((1, WRONG), (2, WRONG))
    table.ended(StopReason.CAPPED, {1, 2})


def test_guesses_count() -> None:
    table = tokens(5, best_of_n(10, wave=1))
    table.send([Grown(table.asked[0], replace(attempt(1, WRONG), scoring=Scoring(generated_tokens=4)))])
    table.ended(StopReason.CAPPED, {1})


def test_what_was_cancelled_and_finished_all_the_same_is_paid_for() -> None:
    rungs = [lambda _: best_of_n(3, stop_at=1), lambda _: best_of_n(3)]
    table = tokens(3, ladder(rungs, stop_at=2))
    table.back((1, RIGHT))
    table.back((2, WRONG), (3, WRONG))
    table.ended(StopReason.CAPPED, {1})


@pytest.mark.parametrize("caps", [Caps(engine_seconds=1.0), Caps(tokens=99, engine_seconds=1.0, seconds=99.0)])
def test_a_cap_on_the_engine_s_time(caps: Caps) -> None:
    table = Table(capped(best_of_n(10, wave=1), caps, Clock()))
    for id in (1, 2):
        table.send([Grown(table.asked[-1], replace(attempt(id, WRONG), engine_seconds=0.5))])
    table.ended(StopReason.CAPPED, {1, 2})


def test_a_cap_on_wall_time() -> None:
    clock = Clock()
    table = Table(capped(best_of_n(10, wave=2), Caps(seconds=5.0), clock))
    clock.now += 4.9
    table.back((1, WRONG))
    assert table.ids == [1, 2, 3]
    clock.now += 0.1
    table.back((2, WRONG))
    table.back((3, WRONG))
    table.ended(StopReason.CAPPED, {1, 2, 3})


def test_a_recipe_caps_each_of_its_problems() -> None:
    recipe = Recipe.model_validate(
        {
            "source": {"kind": "countdown", "count": 1, "seed": 1},
            "engines": {"teacher": {"kind": "scripted"}},
            "search": {"kind": "best_of_n", "n": 9, "wave": 1},
            "budget": {"problem": {"tokens": 2}},
        }
    )
    for _ in range(2):
        table = Table(build.search(recipe)(problem(1)))
        table.back((1, WRONG))
        table.back((2, WRONG))
        table.ended(StopReason.CAPPED, {1, 2})
