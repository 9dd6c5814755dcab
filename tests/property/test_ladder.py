"""A ladder of any rungs ends by outcomes alone, whatever comes back when; its rungs are what they are by themselves."""

import random
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from factory.search.base import Ending
from factory.search.best_of_n import best_of_n
from factory.search.ladder import ladder
from factory.types import StopReason
from tests.property.test_search import CUT, RIGHT, UNKNOWN, WRONG, expected, play


def climbed(sizes: list[int], outcomes: list[str], stop_at: int | None, hopeless_after: int | None) -> Ending:
    """From the outcomes alone, rung by rung; an attempt costs one token."""
    counted: set[int] = set()
    below = right = against = 0
    for size in sizes:
        if hopeless_after is not None and not right and against >= hopeless_after:
            return Ending(StopReason.GIVEN_UP, frozenset(counted))
        rung = outcomes[below : below + size]
        ending = expected(rung, None if stop_at is None else stop_at - right)
        counted |= {below + id for id in ending.counted}
        right += sum(rung[id - 1] == RIGHT for id in ending.counted)
        against += sum(what != UNKNOWN for what in rung)
        if right >= (stop_at or 1):
            return Ending(StopReason.SOLVED, frozenset(counted))
        below += size
    return Ending(StopReason.EXHAUSTED, frozenset(counted))


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    wave=st.none() | st.integers(1, 6),
    stop_at=st.none() | st.integers(1, 4),
    hopeless_after=st.none() | st.integers(1, 12),
    seed=st.integers(0, 2**32),
    heeds=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_order_and_grouping_decide_nothing(
    sizes: list[int], wave: int | None, stop_at: int | None, hopeless_after: int | None, seed: int, heeds: float
) -> None:
    rng = random.Random(seed)
    outcomes = [rng.choice([RIGHT, WRONG, WRONG, UNKNOWN, CUT]) for _ in range(sum(sizes))]
    rungs = [partial(best_of_n, size, wave) for size in sizes]
    played = play(ladder(rungs, stop_at, hopeless_after), outcomes, rng, heeds)
    # Ids are handed out one rung after the other; every rung but a solved last one asks for all of its attempts.
    assert played.ending == climbed(sizes, outcomes, stop_at, hopeless_after)
    assert played.asked == list(range(1, len(played.asked) + 1))
    assert sorted(played.came) == played.asked
    assert len(played.asked) <= sum(sizes)
    assert not played.cancelled & played.ending.counted
