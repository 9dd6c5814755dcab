"""Consensus: order and grouping decide nothing, and it stops at a wrong answer no more often than it says."""

import random
from collections import Counter
from fractions import Fraction
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.search.base import Grown, Search
from factory.search.consensus import Poll, consensus, evidence
from factory.types import StopReason
from tests.unit.test_consensus import says


def play(search: Search, answers: list[str | None], order: random.Random, heeds: float) -> tuple[StopReason, list[int]]:
    """How it ends, and which attempts count, when they come back in a random order and grouping."""
    outstanding: dict[int, Grown] = {}
    cancelled: set[int] = set()
    try:
        wants = next(search)
        while True:
            assert set(wants.cancel) <= outstanding.keys()
            cancelled |= set(wants.cancel)
            outstanding |= {one.id: Grown(one, says(one.id, answers[one.id - 1])) for one in wants.expand}
            together = order.sample(sorted(outstanding), order.randint(1, len(outstanding)))
            back = [outstanding.pop(id) for id in together]
            gone = {id for id in cancelled if order.random() < heeds}
            wants = search.send(tuple(Grown(one.expansion, None) if one.expansion.id in gone else one for one in back))
    except StopIteration as stop:
        assert not outstanding
        return stop.value.stop, sorted(stop.value.counted)


@given(
    answers=st.lists(st.sampled_from(["1", "1", "1", "2", None]), min_size=1, max_size=40),
    wave=st.integers(1, 40),
    error=st.sampled_from([0.05, 0.3]),
    seed=st.integers(0, 2**32),
    heeds=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_order_and_grouping_decide_nothing(
    answers: list[str | None], wave: int, error: float, seed: int, heeds: float
) -> None:
    poll, cut = Poll(error), len(answers)
    for place, answer in enumerate(answers, start=1):
        poll.add(answer)
        if poll.agreed:
            cut = place
            break
    stop = StopReason.AGREED if poll.agreed else StopReason.EXHAUSTED
    assert play(consensus(len(answers), error, wave), answers, random.Random(seed), heeds) == (
        stop,
        list(range(1, cut + 1)),
    )


@given(a=st.integers(0, 60), b=st.integers(0, 60), q=st.fractions(0, Fraction(1, 2)))
def test_the_evidence_does_not_grow_by_chance(a: int, b: int, q: Fraction) -> None:
    """A vote that goes to the leader with chance 1/2 at most leaves E the same or lower, on average."""
    after = float(q) * evidence(a + 1, b) + float(1 - q) * evidence(a, b + 1)
    assert after <= evidence(a, b) * (1 + 1e-9)


def stopped_at(chances: list[float], error: float, most: int, rng: random.Random) -> tuple[int | None, int]:
    """The answer that it stops at, and after how many attempts; None for no agreement."""
    poll, seen = Poll(error), Counter[int]()
    for number in range(1, most + 1):
        answer = rng.choices(range(len(chances)), chances)[0]
        seen[answer] += 1
        poll.add(str(answer))
        if poll.agreed:
            return seen.most_common(1)[0][0], number
    return None, most


@pytest.mark.parametrize(
    "chances",
    [
        [0.34, 0.33, 0.33],
        [0.51, 0.49],
        [0.05, *[0.95 / 40] * 40],
        [0.4, *[0.002] * 300],
    ],
    ids=["three", "two", "many", "long tail"],
)
@pytest.mark.parametrize("error", [0.05, 0.2])
def test_it_stops_at_a_wrong_answer_no_more_often_than_it_says(chances: list[float], error: float) -> None:
    """The first answer is the most probable one. 200 polls of 150 attempts: four standard errors above the bound."""
    rng = random.Random(7)
    polls = 200
    wrong = sum(stopped_at(chances, error, 150, rng)[0] not in {None, 0} for _ in range(polls))
    assert wrong / polls <= error + 4 * sqrt(error * (1 - error) / polls)
